/** On what, and beside what else, a bench ran: a figure without it says nothing. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memory_gib: number;
  readonly kernel: string;
  readonly node: string;
  readonly qemu: string;
  readonly virt_type: string;
  /** Load average over a minute when the bench began and when it ended: its own work is in the second. */
  readonly load_before: number;
  readonly load_after: number;
}

/** Takes the load now, and the rest when the returned function is called at the end. */
export function observeMachine(novaConf: string): () => Promise<Machine> {
  const loadBefore = load();
  return async () => ({
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memory_gib: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    qemu: await firstLine('qemu-system-x86_64', ['--version']),
    virt_type: await virtType(novaConf),
    load_before: loadBefore,
    load_after: load(),
  });
}

/** The commit that is checked out, `-dirty` when files differ from it. */
export async function commit(): Promise<string> {
  return firstLine('git', ['-C', __dirname, 'describe', '--always', '--dirty', '--abbrev=12', '--match=-']);
}

function load(): number {
  return Math.round((loadavg()[0] ?? 0) * 100) / 100;
}

async function virtType(novaConf: string): Promise<string> {
  const text = await readFile(novaConf, 'utf8').catch(() => '');
  return /^virt_type *= *(\w+)/m.exec(text)?.[1] ?? 'unknown';
}

async function firstLine(program: string, args: readonly string[]): Promise<string> {
  const answer = await run(program, args, { timeout: 10_000 }).catch(() => ({ stdout: 'unknown' }));
  return answer.stdout.split('\n')[0] ?? '';
}
