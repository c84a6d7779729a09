/** `prebake boots`: the last boots of the running service, or the waterfall of one. */
import { z } from 'zod';
import { describeError } from '../exceptions';
import type { Host } from './host';
import { CommandError, EXIT, type Output, formatMs } from './output';
import { waterfall } from './waterfall';

const TIMEOUT_MS = 5000;

const bootSchema = z.object({
  instanceUuid: z.string(),
  imageId: z.string(),
  startedAt: z.string(),
  how: z.enum(['uvm', 'cold']).nullable(),
  why: z.string().nullable(),
  outcome: z.string(),
  error: z.string().nullable(),
  spans: z.array(z.object({ name: z.string(), startMs: z.number(), endMs: z.number() })),
  marks: z.array(z.object({ name: z.string(), atMs: z.number() })),
});
const answerSchema = z.object({ boots: z.array(bootSchema) });
/** A boot as the service reports it. */
export type ReportedBoot = z.infer<typeof bootSchema>;

/** Asks a running service for its boots, newest first. */
export async function fetchBoots(sidecarUrl: string, token: string | null = null): Promise<ReportedBoot[]> {
  const url = `${sidecarUrl}/boots`;
  try {
    const headers: Record<string, string> = token === null ? {} : { Authorization: `Bearer ${token}` };
    const response = await fetch(url, { headers, signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!response.ok) throw new Error(`HTTP status ${response.status}`);
    return answerSchema.parse(await response.json()).boots;
  } catch (error) {
    throw new CommandError(
      `no answer from ${url} (${describeError(error)}); is prebake-compute running?`,
      EXIT.failed,
      {
        cause: error,
      },
    );
  }
}

/** Milliseconds of a mark in words, `-` when it was not reached. */
function at(boot: ReportedBoot, name: string): string {
  const mark = boot.marks.find((candidate) => candidate.name === name);
  return mark === undefined ? '-' : formatMs(mark.atMs);
}

/** Without a server the list of all boots, with one the waterfall of its last boot. */
export async function showBoots(
  host: Host,
  output: Output,
  server: string | undefined,
  json: boolean,
): Promise<void> {
  const boots = await fetchBoots(host.sidecarUrl, host.sidecarToken);
  if (server !== undefined) {
    const boot = boots.find((candidate) => candidate.instanceUuid === server);
    if (boot === undefined) throw new CommandError(`the service remembers no boot of server ${server}`);
    if (json) output.json(boot);
    else showBoot(output, boot);
  } else if (json) {
    output.json(boots);
  } else if (boots.length === 0) {
    output.line('No server was booted since the service started.');
  } else {
    output.table(
      ['STARTED', 'SERVER', 'HOW', 'RUNNING', 'ACTIVE', 'READY', 'OUTCOME'],
      boots.map((boot) => [
        boot.startedAt,
        boot.instanceUuid,
        boot.how ?? '-',
        at(boot, 'running'),
        at(boot, 'active'),
        at(boot, 'ready'),
        boot.error ?? (boot.why === null ? boot.outcome : `${boot.outcome} (${boot.why})`),
      ]),
    );
  }
}

function showBoot(output: Output, boot: ReportedBoot): void {
  const why = boot.why === null ? '' : ` (${boot.why})`;
  output.line(`server ${boot.instanceUuid}, image ${boot.imageId}`);
  output.line(`${boot.startedAt}  ${boot.how ?? 'not started'}${why}: ${boot.error ?? boot.outcome}`);
  output.line();
  for (const line of waterfall(boot, output.stdout.columns ?? 100)) output.line(line);
}
