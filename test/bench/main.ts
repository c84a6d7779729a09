/**
 * `npm run bench -- NAME [--runs N] [--json FILE]`: measures prebake beside its peers, on this machine and in the same run.
 * docs/benchmarks.md has what came out.
 */
import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import Table from 'cli-table3';
import { Command, Option } from 'commander';
import { NOVA_CONF } from '../support/nova-api';
import { boot } from './boot';
import { cache } from './cache';
import { bakeCorpus, cacheOfCorpus } from './cache-corpus';
import { coldMemory } from './cold-memory';
import type { Figure } from './figures';
import { identity } from './identity';
import { type Machine, commit, observeMachine } from './machine';
import { density } from './density';
import { kills } from './kills';
import { restore } from './restore';
import { rpc } from './rpc';
import { storms } from './storm';

/** What a bench may be told, and where it says how far it is. */
export interface BenchOptions {
  readonly runs: number;
  readonly say: (line: string) => void;
  /** What was asked for beyond that; undefined for nothing. */
  readonly corpus?: CorpusOptions;
  /** Names of images, of which each is a Debian release. */
  readonly suites?: readonly string[];
  /** Folder of the system whose libvirt and QEMU are measured instead of the machine's. */
  readonly root?: string;
}

/** Which images to bake and measure with (without names, all of the corpus), and where they are, or are to be, kept. */
export interface CorpusOptions {
  readonly images?: readonly string[];
  readonly keep?: string;
  readonly from?: string;
}

/** Measures and cleans up behind itself. */
export type Bench = (options: BenchOptions) => Promise<Figure[]>;

/** One run of a bench, as `--json` keeps it. */
export interface BenchResult {
  readonly bench: string;
  readonly machine: Machine;
  readonly commit: string;
  readonly figures: readonly Figure[];
}

interface Offered {
  readonly about: string;
  readonly measure: Bench;
  readonly options?: readonly Option[];
}

const IMAGES = new Option(
  '--images <names>',
  'these images, as devstack/images/debian --list has them',
).argParser((names: string) => names.split(','));
const BENCHES: ReadonlyMap<string, Offered> = new Map<string, Offered>([
  ['boot', { about: 'a server of a Debian 12 image, against stock nova-compute', measure: boot }],
  [
    'cache',
    {
      about:
        'bytes and milliseconds of the µVMs this host has baked, against lz4; or of a corpus, against archivers too',
      measure: async (options) => await (options.corpus === undefined ? cache : cacheOfCorpus)(options),
      options: [
        new Option('--corpus', 'bake images of several releases and uses, and measure with those'),
        IMAGES,
        new Option('--keep <dir>', 'keep what is baked there, and bake only what is not there yet'),
        new Option('--from <dir>', 'measure what was kept there, bake nothing').conflicts(['corpus', 'keep']),
      ],
    },
  ],
  [
    'corpus',
    {
      about: 'how long the images of the corpus take to bake; keeps them for the bench cache',
      measure: bakeCorpus,
      options: [IMAGES, new Option('--keep <dir>', 'keep what is baked there').makeOptionMandatory()],
    },
  ],
  [
    'density',
    { about: 'memory that a server takes for itself, against stock nova-compute', measure: density },
  ],
  [
    'cold-memory',
    {
      about: 'a clone whose µVM has left the memory of the host, and one whose µVM is read ahead',
      measure: coldMemory,
    },
  ],
  ['storm', { about: 'fifty boots of ten images at once, against stock nova-compute', measure: storms }],
  ['kills', { about: 'kill -9 of a process that stores µVMs, --runs times', measure: kills }],
  [
    'identity',
    {
      about:
        'a clone becoming a server, until it is ready and until its cloud-init is done, against a cold boot',
      measure: identity,
      options: [
        new Option(
          '--suites <names>',
          'these images instead of debian-11, debian-12 and debian-13',
        ).argParser((names: string) => names.split(',')),
      ],
    },
  ],
  [
    'restore',
    {
      about: 'the driver alone, from its call until a clone runs, against libvirt and QEMU by themselves',
      measure: restore,
      options: [
        new Option(
          '--root <dir>',
          "the libvirt and QEMU of the system in this folder, as devstack/images/hypervisor makes it, instead of the machine's",
        ).argParser((directory: string) => resolve(directory)),
      ],
    },
  ],
  ['rpc', { about: 'answering get_host_uptime, and being idle, against stock nova-compute', measure: rpc }],
]);

function table(figures: readonly Figure[]): string {
  const rows = new Table({
    style: { head: [], border: [] },
    head: ['figure', 'value', 'spread', 'peer', 'peer value', 'ratio', 'goal', 'met'],
  });
  for (const { name, value, unit, spread, peer, peer_value: peerValue, ratio, goal, met } of figures) {
    rows.push([
      name,
      `${value} ${unit}`,
      spread.join(' - '),
      peer ?? '',
      peerValue === null ? '' : `${peerValue} ${unit}`,
      ratio ?? '',
      goal ?? '',
      met === null ? '' : met ? 'yes' : 'no',
    ]);
  }
  return rows.toString();
}

async function main(): Promise<void> {
  const program = new Command('bench')
    .description('Measures prebake beside its peers.')
    .option('--runs <n>', 'how often each is measured; medians are shown', '3')
    .option('--json <file>', 'keep the figures in a file')
    .showHelpAfterError();
  for (const [name, { about, measure, options = [] }] of BENCHES) {
    const command = program.command(name).description(about);
    for (const option of options) command.addOption(option);
    command.action(
      async ({ suites, root, ...corpus }: CorpusOptions & Pick<BenchOptions, 'suites' | 'root'>) => {
        const { runs, json } = program.opts<{ runs: string; json?: string }>();
        const count = Number(runs);
        if (!Number.isInteger(count) || count < 1) program.error(`--runs ${runs} is not a number of runs`);
        const machine = observeMachine(NOVA_CONF);
        const measured = await commit();
        const say = (line: string): void => void process.stderr.write(`${line}\n`);
        const asked = Object.keys(corpus).length > 0;
        const figures = await measure({
          runs: count,
          say,
          ...(asked && { corpus }),
          ...(suites && { suites }),
          ...(root !== undefined && { root }),
        });
        const result: BenchResult = {
          bench: name,
          machine: await machine(),
          commit: measured,
          figures,
        };
        if (json !== undefined) await writeFile(json, `${JSON.stringify(result, null, 2)}\n`);
        process.stdout.write(`${table(figures)}\n${JSON.stringify(result.machine)} at ${result.commit}\n`);
      },
    );
  }
  await program.parseAsync();
}

main().catch((error: unknown) => {
  process.stderr.write(`bench: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exitCode = 1;
});
