/**
 * Finds a stored page by its hash. A cache has millions of pages, so this has nothing for each of them but a slot of 4
 * bytes, 6 to 12 bytes a page on the whole: the hashes stay in the indexes of the packs.
 */
import { PAGE_HASH_BYTES } from './page-map';
import type { PagePlace } from './page-table';

/** The pages of packs, by their hashes. */
export class PackPages {
  /** 0, or 1 + the running number of a page over all packs. */
  private readonly slots: Uint32Array;
  /** Per pack the running number of its first page. */
  private readonly starts: number[] = [];

  /** @param hashes per pack those of its pages, PAGE_HASH_BYTES each; where packs have the same page, the first counts */
  constructor(private readonly hashes: readonly Buffer[]) {
    let total = 0;
    for (const its of hashes) {
      this.starts.push(total);
      total += its.length / PAGE_HASH_BYTES;
    }
    this.slots = new Uint32Array(2 ** Math.ceil(Math.log2(Math.max(total, 1) * 1.5)));
    hashes.forEach((its, pack) => {
      const start = this.starts[pack] ?? 0;
      for (let page = 0; page < its.length / PAGE_HASH_BYTES; page += 1) {
        const slot = this.slotOf(its, page * PAGE_HASH_BYTES);
        if (this.slots[slot] === 0) this.slots[slot] = start + page + 1;
      }
    });
  }

  /** The place of a page with this hash. */
  find(hash: Buffer): PagePlace | undefined {
    const entry = this.slots[this.slotOf(hash, 0)] ?? 0;
    return entry === 0 ? undefined : this.place(entry - 1);
  }

  private place(number: number): PagePlace {
    let low = 0;
    for (let high = this.starts.length; high - low > 1;) {
      const middle = (low + high) >>> 1;
      if ((this.starts[middle] ?? 0) <= number) low = middle;
      else high = middle;
    }
    return { pack: low, page: number - (this.starts[low] ?? 0) };
  }

  /** The slot that has this hash, or the free one where it belongs. */
  private slotOf(hash: Buffer, at: number): number {
    const mask = this.slots.length - 1;
    const first = hash.readUInt32LE(at);
    const second = hash.readUInt32LE(at + 4);
    for (let slot = first & mask; ; slot = (slot + 1) & mask) {
      const entry = this.slots[slot] ?? 0;
      if (entry === 0) return slot;
      const { pack, page } = this.place(entry - 1);
      const there = this.hashes[pack];
      const from = page * PAGE_HASH_BYTES;
      if (there?.readUInt32LE(from) === first && there.readUInt32LE(from + 4) === second) return slot;
    }
  }
}
