/** Everything the page shows, as one JSON document: boots with their critical path, µVMs, bakes, faults in words. */
import type { BakeProgress } from '../bake';
import type { CacheBudget, CacheEntry } from '../squirrel';
import type { BakeRecorder, EndedBake } from './bake-recorder';
import type { BootRecorder, BootView } from './boot-recorder';
import { criticalPath } from './critical-path';

/** Boots that the page shows. */
const BOOTS = 50;
const FAULTS = 30;
/** Reasons to boot cold that are nobody's fault begin otherwise. */
const FAULTY_REASON = /^(its µVM cannot be used|the image has no µVM: )/;

/** A boot as the page draws it. */
export interface BootDrawing extends BootView {
  /** Positions in `spans` of the phases it waited for. */
  readonly critical: readonly number[];
  readonly endMs: number;
  /** For scale; null when no cold boot of the image is known. */
  readonly coldBoot: { readonly ms: number; readonly what: string } | null;
}

/** A µVM of this host. */
export interface UvmSummary {
  readonly key: string;
  readonly state: CacheEntry['state'];
  readonly reason: string | null;
  readonly imageId: string | null;
  readonly bakedAt: string | null;
  readonly memoryMb: number | null;
  readonly storedBytes: number | null;
}

/** Something that went wrong, as a sentence. */
export interface Fault {
  /** null for what has no time, such as a µVM that cannot be read. */
  readonly at: string | null;
  readonly text: string;
}

export interface Overview {
  readonly host: string;
  readonly boots: readonly BootDrawing[];
  readonly uvms: readonly UvmSummary[];
  readonly bakes: { readonly current: readonly BakeProgress[]; readonly recent: readonly EndedBake[] };
  readonly faults: readonly Fault[];
  readonly budget: CacheBudget;
  /** Whether who looks at this may bake and evict. */
  readonly writable: boolean;
}

/** The cache at one moment. */
export interface CacheState {
  readonly entries: readonly CacheEntry[];
  readonly budget: CacheBudget;
}

/** What the overview is made from. */
export interface OverviewSources {
  readonly host: string;
  readonly boots: BootRecorder;
  readonly bakes: BakeRecorder;
  readonly writable: boolean;
}

export function overview(
  { host, boots, bakes, writable }: OverviewSources,
  { entries: cache, budget }: CacheState,
): Overview {
  const views = boots.recent();
  return {
    host,
    boots: views.slice(0, BOOTS).map((view) => draw(view, cache, bakes)),
    uvms: cache.map(summarise),
    bakes: { current: bakes.current(), recent: bakes.recent() },
    faults: faults(views, bakes.recent(), cache),
    budget,
    writable,
  };
}

function draw(view: BootView, cache: readonly CacheEntry[], bakes: BakeRecorder): BootDrawing {
  const { spans, marks } = view;
  const mark = (name: string): number | undefined => marks.find((one) => one.name === name)?.atMs;
  const endMs =
    mark('ready') ??
    mark('active') ??
    Math.max(0, ...spans.map((span) => span.endMs), ...marks.map((one) => one.atMs));
  return {
    ...view,
    critical: criticalPath(spans, endMs),
    endMs,
    coldBoot: coldBoot(view.imageId, cache, bakes),
  };
}

/** A stock cold boot of the image: the one that began its bake, or else the whole bake, which is a little longer. */
function coldBoot(
  imageId: string,
  cache: readonly CacheEntry[],
  bakes: BakeRecorder,
): BootDrawing['coldBoot'] {
  const seen = bakes.coldBootMs(imageId);
  if (seen !== null) return { ms: seen, what: 'stock cold boot, as at its bake' };
  for (const entry of cache) {
    if (entry.state === 'unreadable' || entry.manifest.image.id !== imageId) continue;
    return { ms: entry.manifest.bakeMs, what: 'its bake: a stock cold boot, sealed and stored' };
  }
  return null;
}

function summarise(entry: CacheEntry): UvmSummary {
  const { key, state } = entry;
  const reason = entry.state === 'ok' ? null : entry.reason;
  if (entry.state === 'unreadable') {
    return { key, state, reason, imageId: null, bakedAt: null, memoryMb: null, storedBytes: null };
  }
  const { image, bakedAt, memoryMb, addedBytes } = entry.manifest;
  return { key, state, reason, imageId: image.id, bakedAt, memoryMb, storedBytes: addedBytes };
}

/** Newest first; those without a time before all others, since they last. */
function faults(
  boots: readonly BootView[],
  bakes: readonly EndedBake[],
  cache: readonly CacheEntry[],
): Fault[] {
  const found: Fault[] = [];
  for (const boot of boots) {
    const server = `Server ${boot.instanceUuid}`;
    if (boot.error !== null) found.push({ at: boot.startedAt, text: `${server} failed: ${boot.error}` });
    else if (boot.why !== null && FAULTY_REASON.test(boot.why)) {
      found.push({ at: boot.startedAt, text: `${server} booted cold: ${boot.why}` });
    }
  }
  for (const bake of bakes) {
    if (bake.outcome === 'failed') found.push({ at: bake.endedAt, text: bake.reason });
  }
  for (const entry of cache) {
    const name = `µVM ${entry.key.slice(0, 12)}`;
    if (entry.state === 'quarantined') {
      found.push({ at: entry.since, text: `${name} was put into quarantine: ${entry.reason}` });
    } else if (entry.state === 'unreadable') {
      found.push({ at: null, text: `${name} cannot be read: ${entry.reason}` });
    }
  }
  const order = (fault: Fault): number => (fault.at === null ? Infinity : Date.parse(fault.at));
  return found.sort((a, b) => order(b) - order(a)).slice(0, FAULTS);
}
