/** Drives Debian's Chromium over its debugging pipe: enough to open a page, ask it things and look at it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';

const CALL_TIMEOUT_MS = 30_000;
const UNTIL_TIMEOUT_MS = 20_000;
const UNTIL_INTERVAL_MS = 50;
const messageSchema = z.looseObject({
  id: z.number().optional(),
  method: z.string().optional(),
  params: z.unknown().optional(),
  result: z.unknown().optional(),
  error: z.looseObject({ message: z.string() }).optional(),
});
const evaluated = z.object({
  result: z.looseObject({ value: z.unknown().optional() }),
  exceptionDetails: z.unknown().optional(),
});

interface Waiting {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** One browser with one page. */
export class Browser {
  /** Errors that the page logged, and requests that went elsewhere or failed. */
  readonly complaints: string[] = [];
  readonly requested: string[] = [];
  private readonly waiting = new Map<number, Waiting>();
  private nextId = 1;
  private sessionId: string | undefined;
  private unread = '';

  private constructor(
    private readonly child: ChildProcess,
    private readonly profile: string,
    private readonly input: Writable,
    output: Readable,
  ) {
    output.setEncoding('utf8').on('data', (text: string) => this.read(text));
  }

  static async launch(): Promise<Browser> {
    const profile = await mkdtemp(join(tmpdir(), 'prebake-browser-'));
    const child = spawn(
      '/usr/bin/chromium',
      [
        ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'],
        ...['--disable-background-networking', '--remote-debugging-pipe', `--user-data-dir=${profile}`],
        'about:blank',
      ],
      { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] },
    );
    const browser = new Browser(child, profile, child.stdio[3] as Writable, child.stdio[4] as Readable);
    child.once('error', (error) => browser.giveUp(error));
    child.once('exit', () => browser.giveUp(new Error('the browser ended')));
    const target = z.object({ targetId: z.string() });
    const { targetId } = target.parse(await browser.call('Target.createTarget', { url: 'about:blank' }));
    const attached = await browser.call('Target.attachToTarget', { targetId, flatten: true });
    browser.sessionId = z.object({ sessionId: z.string() }).parse(attached).sessionId;
    for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await browser.call(`${domain}.enable`, {});
    return browser;
  }

  /** Width and height in CSS pixels, and the colour scheme that the user prefers. */
  async present(width: number, height: number, scheme: 'light' | 'dark'): Promise<void> {
    const mobile = width < 600;
    await this.call('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile });
    const features = [{ name: 'prefers-color-scheme', value: scheme }];
    await this.call('Emulation.setEmulatedMedia', { features });
  }

  async open(url: string): Promise<void> {
    await this.call('Page.navigate', { url });
  }

  /** The value of an expression; promises are awaited. */
  async evaluate(expression: string): Promise<unknown> {
    const call = { expression, awaitPromise: true, returnByValue: true };
    const answer = evaluated.parse(await this.call('Runtime.evaluate', call));
    if (answer.exceptionDetails !== undefined) throw new Error(JSON.stringify(answer.exceptionDetails));
    return answer.result.value;
  }

  /** Waits until an expression holds, through navigations, during which nothing can be asked. */
  async until(expression: string, timeoutMs = UNTIL_TIMEOUT_MS): Promise<void> {
    const deadlineMs = Date.now() + timeoutMs;
    while ((await this.evaluate(expression).catch(() => false)) !== true) {
      if (Date.now() > deadlineMs) throw new Error(`the page never came to ${expression}`);
      await delay(UNTIL_INTERVAL_MS);
    }
  }

  async press(key: string, code: number, text = ''): Promise<void> {
    for (const type of ['keyDown', 'keyUp']) {
      await this.call('Input.dispatchKeyEvent', { type, key, code: key, windowsVirtualKeyCode: code, text });
    }
  }

  /** The whole page as PNG. */
  async screenshot(): Promise<Buffer> {
    const answer = await this.call('Page.captureScreenshot', { captureBeyondViewport: true });
    return Buffer.from(z.object({ data: z.string() }).parse(answer).data, 'base64');
  }

  async close(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const ended = once(this.child, 'exit');
      this.child.kill('SIGKILL');
      await ended;
    }
    await rm(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }

  private call(method: string, params: object): Promise<unknown> {
    const id = this.nextId++;
    const session = this.sessionId === undefined ? {} : { sessionId: this.sessionId };
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(new Error(`the browser did not answer ${method}`));
      }, CALL_TIMEOUT_MS);
      const settle = (work: () => void): void => {
        clearTimeout(timer);
        work();
      };
      this.waiting.set(id, {
        resolve: (result) => settle(() => resolve(result)),
        reject: (error) => settle(() => reject(error)),
      });
      this.input.write(`${JSON.stringify({ id, method, params, ...session })}\0`);
    });
  }

  private read(text: string): void {
    const parts = (this.unread + text).split('\0');
    this.unread = parts.pop() ?? '';
    for (const part of parts) this.receive(messageSchema.parse(JSON.parse(part)));
  }

  private receive({ id, method, params, result, error }: z.infer<typeof messageSchema>): void {
    if (id !== undefined) {
      const waiting = this.waiting.get(id);
      this.waiting.delete(id);
      if (error === undefined) waiting?.resolve(result);
      else waiting?.reject(new Error(error.message));
    } else if (method === 'Network.requestWillBeSent') {
      const { request } = z.object({ request: z.looseObject({ url: z.string() }) }).parse(params);
      this.requested.push(request.url);
    } else if (method === 'Runtime.exceptionThrown' || method === 'Log.entryAdded') {
      this.complaints.push(JSON.stringify(params));
    }
  }

  private giveUp(error: Error): void {
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }
}
