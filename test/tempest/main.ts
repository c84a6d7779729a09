/**
 * `npm run tempest`: tempest.api.compute.servers on the all-in-one, with prebake as its compute host; once as a stock
 * nova-compute was run (test/tempest/stock-passes.txt has what that passed), and once with logins to the guests.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import axios from 'axios';
import { Command, Option } from 'commander';
import { formatTable } from '../../lib/cli';
import { describeError } from '../../lib/exceptions';
import { CLOUD, DemoCloud, DemoError, ROOT, run } from '../../devstack/demo-cloud';
import { type TestOutcome, missingPasses, parseOutcome } from './outcome';

const HOST = 'prebake';
const SERVERS = '^tempest\\.api\\.compute\\.servers';
const CONFIG_FILE = join(CLOUD, 'etc', 'nova-compute.conf');
const METRICS_URL = 'http://127.0.0.1:8790/metrics';
const RUN_TIMEOUT_MS = 3 * 3600 * 1000;

/** The configurations of tempest (devstack/lib.d/tempest.py says how they differ), and the image of their servers. */
const KINDS = { api: 'tiny', guests: 'tiny-ssh' } as const;
type Kind = keyof typeof KINDS;

/** Boots that ended well, by how: from a µVM, or cold. */
interface Boots {
  readonly uvm: number;
  readonly cold: number;
}

interface RunReport {
  readonly kind: Kind;
  readonly passed: number;
  readonly skipped: number;
  readonly failed: readonly string[];
  /** What stock nova-compute passes and this run did not; empty when only some tests were asked for. */
  readonly missing: readonly string[];
  readonly seconds: number;
  readonly boots: Boots;
  readonly outcomes: readonly TestOutcome[];
}

const say = (line: string): void => void process.stderr.write(`${line}\n`);

/** The service's count of boots; it starts at zero with the service. */
async function countBoots(): Promise<Boots> {
  const { data } = await axios.get<string>(METRICS_URL, { proxy: false, timeout: 10_000 });
  const sum = (how: string): number =>
    data
      .split('\n')
      .filter((line) => line.startsWith('prebake_boots_total{') && line.includes(`how="${how}"`))
      .filter((line) => !line.includes('outcome="failed"'))
      .reduce((total, line) => total + Number(line.split(' ').at(-1)), 0);
  return { uvm: sum('uvm'), cold: sum('cold') };
}

async function bake(image: string, signal: AbortSignal): Promise<void> {
  const args = [join(ROOT, 'dist/lib/cli/main.js'), '--config-file', CONFIG_FILE, 'bake', image];
  await run(process.execPath, args, { timeoutMs: 1_200_000, signal, show: 'errors' });
}

/** Tempest's own directory for a kind: its configuration and its results database. */
const directoryOf = (kind: Kind): string => join(CLOUD, 'lib', 'tempest', kind);

async function workspace(kind: Kind, signal: AbortSignal): Promise<string> {
  const directory = directoryOf(kind);
  const exists = await readFile(join(directory, '.stestr.conf')).catch(() => null);
  if (exists === null) {
    await mkdir(join(CLOUD, 'lib', 'tempest'), { recursive: true });
    const state = join(CLOUD, 'lib', 'tempest', '.tempest');
    await run('tempest', ['init', '--workspace-path', state, directory], { timeoutMs: 60_000, signal });
  }
  const conf = await readFile(join(CLOUD, 'etc', `tempest-${kind}.conf`), 'utf8');
  await writeFile(join(directory, 'etc', 'tempest.conf'), conf, { mode: 0o600 });
  return directory;
}

async function tempest(
  kind: Kind,
  options: { readonly regex: string; readonly concurrency: string },
  signal: AbortSignal,
): Promise<TestOutcome[]> {
  const directory = await workspace(kind, signal);
  const args = ['run', '--regex', options.regex, '--concurrency', options.concurrency];
  const child = spawn('tempest', args, {
    cwd: directory,
    stdio: ['ignore', 'pipe', 'inherit'],
    signal: AbortSignal.any([signal, AbortSignal.timeout(RUN_TIMEOUT_MS)]),
    killSignal: 'SIGINT',
  });
  // Waited for at the end only: a failure before that is nobody's yet.
  const failure = once(child, 'close').then(
    () => undefined,
    (cause: unknown) => new DemoError(signal.aborted ? 'interrupted' : describeError(cause), { cause }),
  );
  const outcomes: TestOutcome[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    const outcome = parseOutcome(line);
    if (outcome === null) continue;
    outcomes.push(outcome);
    const seconds = outcome.durationS === null ? '' : ` ${outcome.durationS.toFixed(1)} s`;
    const reason = outcome.reason === '' ? '' : `: ${outcome.reason}`;
    say(`${outcomes.length.toString().padStart(4)} ${outcome.result}${seconds} ${outcome.test}${reason}`);
  }
  const error = await failure;
  if (error !== undefined) throw error;
  return outcomes;
}

async function runKind(
  kind: Kind,
  options: { readonly regex: string; readonly concurrency: string },
  signal: AbortSignal,
): Promise<RunReport> {
  const begin = performance.now();
  const before = await countBoots();
  const outcomes = await tempest(kind, options, signal);
  const after = await countBoots();
  const stock = await readFile(join(ROOT, 'test', 'tempest', 'stock-passes.txt'), 'utf8');
  const named = (result: TestOutcome['result']): string[] =>
    outcomes.filter((outcome) => outcome.result === result).map(({ test }) => test);
  return {
    kind,
    passed: named('passed').length,
    skipped: named('skipped').length,
    failed: named('failed'),
    missing: options.regex === SERVERS ? missingPasses(stock.trim().split('\n'), outcomes) : [],
    seconds: Math.round((performance.now() - begin) / 1000),
    boots: { uvm: after.uvm - before.uvm, cold: after.cold - before.cold },
    outcomes,
  };
}

function report(reports: readonly RunReport[]): boolean {
  const head = [
    'run',
    'passed',
    'failed',
    'skipped',
    'stock passes, not here',
    'from µVMs',
    'cold',
    'seconds',
  ];
  const rows = reports.map(({ kind, passed, failed, skipped, missing, boots, seconds }) =>
    [kind, passed, failed.length, skipped, missing.length, boots.uvm, boots.cold, seconds].map(String),
  );
  process.stdout.write(`${formatTable(head, rows)}\n`);
  for (const { kind, failed, missing } of reports) {
    for (const test of failed) process.stdout.write(`${kind}: failed: ${test}\n`);
    for (const test of missing)
      process.stdout.write(`${kind}: passes on stock nova-compute, not here: ${test}\n`);
    if (failed.length > 0) {
      process.stdout.write(`${kind}: why, with every request: cd ${directoryOf(kind)} && stestr last\n`);
    }
  }
  return reports.every(
    ({ failed, missing, passed }) => passed > 0 && failed.length === 0 && missing.length === 0,
  );
}

async function main(): Promise<void> {
  const program = new Command('tempest')
    .description(
      'Runs tempest.api.compute.servers on the all-in-one with prebake as its compute host: the run "api" as stock\n' +
        'nova-compute was measured, the run "guests" with logins to the guests, interface attach, config drive,\n' +
        'password change and stable rescue. Exits with 1 when a test fails, or one that stock passes does not pass.',
    )
    .addOption(new Option('--only <run>', 'one of the two runs').choices(Object.keys(KINDS)))
    .option('--regex <regex>', 'other tests than all of the servers', SERVERS)
    .option('--concurrency <n>', 'tests at the same time', '2')
    .option('--json <file>', 'keep the results in a file')
    .showHelpAfterError();
  program.parse();
  const options = program.opts<{ only?: Kind; regex: string; concurrency: string; json?: string }>();
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());
  const { signal } = interrupted;

  const cloud = new DemoCloud(signal);
  await cloud.allInOne('up', '--with', 'tempest');
  await cloud.allInOne('restart', 'prebake-compute');
  await cloud.waitForHost(HOST);
  await cloud.discoverHosts();
  const kinds = (Object.keys(KINDS) as Kind[]).filter(
    (kind) => options.only === undefined || options.only === kind,
  );
  const reports: RunReport[] = [];
  for (const kind of kinds) {
    // The second is what servers are rebuilt with: without a µVM of its own the first of them boots cold.
    for (const image of [KINDS[kind], `${KINDS[kind]}-alt`]) {
      say(`==> bake ${image}`);
      await bake(image, signal);
    }
    say(`==> tempest, ${kind}`);
    reports.push(await runKind(kind, options, signal));
  }
  if (options.json !== undefined)
    await writeFile(options.json, `${JSON.stringify({ runs: reports }, null, 2)}\n`);
  if (!report(reports)) process.exitCode = 1;
}

main().catch((error: unknown) => {
  process.stderr.write(`tempest: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
