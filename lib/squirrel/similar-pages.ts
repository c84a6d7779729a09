/**
 * Finds stored pages that a new page may be a slight change of. A page votes with 32-byte windows at fixed places: data
 * that the kernel lays out the same way in every boot is at the same place in its page. Windows of zeros do not vote.
 */
import { PAGE_BYTES } from './page-map';

const WINDOW_WORDS = 8;
/** A window every 128 bytes. */
const STRIDE_WORDS = 32;
const PAGE_WORDS = PAGE_BYTES / 4;
const CANDIDATES = 2;
/** One window may be in common by chance, as with other pages that share its slot. */
const MIN_VOTES = 2;

/** Pages by what they have in common. */
export class SimilarPages {
  /** Per slot 0, or 1 + the number of the last page that has this window. */
  private readonly slots: Uint32Array;
  private readonly votes = new Map<number, number>();

  /** @param pages about how many will be added */
  constructor(pages: number) {
    const windows = Math.max(pages, 1) * (PAGE_WORDS / STRIDE_WORDS);
    this.slots = new Uint32Array(2 ** Math.ceil(Math.log2(windows)));
  }

  /** Adds a page under a number of the caller's. */
  add(page: Buffer, number: number): void {
    this.forEachSlot(page, (slot) => (this.slots[slot] = number + 1));
  }

  /** Numbers of the pages with most windows in common, best first. */
  candidates(page: Buffer): number[] {
    this.votes.clear();
    this.forEachSlot(page, (slot) => {
      const entry = this.slots[slot] ?? 0;
      if (entry !== 0) this.votes.set(entry - 1, (this.votes.get(entry - 1) ?? 0) + 1);
    });
    return [...this.votes]
      .filter(([, votes]) => votes >= MIN_VOTES)
      .sort(([, a], [, b]) => b - a)
      .slice(0, CANDIDATES)
      .map(([number]) => number);
  }

  private forEachSlot(page: Buffer, each: (slot: number) => void): void {
    const words = new Int32Array(page.buffer, page.byteOffset, PAGE_WORDS);
    const mask = this.slots.length - 1;
    for (let first = 0; first < PAGE_WORDS; first += STRIDE_WORDS) {
      let mixed = 0;
      let any = 0;
      for (let word = first; word < first + WINDOW_WORDS; word += 1) {
        const value = words[word] ?? 0;
        any |= value;
        mixed = Math.imul(mixed ^ value, 0x9e3779b1);
        mixed ^= mixed >>> 15;
      }
      if (any === 0) continue;
      mixed = Math.imul(mixed ^ first, 0x85ebca77);
      each((mixed ^ (mixed >>> 13)) & mask);
    }
  }
}
