/** Tells when the SSH servers of many guests first answer, from one process inside the guests' network. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

/**
 * Runs in the namespace: reads addresses, a line each, and says `address milliseconds-since-1970` for each, once. A lost SYN is
 * not waited for, but a server that took the connection is: asking a busy guest anew makes it begin anew.
 */
const WATCHER = `
const { connect } = require('node:net');
require('node:readline').createInterface({ input: process.stdin }).on('line', (address) => {
  const attempt = () => {
    const socket = connect({ host: address, port: 22 });
    socket.setTimeout(400, () => socket.destroy());
    socket.once('connect', () => socket.setTimeout(20_000));
    socket.once('data', (banner) => {
      if (!banner.toString().startsWith('SSH-')) return;
      console.log(address, Date.now());
      socket.removeAllListeners('close').destroy();
    });
    socket.once('close', () => setTimeout(attempt, 100));
    socket.on('error', () => undefined);
  };
  attempt();
});`;

/** Watches until told to stop. */
export class SshWatch {
  private readonly answered = new Map<string, number>();
  private readonly waiting = new Map<string, (atMs: number) => void>();

  private constructor(private readonly child: ChildProcessByStdio<Writable, Readable, null>) {}

  static start(namespace: string): SshWatch {
    const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, '-e', WATCHER], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const watch = new SshWatch(child);
    createInterface({ input: child.stdout }).on('line', (line) => {
      const [address = '', atMs] = line.split(' ');
      const at = Number(atMs) - performance.timeOrigin;
      watch.answered.set(address, at);
      watch.waiting.get(address)?.(at);
    });
    return watch;
  }

  /** Asks this address, too, from now on. */
  add(address: string): void {
    this.child.stdin.write(`${address}\n`);
  }

  /** When the server at this address first answered, by the performance clock; rejects when it does not in time. */
  async moment(address: string, timeoutMs: number): Promise<number> {
    const known = this.answered.get(address);
    if (known !== undefined) return known;
    return await new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new Error(`the SSH server at ${address} did not answer in ${timeoutMs / 1000} s`));
      }, timeoutMs);
      this.waiting.set(address, (atMs) => {
        clearTimeout(timer);
        resolve(atMs);
      });
    });
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await ended;
  }
}
