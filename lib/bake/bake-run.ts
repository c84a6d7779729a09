/** One bake from the first boot of the image to the proof of its µVM. Leaves nothing but the µVM, also when it fails. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ImageSpec, TemplateDriver, TemplateGuest, UvmPlatform } from '../../drivers/driver';
import { describeError } from '../exceptions';
import type { Squirrel, UvmManifest } from '../squirrel';
import { bakeDriveFiles, GATE_VERSION } from './bake-drive';
import { GateClient } from './gate';
import { GateClosed } from './gate-errors';
import { proveUvm } from './proof';

/** The steps of a bake, in order. */
export const BAKE_PHASES = ['boot', 'seal', 'capture', 'prove', 'store'] as const;
/** A step of a bake. */
export type BakePhase = (typeof BAKE_PHASES)[number];

/** What one bake works with. */
export interface BakeRun {
  readonly squirrel: Squirrel;
  readonly driver: TemplateDriver;
  readonly image: ImageSpec;
  readonly key: string;
  readonly platform: UvmPlatform;
  readonly memoryMb: number;
  /** For each of the guest's own steps; the whole is ended by `signal`. */
  readonly guestTimeoutMs: number;
  readonly report: (phase: BakePhase, percent?: number) => void;
  readonly signal: AbortSignal;
}

const CONNECT_TIMEOUT_MS = 30_000;
/** In which libvirt tells that a guest has ended, once its channel is closed. */
const END_NEWS_MS = 5_000;

/** Rejects with the signal's reason when aborted, and with whatever a step failed with otherwise. */
export async function runBake(run: BakeRun): Promise<UvmManifest> {
  const { squirrel, driver, image, key, report, signal } = run;
  const startedAt = performance.now();
  const directory = await squirrel.scratch(run.memoryMb * 1024 ** 2);
  const files = {
    ram: join(directory, 'ram'),
    disk: join(directory, 'disk.qcow2'),
    state: join(directory, 'state'),
  };
  try {
    await bootAndCapture(run, directory, files);
    signal.throwIfAborted();
    report('prove');
    // From the bake's own files: an older µVM of the image stays in use until this one is known to be better.
    const { ram: ramPath, state: statePath, disk: diskDeltaPath } = files;
    const { platform, memoryMb } = run;
    const uvm = { key, imageId: image.id, platform, memoryMb, ramPath, statePath, diskDeltaPath };
    await proveUvm({ driver, uvm, image, directory, signal });
    signal.throwIfAborted();
    report('store');
    const description = {
      key,
      image: { id: image.id, checksum: image.checksum },
      platform,
      memoryMb,
      gateVersion: GATE_VERSION,
      bakedAt: new Date().toISOString(),
      bakeMs: Math.round(performance.now() - startedAt),
    };
    const manifest = await squirrel.add({ description, files }, (percent) => report('store', percent));
    signal.throwIfAborted();
    try {
      // Reads every page back, and has the µVM written out for the first server.
      await squirrel.materialise(key, { held: true });
    } catch (error) {
      await squirrel.quarantine(key, `it could not be written out: ${describeError(error)}`);
      throw error;
    }
    await squirrel.release(key);
    return manifest;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function bootAndCapture(
  run: BakeRun,
  directory: string,
  files: { readonly ram: string; readonly disk: string; readonly state: string },
): Promise<void> {
  const { driver, image, report, signal } = run;
  let guest: TemplateGuest | undefined;
  let gate: GateClient | undefined;
  try {
    signal.throwIfAborted();
    report('boot');
    guest = await driver.bootTemplate({
      key: run.key,
      image,
      memoryMb: run.memoryMb,
      directory,
      ramPath: files.ram,
      diskDeltaPath: files.disk,
      files: bakeDriveFiles(),
      signal,
    });
    const { ended } = guest;
    const call = { timeoutMs: run.guestTimeoutMs, signal };
    gate = await GateClient.connect(guest.gateSocketPath, { deadlineMs: CONNECT_TIMEOUT_MS, signal });
    const hello = await unlessEnded(gate.waitHello(call), ended);
    if (hello.gate !== GATE_VERSION) throw new Error(`the guest runs another gate (${hello.gate})`);
    guest.booted();
    report('seal');
    await unlessEnded(gate.seal(guest.spares, call), ended);
    report('capture');
    await guest.capture(files.state);
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    gate?.close();
    await guest?.destroy();
  }
}

/**
 * What the gate answers, or why the guest came to its end instead. QEMU closes the channel before libvirt tells of that, so a
 * closed channel alone is not yet the reason.
 */
async function unlessEnded<T>(answer: Promise<T>, ended: Promise<never>): Promise<T> {
  try {
    return await Promise.race([answer, ended]);
  } catch (error) {
    if (error instanceof GateClosed)
      await Promise.race([ended, delay(END_NEWS_MS, undefined, { ref: false })]);
    throw error;
  }
}
