/** What a process uses, from /proc. */
import { readFile } from 'node:fs/promises';

/** USER_HZ: Linux shows processor time in hundredths of a second on every architecture it runs on today. */
const TICKS_PER_SECOND = 100;

/** Resident memory, MiB. */
export async function residentMib(pid: number): Promise<number> {
  const kib = /^VmRSS:\s*(\d+) kB/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1];
  if (kib === undefined) throw new Error(`process ${pid} has no memory`);
  return Number(kib) / 1024;
}

/** Processor time used so far by all threads, seconds. */
export async function processorSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  // The program's name may have spaces and parentheses in it; the fields after it are counted from state, the third.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}
