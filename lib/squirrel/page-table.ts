/** Finds a page of a µVM that is being stored by its hash: an open-addressing table. */
import type { PAGE_HASH_BYTES } from './page-map';

/** Of a hash that nobody can make two pages for. */
export const STRONG_HASH_BYTES = 16;

/** Where a page is: position of the pack among those added, and of the page in the pack. */
export interface PagePlace {
  readonly pack: number;
  readonly page: number;
}

/** Pages by hash. */
export class PageTable {
  /** Per slot 0, or 1 + the running number of a page over all packs. */
  private slots = new Uint32Array(1 << 16);
  private hashes: Buffer;
  private packOf = new Uint16Array(1 << 15);
  private pageOf = new Uint32Array(1 << 15);
  private count = 0;

  /** @param hashBytes how long the hashes are */
  constructor(private readonly hashBytes: typeof PAGE_HASH_BYTES | typeof STRONG_HASH_BYTES) {
    this.hashes = Buffer.alloc(hashBytes << 15);
  }

  /** The place of a page with this hash; `at` is where the hash starts in the buffer. */
  find(hash: Buffer, at = 0): PagePlace | undefined {
    const entry = this.slots[this.slotOf(hash, at)] ?? 0;
    if (entry === 0) return undefined;
    return { pack: this.packOf[entry - 1] ?? 0, page: this.pageOf[entry - 1] ?? 0 };
  }

  /** Adds a page; the first place of a hash counts. `at` is where the hash starts in the buffer. */
  add(hash: Buffer, at: number, place: PagePlace): void {
    if (this.count * 2 >= this.slots.length) this.grow();
    const slot = this.slotOf(hash, at);
    if (this.slots[slot] !== 0) return;
    hash.copy(this.hashes, this.count * this.hashBytes, at, at + this.hashBytes);
    this.packOf[this.count] = place.pack;
    this.pageOf[this.count] = place.page;
    this.count += 1;
    this.slots[slot] = this.count;
  }

  /** The slot that has this hash, or the free one where it belongs. */
  private slotOf(hash: Buffer, at: number): number {
    const mask = this.slots.length - 1;
    for (let slot = hash.readUInt32LE(at) & mask; ; slot = (slot + 1) & mask) {
      const entry = this.slots[slot] ?? 0;
      if (entry === 0) return slot;
      const from = (entry - 1) * this.hashBytes;
      if (hash.compare(this.hashes, from, from + this.hashBytes, at, at + this.hashBytes) === 0) return slot;
    }
  }

  private grow(): void {
    const room = this.slots.length;
    const hashes = Buffer.alloc(room * this.hashBytes);
    this.hashes.copy(hashes);
    this.hashes = hashes;
    const packOf = new Uint16Array(room);
    packOf.set(this.packOf);
    this.packOf = packOf;
    const pageOf = new Uint32Array(room);
    pageOf.set(this.pageOf);
    this.pageOf = pageOf;
    this.slots = new Uint32Array(room * 2);
    for (let entry = 1; entry <= this.count; entry += 1) {
      this.slots[this.slotOf(this.hashes, (entry - 1) * this.hashBytes)] = entry;
    }
  }
}
