/**
 * Server-sent events: sends the overview to everybody who looks at the page, whenever it has changed. Nothing is computed
 * while nobody looks.
 */
import type { Response } from 'express';

const INTERVAL_MS = 1000;
/** Proxies give up silent connections after a minute or so. */
const KEEP_ALIVE_MS = 15_000;
/** Each viewer holds a connection. */
const MAX_VIEWERS = 32;

export class LiveFeed {
  private readonly viewers = new Set<Response>();
  private timer: NodeJS.Timeout | undefined;
  private latest = '';
  private sentAt = 0;
  private computing = false;

  /** @param compute the document; a rejection skips one turn */
  constructor(
    private readonly compute: () => Promise<unknown>,
    private readonly onError: (error: unknown) => void,
    private readonly intervalMs = INTERVAL_MS,
  ) {}

  /** Sends events until the other side hangs up. @returns false when there are too many viewers */
  add(response: Response): boolean {
    if (this.viewers.size >= MAX_VIEWERS) return false;
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    response.write('retry: 2000\n\n');
    this.viewers.add(response);
    response.on('close', () => {
      this.viewers.delete(response);
      if (this.viewers.size === 0) this.stop();
    });
    if (this.latest !== '' && this.timer !== undefined) response.write(this.latest);
    this.timer ??= setInterval(() => void this.turn(), this.intervalMs);
    void this.turn();
    return true;
  }

  private stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.latest = '';
  }

  private async turn(): Promise<void> {
    if (this.computing) return;
    this.computing = true;
    try {
      const event = `event: overview\ndata: ${JSON.stringify(await this.compute())}\n\n`;
      if (event !== this.latest) this.send((this.latest = event));
      else if (Date.now() - this.sentAt > KEEP_ALIVE_MS) this.send(': still here\n\n');
    } catch (error) {
      this.onError(error);
    } finally {
      this.computing = false;
    }
  }

  private send(text: string): void {
    this.sentAt = Date.now();
    for (const viewer of this.viewers) viewer.write(text);
  }
}
