/** A real oslo.messaging in a process of its own, spoken to in lines of JSON. */
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const SCRIPT = join(__dirname, 'oslo_peer.py');

export interface PeerRequest {
  readonly kind: 'call' | 'cast';
  readonly topic: string;
  readonly server?: string;
  readonly fanout?: boolean;
  readonly version: string;
  readonly method: string;
  readonly args: Readonly<Record<string, unknown>>;
  /** Seconds. */
  readonly timeout?: number;
  /** Seconds: oslo's call_monitor_timeout. */
  readonly monitor?: number;
}

export class OsloPeer {
  private readonly lines: AsyncIterator<string>;

  private errors = '';

  private constructor(private readonly child: ChildProcessWithoutNullStreams) {
    child.stderr.on('data', (chunk: Buffer) => (this.errors += chunk.toString()));
    this.lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  }

  static async start(role: 'server' | 'client', transportUrl: string): Promise<OsloPeer> {
    const child = spawn('/usr/bin/python3', ['-W', 'ignore', SCRIPT, role, transportUrl], {
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' },
    });
    const peer = new OsloPeer(child);
    await peer.next();
    return peer;
  }

  /** What the peer says next. */
  async next(): Promise<Record<string, unknown>> {
    const line = await this.lines.next();
    if (line.done === true) throw new Error(`the oslo peer ended: ${this.errors}`);
    return JSON.parse(line.value) as Record<string, unknown>;
  }

  /** Has a client ask; resolves with `{result}` or `{error}`. */
  ask(request: PeerRequest): Promise<Record<string, unknown>> {
    this.child.stdin.write(`${JSON.stringify(request)}\n`);
    return this.next();
  }

  async stop(): Promise<void> {
    const exited = once(this.child, 'exit');
    this.child.stdin.end();
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 15_000);
    await exited;
    clearTimeout(timer);
  }
}
