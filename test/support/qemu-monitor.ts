/** QEMU's own monitor (QMP), of a QEMU that no libvirt looks after: one command at a time. */
import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';

const CONNECT_RETRY_MS = 5;
const CONNECT_ATTEMPTS = 2_000;

const replySchema = z.object({
  return: z.unknown().optional(),
  error: z.object({ desc: z.string() }).optional(),
  event: z.string().optional(),
});

/** One connection to a monitor. */
export class Monitor {
  private readonly replies: ((reply: z.infer<typeof replySchema>) => void)[] = [];
  private readonly listeners = new Map<string, (() => void)[]>();

  private constructor(private readonly socket: Socket) {
    createInterface({ input: socket }).on('line', (line) => {
      const reply = replySchema.parse(JSON.parse(line));
      if (reply.event !== undefined) {
        for (const listener of this.listeners.get(reply.event) ?? []) listener();
        this.listeners.delete(reply.event);
      } else if ('return' in reply || reply.error !== undefined) {
        this.replies.shift()?.(reply);
      }
    });
  }

  /** @param path of its socket; QEMU may still be about to make it */
  static async connect(path: string): Promise<Monitor> {
    for (let attempt = 0; ; attempt += 1) {
      const socket = createConnection({ path });
      try {
        await once(socket, 'connect');
        const monitor = new Monitor(socket);
        await monitor.command('qmp_capabilities', {});
        return monitor;
      } catch (error) {
        if (attempt >= CONNECT_ATTEMPTS) throw error;
        await delay(CONNECT_RETRY_MS);
      }
    }
  }

  /** @throws Error with QEMU's own words */
  async command(name: string, args: Record<string, unknown>): Promise<unknown> {
    const reply = await new Promise<z.infer<typeof replySchema>>((resolve) => {
      this.replies.push(resolve);
      this.socket.write(`${JSON.stringify({ execute: name, arguments: args })}\n`);
    });
    if (reply.error !== undefined) throw new Error(`${name}: ${reply.error.desc}`);
    return reply.return;
  }

  /** Resolves when QEMU tells of the next such event. */
  event(name: string): Promise<void> {
    return new Promise((resolve) => {
      this.listeners.set(name, [...(this.listeners.get(name) ?? []), resolve]);
    });
  }

  close(): void {
    this.socket.destroy();
  }
}
