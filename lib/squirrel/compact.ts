/**
 * Writes what µVMs still need of a pack into a new one, together with the packs that have differences to it, and the
 * page maps of these µVMs anew. Changes nothing that is there. For worker threads only.
 */
import { DamagedFile } from './errors';
import { LivePages, readMaps, type StoredUvm } from './live-pages';
import { MAX_BASES, type PackFile, type Reference } from './pack-format';
import { PackSet, type PackReader } from './pack-reader';
import { PackWriter } from './pack-writer';
import { HASH_BYTES, IMAGE, PAGE_BYTES, PageMapBuilder } from './page-map';

export interface CompactTask {
  readonly uvms: readonly StoredUvm[];
  /** All packs that may be rewritten. */
  readonly packs: readonly PackFile[];
  /** Where the new pack is written. */
  readonly packPath: string;
}

/** A µVM's new page maps and packs. */
export interface MovedUvm {
  /** Position in the task's list. */
  readonly uvm: number;
  readonly maps: readonly Uint8Array[];
  readonly packIds: readonly string[];
}

export interface Compacted {
  readonly newPack: string;
  readonly uvms: readonly MovedUvm[];
}

/** Less waste than this is left where it is. */
const WORTH = 0.1;

/** A pack to be rewritten, and where its pages go. */
interface Victim {
  readonly file: PackFile;
  readonly reader: PackReader;
  /** New position per page, or -1 for one that nobody needs. */
  readonly moved: Int32Array;
}

/** Runs a CompactTask: rewrites one pack with its dependents; null when no pack is worth it. */
export function compact(task: CompactTask): Compacted | null {
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
    const victims = chooseVictims(set, task.packs, live, untouchable);
    if (victims === undefined) return null;
    const newPack = rewrite(task.packPath, victims);
    const moved = new Map(victims.map((victim) => [victim.file.id, victim]));
    return {
      newPack,
      uvms: task.uvms.flatMap((stored, uvm) =>
        stored.packs.some((pack) => moved.has(pack.id)) ? [moveUvm(set, stored, uvm, moved, newPack)] : [],
      ),
    };
  } finally {
    set.close();
  }
}

/** The first pack that is worth it and all that depend on it; every one of them readable to the last µVM. */
function chooseVictims(
  set: PackSet,
  packs: readonly PackFile[],
  live: LivePages,
  untouchable: ReadonlySet<string>,
): Victim[] | undefined {
  const readers = new Map<string, { file: PackFile; reader: PackReader }>();
  for (const file of packs) {
    try {
      readers.set(file.id, { file, reader: set.reader(file) });
    } catch (error) {
      // Nobody can tell what it refers to.
      if (!(error instanceof DamagedFile)) throw error;
    }
  }
  for (const { file, reader } of readers.values()) {
    if (wasteOf(file, reader, live) < WORTH) continue;
    const group = new Set([file.id]);
    for (const id of group) {
      for (const [other, candidate] of readers) {
        if (candidate.reader.bases.some((base) => base.id === id)) group.add(other);
      }
    }
    if ([...group].some((id) => untouchable.has(id))) continue;
    const members = [...group].flatMap((id) => readers.get(id) ?? []);
    if (
      basesOf(
        members.map((member) => member.reader),
        group,
      ).length > MAX_BASES
    )
      continue;
    let next = 0;
    return members.map((member) => ({
      ...member,
      moved: Int32Array.from({ length: member.reader.pages }, (_, page) =>
        live.has(member.file.id, page) ? next++ : -1,
      ),
    }));
  }
  return undefined;
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

/** Packs outside of the group that pages in it are differences to. */
function basesOf(readers: readonly PackReader[], group: ReadonlySet<string>): string[] {
  const ids = readers.flatMap((reader) => reader.bases.map((base) => base.id));
  return [...new Set(ids)].filter((id) => !group.has(id));
}

/** Writes the pages that are needed, each checked first, and returns the name of their pack. */
function rewrite(path: string, victims: readonly Victim[]): string {
  const moved = new Map(victims.map((victim) => [victim.file.id, victim.moved]));
  const bases = basesOf(
    victims.map((victim) => victim.reader),
    new Set(moved.keys()),
  );
  const writer = new PackWriter(path, bases);
  const page = Buffer.alloc(PAGE_BYTES);
  try {
    for (const { file, reader, moved: positions } of victims) {
      positions.forEach((to, position) => {
        if (to < 0) return;
        reader.read(position, page, 0);
        reader.copyStored(position, page, 0);
        writer.append(page, Buffer.from(reader.digest(position)), follow(reader.reference(position)));
      });

      function follow(reference: Reference | undefined): Reference | undefined {
        if (reference === undefined) return undefined;
        const id = reference.base === undefined ? file.id : (reader.bases[reference.base]?.id ?? '');
        const positionsThere = moved.get(id);
        if (positionsThere === undefined) return { base: bases.indexOf(id), page: reference.page };
        return { base: undefined, page: positionsThere[reference.page] ?? 0 };
      }
    }
    return writer.finish().id;
  } catch (error) {
    writer.abandon();
    throw error;
  }
}

/** The maps of a µVM with the pages where they are now. */
function moveUvm(
  set: PackSet,
  stored: StoredUvm,
  uvm: number,
  moved: ReadonlyMap<string, Victim>,
  newPack: string,
): MovedUvm {
  const own = stored.packs.length;
  const builders = readMaps(stored).map(({ extents, imageHashes }) => {
    const map = new PageMapBuilder();
    for (const extent of extents) {
      const positions = moved.get(stored.packs[extent.pack]?.id ?? '')?.moved;
      for (let page = 0; page < extent.pages; page += 1) {
        const filePage = extent.filePage + page;
        const from = extent.packPage + page;
        if (extent.pack === IMAGE) {
          const at = (extent.hash + page) * HASH_BYTES;
          map.addImage(filePage, from, imageHashes.subarray(at, at + HASH_BYTES));
        } else if (positions === undefined) map.add(filePage, extent.pack, from);
        else map.add(filePage, own, positions[from] ?? 0);
      }
    }
    return map;
  });
  const packs = [...new Set(builders.flatMap((map) => map.packsInUse()))];
  const order = new Map(packs.map((pack, position) => [pack, position]));
  const ids = packs.map((pack) => stored.packs[pack]?.id ?? newPack);
  const group = new Set(moved.keys());
  const needed = packs.flatMap((pack) => {
    const file = stored.packs[pack];
    const readers =
      file === undefined ? [...moved.values()].map((victim) => victim.reader) : [set.reader(file)];
    return basesOf(readers, group);
  });
  return {
    uvm,
    maps: builders.map((map) => map.serialise(order)),
    packIds: [...new Set([...ids, ...needed])],
  };
}
