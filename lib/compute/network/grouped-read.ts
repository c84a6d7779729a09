/**
 * A read that many ask for at once, made once for all of them: boots of a storm all want to know what the same network
 * looks like, and Neutron takes longer over each question than over each answer.
 *
 * Nobody gets an answer from before the question: whoever asks while a read is under way shares the next one.
 */
interface Group<T> {
  /** Settles, never rejects, with the read that is under way. */
  readonly running: Promise<void>;
  /** Of those who asked since it began. */
  next: Promise<T> | undefined;
}

/** Reads by key. */
export class GroupedRead<T> {
  private readonly groups = new Map<string, Group<T>>();

  constructor(private readonly read: (key: string) => Promise<T>) {}

  /** Reads what `key` stands for, not before this call. Rejects as the read does. */
  async get(key: string): Promise<T> {
    const group = this.groups.get(key);
    if (group === undefined) return await this.begin(key);
    group.next ??= group.running.then(() => this.begin(key));
    return await group.next;
  }

  private begin(key: string): Promise<T> {
    const result = this.read(key);
    const running = result.then(
      () => undefined,
      () => undefined,
    );
    const group: Group<T> = { running, next: undefined };
    this.groups.set(key, group);
    void running.then(() => {
      if (group.next === undefined) this.groups.delete(key);
    });
    return result;
  }
}
