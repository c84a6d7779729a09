/** Waiting for several things at once where what they work on is removed as soon as one of them fails. */

/** As Promise.all, but nothing goes on in the background once it rejected. */
export async function allOrFirstFailure<const T extends readonly unknown[]>(
  work: T,
): Promise<{ -readonly [P in keyof T]: Awaited<T[P]> }> {
  try {
    return await Promise.all(work);
  } catch (error) {
    await Promise.allSettled(work);
    throw error;
  }
}
