/** Waiting for several things at once where files are removed as soon as one of them fails. */

/** As Promise.all, but nothing goes on in the background once it rejected: the caller removes the files then. */
export async function allOrFirstFailure<A, B, C>(
  a: Promise<A>,
  b: Promise<B>,
  c: Promise<C>,
): Promise<[A, B, C]> {
  try {
    return await Promise.all([a, b, c]);
  } catch (error) {
    await Promise.allSettled([a, b, c]);
    throw error;
  }
}
