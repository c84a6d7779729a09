#!/usr/bin/env node
/** prebake: the tool of those who run a compute host. Sets up the process; what it can do is in `program.ts`. */
// Every libvirt call in flight holds a thread of libuv's pool; the size counts before the pool's first use.
process.env.UV_THREADPOOL_SIZE ??= '32';

import { defaultConfigPaths } from '../config';
import { createLogger } from '../log';
import { readVersion } from '../version';
import { openDoctor } from './open-doctor';
import { openHost } from './open-host';
import { EXIT, Output } from './output';
import { run } from './run';

async function main(): Promise<void> {
  const interrupt = new AbortController();
  const onSignal = (name: NodeJS.Signals): void => {
    // The second time the user means it.
    if (interrupt.signal.aborted) process.exit(EXIT.interrupted);
    interrupt.abort(new Error(`interrupted by ${name}`));
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  // What goes wrong is told in one line at the end; the service's log is not for a terminal.
  const logger = createLogger({ level: 'silent' });
  process.exitCode = await run(process.argv.slice(2), {
    version: readVersion(),
    openHost: (configFiles) => openHost(configFiles, logger),
    openDoctor: (configFiles) => openDoctor(configFiles, logger),
    defaultConfigFiles: defaultConfigPaths,
    output: new Output(process.stdout, process.stderr),
    signal: interrupt.signal,
  });
}

void main();
