/** Which stored pages µVMs need, by their page maps and by what those pages are differences to. For worker threads only. */
import { readFileSync } from 'node:fs';
import { DamagedFile } from './errors';
import type { PackFile } from './pack-format';
import type { PackReader, PackSet } from './pack-reader';
import { IMAGE, parsePageMap, type PageMap } from './page-map';

/** A µVM as its manifest tells where its pages are. */
export interface StoredUvm {
  readonly packs: readonly PackFile[];
  /** Its page maps. */
  readonly maps: readonly { readonly path: string; readonly digest: string; readonly sizeBytes: number }[];
}

/** Reads the page maps of a µVM. Rejects damaged ones: see parsePageMap. */
export function readMaps(uvm: StoredUvm): PageMap[] {
  return uvm.maps.map(({ path, digest, sizeBytes }) => {
    let content: Buffer;
    try {
      content = readFileSync(path);
    } catch (error) {
      throw new DamagedFile(path, 'cannot be read', { cause: error });
    }
    return parsePageMap(content, path, digest, sizeBytes, uvm.packs.length);
  });
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
      for (const extent of extents) {
        if (extent.pack === IMAGE) continue;
        const file = uvm.packs[extent.pack];
        if (file === undefined) continue;
        const reader = this.set.reader(file);
        for (let page = 0; page < extent.pages; page += 1) this.addPage(file, reader, extent.packPage + page);
      }
    }
  }

  private addPage(file: PackFile, reader: PackReader, page: number): void {
    const marks = this.marksOf(file, reader);
    if (marks[page] === 1) return;
    marks[page] = 1;
    const reference = page < reader.pages ? reader.reference(page) : undefined;
    if (reference === undefined) return;
    const base = reference.base === undefined ? file : reader.bases[reference.base];
    if (base !== undefined) this.marksOf(base, this.set.reader(base))[reference.page] = 1;
  }

  private marksOf(file: PackFile, reader: PackReader): Uint8Array {
    let marks = this.marks.get(file.id);
    if (marks === undefined) {
      marks = new Uint8Array(reader.pages);
      this.marks.set(file.id, marks);
    }
    return marks;
  }
}
