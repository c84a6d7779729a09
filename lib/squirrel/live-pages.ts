/** Which stored pages µVMs need, by their page maps and as prefixes of what these refer to. For worker threads only. */
import { readFileSync } from 'node:fs';
import { DamagedFile } from './errors';
import type { PackFile } from './pack-format';
import type { PackReader, PackSet } from './pack-reader';
import { IMAGE, parsePageMap, type PageMap } from './page-map';

/** A µVM as its manifest tells where its pages are. */
export interface StoredUvm {
  readonly packs: readonly PackFile[];
  /** Its page maps. */
  readonly maps: readonly StoredMap[];
}

/** A page map, as a manifest vouches for it. */
export interface StoredMap {
  readonly path: string;
  readonly digest: string;
  /** Of the file it describes. */
  readonly sizeBytes: number;
}

/** Reads a page map of a µVM with so many packs. Throws DamagedFile. */
export function readMap({ path, digest, sizeBytes }: StoredMap, packCount: number): PageMap {
  let content: Buffer;
  try {
    content = readFileSync(path);
  } catch (error) {
    throw new DamagedFile(path, 'cannot be read', { cause: error });
  }
  return parsePageMap(content, path, digest, sizeBytes, packCount);
}

/** Reads the page maps of a µVM. Throws DamagedFile. */
export function readMaps(uvm: StoredUvm): PageMap[] {
  return uvm.maps.map((map) => readMap(map, uvm.packs.length));
}

/** A set of pages of packs. */
export class LivePages {
  private readonly marks = new Map<string, Uint8Array>();

  constructor(private readonly set: PackSet) {}

  has(pack: string, page: number): boolean {
    return this.marks.get(pack)?.[page] === 1;
  }

  /** Adds what a µVM needs. Throws DamagedFile when one of its maps or packs cannot be read; then some may be added. */
  add(uvm: StoredUvm): void {
    for (const { extents } of readMaps(uvm)) {
      for (const { pack, packPage, pages } of extents) {
        const file = pack === IMAGE ? undefined : uvm.packs[pack];
        if (file !== undefined) this.marksOf(file).fill(1, packPage, packPage + pages);
      }
    }
  }

  /** A pack that is used needs all its prefixes: its segments are copied as they are when a base is written anew. */
  private marksOf(file: PackFile): Uint8Array {
    const known = this.marks.get(file.id);
    if (known !== undefined) return known;
    const reader: PackReader = this.set.reader(file);
    const marks = new Uint8Array(reader.pages);
    this.marks.set(file.id, marks);
    for (const { prefix } of reader.index.segments) {
      for (const { base, page, pages } of prefix) {
        const there = reader.bases[base];
        if (there !== undefined) this.marksOf(there).fill(1, page, page + pages);
      }
    }
    return marks;
  }
}
