/** `prebake cache pull` and `push`: µVMs between this host's cache and the object store, now instead of at the next sweep. */
import { describeError } from '../exceptions';
import type { StoredKey, Transfer, TransferProgress } from '../hoard';
import type { CacheEntry } from '../squirrel';
import type { HoardAccess } from './host';
import { CommandError, EXIT, type Output, formatBytes, formatMs } from './output';
import { TransferView } from './transfer-progress';

interface HoardCommand {
  readonly names: readonly string[];
  readonly json: boolean;
  readonly signal: AbortSignal;
}

/** One µVM's transfer, as `--json` shows it. */
interface Outcome {
  readonly key: string;
  readonly imageId: string;
  readonly outcome: 'done' | 'there' | 'failed';
  readonly totalBytes: number;
  /** That went over the network. */
  readonly sentBytes: number;
  readonly elapsedMs: number;
  readonly error: string | null;
}

const KEY_PREFIX = /^[0-9a-f]{4,64}$/;
const SHORT_KEY = 12;

/** `cache pull [IMAGE|KEY...]`: without names, all that fit this host. */
export async function pullUvms(access: HoardAccess, output: Output, command: HoardCommand): Promise<void> {
  const stored = await access.stored(command.signal);
  const wanted: StoredKey[] = [];
  if (command.names.length === 0) {
    const fitting = new Set(await access.keysOfImages(command.signal));
    wanted.push(...stored.filter(({ key }) => fitting.has(key)));
  }
  for (const name of command.names) {
    wanted.push(await resolve(stored, name, () => access.keyOfImage(name, command.signal)));
  }
  await transferAll(output, command, wanted, 'pulled', (uvm, onProgress) =>
    access.fetch(uvm, { signal: command.signal, onProgress }),
  );
}

/** `cache push [IMAGE|KEY...]`: without names, all that the store lacks. */
export async function pushUvms(access: HoardAccess, output: Output, command: HoardCommand): Promise<void> {
  const here = (await access.cache.list()).flatMap(sound);
  const wanted: StoredKey[] = command.names.length === 0 ? here : [];
  for (const name of command.names) {
    wanted.push(await resolve(here, name, () => access.keyOfImage(name, command.signal)));
  }
  await transferAll(output, command, wanted, 'pushed', (uvm, onProgress) =>
    access.send(uvm.key, { signal: command.signal, onProgress }),
  );
}

function sound(entry: CacheEntry): StoredKey[] {
  return entry.state === 'ok' ? [{ key: entry.key, imageId: entry.manifest.image.id }] : [];
}

/** The µVM that is meant: by the first digits of its key, or by its image. */
async function resolve(
  known: readonly StoredKey[],
  name: string,
  ofImage: () => Promise<StoredKey>,
): Promise<StoredKey> {
  const matches = KEY_PREFIX.test(name) ? known.filter(({ key }) => key.startsWith(name)) : [];
  if (matches.length > 1) {
    throw new CommandError(
      `${name} is the beginning of ${matches.length} keys, give more digits`,
      EXIT.usage,
    );
  }
  return matches[0] ?? (await ofImage());
}

async function transferAll(
  output: Output,
  { json, signal }: HoardCommand,
  uvms: readonly StoredKey[],
  verb: string,
  transfer: (
    uvm: StoredKey,
    onProgress: (progress: TransferProgress) => void,
  ) => Promise<Transfer | 'there' | 'absent'>,
): Promise<void> {
  const outcomes: Outcome[] = [];
  for (const [position, uvm] of uvms.entries()) {
    const startedAt = performance.now();
    const label = `${uvm.key.slice(0, SHORT_KEY)} (${position + 1} of ${uvms.length})`;
    const view = new TransferView(output.stderr, label);
    const ended = (result: Pick<Outcome, 'outcome'> & Partial<Outcome>): void => {
      const elapsedMs = Math.round(performance.now() - startedAt);
      outcomes.push({ ...uvm, totalBytes: 0, sentBytes: 0, elapsedMs, error: null, ...result });
    };
    try {
      const result = await transfer(uvm, (progress) => view.update(progress));
      if (result === 'there') ended({ outcome: 'there' });
      else if (result === 'absent') ended({ outcome: 'failed', error: 'it is not there' });
      else ended({ outcome: 'done', totalBytes: result.totalBytes, sentBytes: result.sentBytes });
    } catch (error) {
      if (signal.aborted) {
        throw new CommandError(
          'interrupted; what has been transferred is kept, and the same command goes on from there',
          EXIT.interrupted,
          { cause: error },
        );
      }
      ended({ outcome: 'failed', error: describeError(error) });
    } finally {
      view.stop();
    }
    const last = outcomes.at(-1);
    if (!json && last !== undefined) output.line(inWords(last, verb));
  }
  if (json) output.json(outcomes);
  else if (uvms.length === 0) output.line('There is nothing to transfer.');
  const failed = outcomes.filter(({ outcome }) => outcome === 'failed').length;
  if (failed > 0) throw new CommandError(`${failed} of ${outcomes.length} µVMs were not ${verb}`);
}

function inWords(outcome: Outcome, verb: string): string {
  const name = `${outcome.key.slice(0, SHORT_KEY)}  image ${outcome.imageId}`;
  if (outcome.outcome === 'there') return `${name}: is there already`;
  if (outcome.outcome === 'failed') return `${name}: not ${verb}: ${outcome.error ?? ''}`;
  return (
    `${name}: ${verb} in ${formatMs(outcome.elapsedMs)}, ` +
    `${formatBytes(outcome.sentBytes)} of ${formatBytes(outcome.totalBytes)} had to be sent`
  );
}
