/** `prebake cache`: what is in this host's cache of µVMs, and taking care of it. */
import type { BakeFailure } from '../bake';
import type { CacheEntry, UvmUsage } from '../squirrel';
import { describeError } from '../exceptions';
import type { Cache } from './host';
import type { StoredKey } from '../hoard';
import { CommandError, EXIT, type Output, formatBytes, formatMs, printable } from './output';

/** As many digits of a key as a list shows; any unique beginning of at least four names a µVM. */
const SHORT_KEY = 12;
const SHORTEST_PREFIX = 4;

/** Finds the one µVM whose key begins with `prefix`. */
async function resolveKey(cache: Cache, prefix: string): Promise<CacheEntry> {
  if (!/^[0-9a-f]+$/.test(prefix) || prefix.length < SHORTEST_PREFIX) {
    throw new CommandError(
      `'${prefix}' is not a key: expected ${SHORTEST_PREFIX} or more of its hexadecimal digits, see 'prebake cache ls'`,
      EXIT.usage,
    );
  }
  const matches = (await cache.list()).filter((entry) => entry.key.startsWith(prefix));
  const [first] = matches;
  if (first === undefined) throw new CommandError(`the cache has no µVM ${prefix}, see 'prebake cache ls'`);
  if (matches.length > 1) {
    throw new CommandError(
      `${prefix} is the beginning of ${matches.length} keys, give more digits`,
      EXIT.usage,
    );
  }
  return first;
}

/** `cache ls`: the µVMs, here and in the object store, and the images whose bake failed. */
export async function listCache(
  cache: Cache,
  from: {
    readonly failures: readonly BakeFailure[];
    readonly storedKeys: Promise<readonly StoredKey[] | undefined>;
  },
  output: Output,
  json: boolean,
): Promise<void> {
  const [entries, stored] = await Promise.all([
    cache.list(),
    from.storedKeys.catch((error: unknown) => {
      output.note(`prebake: what is in the object store is not known: ${printable(describeError(error))}`);
    }),
  ]);
  const { failures } = from;
  const inStore = new Set(stored?.map(({ key }) => key));
  const here = new Set(entries.map(({ key }) => key));
  const elsewhere = (stored ?? []).filter(({ key }) => !here.has(key));
  const where = (key: string): string => (inStore.has(key) ? 'here, store' : 'here');
  if (json) {
    output.json([
      ...entries.map((entry) => ({ ...entry, where: where(entry.key).split(', ') })),
      ...elsewhere.map((uvm) => ({ ...uvm, state: 'stored', where: ['store'] })),
      ...failures.map((failure) => ({ state: 'failed', ...failure })),
    ]);
    return;
  }
  if (entries.length + elsewhere.length + failures.length === 0) {
    output.line("The cache is empty. Make a µVM with 'prebake bake IMAGE'.");
    return;
  }
  output.table(
    ['KEY', 'STATE', 'WHERE', 'IMAGE', 'MEMORY', 'BAKED', 'STORED', ''],
    [
      ...entries.map((entry) => listRow(entry, where(entry.key))),
      ...elsewhere.map(({ key, imageId }) => [key.slice(0, SHORT_KEY), '', 'store', imageId, '', '', '', '']),
      ...failures.map(failureRow),
    ],
  );
}

function failureRow({ key, imageId, reason, failedAt, attempts, retryAt }: BakeFailure): string[] {
  const next = retryAt === null ? 'not tried again before the image changes' : `next try after ${retryAt}`;
  const times = attempts === 1 ? '' : `, ${attempts} times in a row`;
  return [key.slice(0, SHORT_KEY), 'failed', '', imageId, '', failedAt, '', `${reason} (${next}${times})`];
}

function listRow(entry: CacheEntry, where: string): string[] {
  const key = entry.key.slice(0, SHORT_KEY);
  if (entry.state === 'unreadable') return [key, entry.state, where, '', '', '', '', entry.reason];
  const { manifest } = entry;
  return [
    key,
    entry.state,
    where,
    manifest.image.id,
    `${manifest.memoryMb} MiB`,
    manifest.bakedAt,
    formatBytes(manifest.addedBytes),
    entry.state === 'quarantined' ? entry.reason : '',
  ];
}

/** `cache show KEY` */
export async function showCache(cache: Cache, output: Output, prefix: string, json: boolean): Promise<void> {
  const entry = await resolveKey(cache, prefix);
  // A µVM with damaged files is worth showing, too.
  const usage =
    entry.state === 'unreadable'
      ? undefined
      : await cache.usage(entry.key).catch((error: unknown) => describeError(error));
  if (json) {
    output.json(typeof usage === 'object' ? { ...entry, usage } : entry);
    return;
  }
  if (entry.state === 'unreadable') {
    output.table([], rows({ key: entry.key, state: entry.state, reason: entry.reason }));
    return;
  }
  const { manifest } = entry;
  const { platform } = manifest;
  const files: [string, string][] = Object.entries(manifest.files).map(([name, file]) => [
    name,
    `${formatBytes(file.sizeBytes)}, ${file.pages} pages not zero`,
  ]);
  output.table(
    [],
    rows({
      key: manifest.key,
      state: entry.state === 'ok' ? 'ok' : `quarantined since ${entry.since}: ${entry.reason}`,
      image: manifest.image.id,
      'image checksum': manifest.image.checksum ?? 'none',
      memory: `${manifest.memoryMb} MiB`,
      baked: `${manifest.bakedAt}, in ${formatMs(manifest.bakeMs)}`,
      'added when stored': formatBytes(manifest.addedBytes),
      platform: `${platform.virtType}, ${platform.machineType}, CPU ${platform.cpuModel}, QEMU ${platform.qemuMajorVersion}, ${platform.firmware}`,
      layout: `version ${platform.layoutVersion}, up to ${platform.maxVcpus} vCPUs and ${platform.maxMemoryMb} MiB`,
      gate: manifest.gateVersion.slice(0, SHORT_KEY),
      ...Object.fromEntries<string>(files),
      ...(typeof usage === 'string' && { 'where its bytes are': `not known: ${usage}` }),
    }),
  );
  if (typeof usage !== 'object') return;
  output.line('');
  output.table(['FILE', 'ZERO', 'IN THE IMAGE', 'SHARED', 'OWN', 'OWN, COMPRESSED'], usageRows(usage));
}

/** Where the bytes of each file are; what is shared and what is the image's own takes no room of this µVM's. */
function usageRows(usage: UvmUsage): string[][] {
  return Object.entries(usage).map(([name, file]) => [
    name,
    ...[file.zeroBytes, file.imageBytes, file.sharedBytes, file.ownBytes, file.ownStoredBytes].map(
      formatBytes,
    ),
  ]);
}

/** `cache gc` */
export async function collectCache(cache: Cache, output: Output, json: boolean): Promise<void> {
  const report = await cache.gc();
  if (json) {
    output.json(report);
    return;
  }
  const { storedBytes, freedBytes, rewrittenPacks } = report;
  output.line(
    `freed ${formatBytes(freedBytes)}, ${rewrittenPacks} packs written anew; ${formatBytes(storedBytes)} are stored`,
  );
}

function rows(fields: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(fields);
}

/** `cache rm KEY...` */
export async function removeFromCache(
  cache: Cache,
  output: Output,
  prefixes: readonly string[],
): Promise<void> {
  // All names are resolved first: a mistyped one must not leave half of the work done.
  const keys = new Set<string>();
  for (const prefix of prefixes) keys.add((await resolveKey(cache, prefix)).key);
  for (const key of keys) {
    await cache.remove(key);
    output.line(`removed ${key}`);
  }
}

/** `cache verify [KEY...]`: reads every page back; fails when anything is damaged. */
export async function verifyCache(
  cache: Cache,
  output: Output,
  prefixes: readonly string[],
  json: boolean,
): Promise<void> {
  const keys = new Set<string>();
  for (const prefix of prefixes) keys.add((await resolveKey(cache, prefix)).key);
  if (prefixes.length === 0) for (const entry of await cache.list()) keys.add(entry.key);
  const reports = [];
  for (const key of keys) {
    const report = await cache.verify(key);
    reports.push(report);
    if (json) continue;
    const verdict = report.problems.length === 0 ? `ok, ${report.pages} pages` : 'DAMAGED';
    output.line(`${key.slice(0, SHORT_KEY)}  ${verdict}`);
    for (const problem of report.problems) output.line(`    ${problem}`);
  }
  if (json) output.json(reports);
  const damaged = reports.filter((report) => report.problems.length > 0).length;
  if (damaged > 0) {
    throw new CommandError(
      `${damaged} of ${reports.length} µVMs damaged; their images boot cold until they are baked again`,
    );
  }
}
