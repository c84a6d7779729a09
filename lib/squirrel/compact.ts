/**
 * Plans how a pack is written anew with only what µVMs still need of it, and adapts what refers to it: packs that build on
 * it, and page maps. Changes nothing that is there. For worker threads only.
 */
import { readFileSync } from 'node:fs';
import { DamagedFile } from './errors';
import { LivePages, readMaps, type StoredUvm } from './live-pages';
import { makePrefix, SEGMENT_PAGES, type PackFile, type PrefixRun } from './pack-format';
import { PackSet, type PackReader } from './pack-reader';
import { assemble } from './pack-writer';
import { IMAGE, PAGE_HASH_BYTES, PageMapBuilder } from './page-map';
import type { PlannedPack } from './store';

export interface CompactTask {
  readonly uvms: readonly StoredUvm[];
  /** All packs that may be written anew. */
  readonly packs: readonly PackFile[];
}

/** A pack to be written anew. */
export interface CompactPlan {
  readonly victim: string;
  readonly newPack: PlannedPack;
  /** New position per page of the old pack, or NOWHERE. */
  readonly moved: Uint32Array;
  /** Packs that build on it. */
  readonly dependents: readonly PackFile[];
}

const NOWHERE = 0xffffffff;
/** Less waste than this is left where it is. */
const WORTH = 0.1;

/** Runs a CompactTask; null when no pack is worth it. */
export function planCompact(task: CompactTask): CompactPlan | null {
  const set = new PackSet();
  try {
    const live = new LivePages(set);
    const untouchable = new Set<string>();
    for (const uvm of task.uvms) {
      try {
        live.add(uvm);
      } catch (error) {
        if (!(error instanceof DamagedFile)) throw error;
        for (const pack of uvm.packs) untouchable.add(pack.id);
      }
    }
    const readers = new Map<string, { file: PackFile; reader: PackReader }>();
    for (const file of task.packs) {
      try {
        readers.set(file.id, { file, reader: set.reader(file) });
      } catch (error) {
        // Nobody can tell what it refers to.
        if (!(error instanceof DamagedFile)) throw error;
      }
    }
    for (const { file, reader } of readers.values()) {
      if (wasteOf(file, reader, live) < WORTH) continue;
      const dependents = [...readers.values()]
        .filter((other) => other.reader.bases.some((base) => base.id === file.id))
        .map((other) => other.file);
      if ([file, ...dependents].some(({ id }) => untouchable.has(id))) continue;
      return planMove(file, reader, live, dependents);
    }
    return null;
  } finally {
    set.close();
  }
}

/** Which share of a pack's bytes nobody needs. */
function wasteOf(file: PackFile, reader: PackReader, live: LivePages): number {
  let dead = 0;
  let all = 1;
  for (let page = 0; page < reader.pages; page += 1) {
    const bytes = reader.storedBytes(page);
    all += bytes;
    if (!live.has(file.id, page)) dead += bytes;
  }
  return dead / all;
}

function planMove(file: PackFile, reader: PackReader, live: LivePages, dependents: PackFile[]): CompactPlan {
  const moved = new Uint32Array(reader.pages).fill(NOWHERE);
  const kept: number[] = [];
  for (let page = 0; page < reader.pages; page += 1) {
    if (live.has(file.id, page)) moved[page] = kept.push(page) - 1;
  }
  const hashes = Buffer.alloc(kept.length * PAGE_HASH_BYTES);
  kept.forEach((page, at) => {
    reader.index.hashes.copy(
      hashes,
      at * PAGE_HASH_BYTES,
      page * PAGE_HASH_BYTES,
      (page + 1) * PAGE_HASH_BYTES,
    );
  });
  const segments: PlannedPack['segments'][number][] = [];
  for (let first = 0; first < kept.length; first += SEGMENT_PAGES) {
    const numbers = Uint32Array.from(kept.slice(first, first + SEGMENT_PAGES));
    segments.push({
      sources: [{ kind: 'pack', pack: file, numbers }],
      bases: reader.bases,
      prefix: prefixFor(reader, numbers),
      hashes: Uint8Array.prototype.slice.call(
        hashes,
        first * PAGE_HASH_BYTES,
        (first + SEGMENT_PAGES) * PAGE_HASH_BYTES,
      ),
    });
  }
  const bases = reader.index.bases;
  return { victim: file.id, newPack: { segments, bases, pages: kept.length, hashes }, moved, dependents };
}

/** What the segments that these pages are in now have as prefix. */
function prefixFor({ index }: PackReader, pages: Uint32Array): PrefixRun[] {
  const from = new Set([...pages].map((page) => Math.floor(page / SEGMENT_PAGES)));
  const wanted = index.bases.map(() => new Set<number>());
  for (const segment of from) {
    for (const { base, page, pages: count } of index.segments[segment]?.prefix ?? []) {
      for (let next = page; next < page + count; next += 1) wanted[base]?.add(next);
    }
  }
  return makePrefix(wanted.flatMap((numbers, base) => [...numbers].map((page) => ({ base, page }))));
}

export interface RebaseTask {
  readonly pack: PackFile;
  readonly victim: string;
  readonly newPack: string;
  readonly moved: Uint32Array;
  /** The file to create. */
  readonly path: string;
}

/** Writes a pack anew on top of the one that its base became: the same segments, another index. */
export function rebase({ pack, victim, newPack, moved, path }: RebaseTask): { id: string; bytes: number } {
  const set = new PackSet();
  try {
    const { index, offsets } = set.reader(pack);
    const content = readFileSync(pack.path);
    const position = index.bases.indexOf(victim);
    return assemble({
      path,
      segments: index.segments.map(({ storedBytes, codec, prefix }, number) => ({
        codec,
        stored: content.subarray(offsets[number] ?? 0, (offsets[number] ?? 0) + storedBytes),
        prefix: prefix.map((run) =>
          run.base === position ? { ...run, page: moved[run.page] ?? NOWHERE } : run,
        ),
      })),
      bases: index.bases.map((id) => (id === victim ? newPack : id)),
      hashes: index.hashes,
      pages: index.pages,
    });
  } finally {
    set.close();
  }
}

export interface MoveTask {
  readonly uvm: StoredUvm;
  readonly victim: string;
  readonly moved: Uint32Array;
}

/** The maps of a µVM with the pages where they are now; the packs keep their positions. */
export function moveMaps({ uvm, victim, moved }: MoveTask): Uint8Array[] {
  const position = uvm.packs.findIndex((pack) => pack.id === victim);
  return readMaps(uvm).map(({ extents, imageDigests }) => {
    const map = new PageMapBuilder();
    for (const { filePage, pages, pack, packPage } of extents) {
      for (let page = 0; page < pages; page += 1) {
        const there = packPage + page;
        map.add(
          filePage + page,
          pack,
          pack !== IMAGE && pack === position ? (moved[there] ?? NOWHERE) : there,
        );
      }
    }
    return map.serialise(new Map(), imageDigests);
  });
}
