/** The demo, as a newcomer types it, on the cloud of the tests: all that it checks holds. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { commandsRunBy } from '../support/documentation';
import { NovaApi } from '../support/nova-api';
import { ALL_IN_ONE, run } from '../support/servers';
import { TypedCommands } from '../support/typed-commands';

const figuresSchema = z.looseObject({
  ready_ms: z.number(),
  cold_ready_ms: z.number(),
  servers: z.array(z.looseObject({ id: z.string() })).length(2),
  checks: z.array(z.looseObject({ what: z.string(), ok: z.boolean() })).min(10),
});

let nova: NovaApi;
let typed: TypedCommands;
let directory: string;
let servers: readonly { readonly id: string }[] = [];

beforeAll(async () => {
  nova = await NovaApi.login();
  typed = await TypedCommands.prepare([]);
  directory = await mkdtemp(join(tmpdir(), 'prebake-demo-'));
});
afterAll(async () => {
  for (const { id } of servers) {
    await nova.delete(id);
    await nova.waitForGone(id);
  }
  await run(ALL_IN_ONE, ['stop', 'prebake-compute']);
  await typed.remove();
  await rm(directory, { recursive: true });
});

test.each(commandsRunBy('test/integration/demo.test.ts'))('%s', async (command) => {
  const file = join(directory, 'figures.json');
  expect(await typed.type(`${command} -- --json '${file}'`)).toContain('The cloud is up');
  const figures = figuresSchema.parse(JSON.parse(await readFile(file, 'utf8')));
  ({ servers } = figures);
  expect(figures.checks.filter(({ ok }) => !ok)).toEqual([]);
});
