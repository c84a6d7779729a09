/** The commands of the documentation that work on a host of a cloud are run there, in the words of the pages. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { ComputeProcess } from '../support/compute-process';
import { commandsRunBy } from '../support/documentation';
import { NOVA_CONF, NovaApi } from '../support/nova-api';
import { ALL_IN_ONE, run } from '../support/servers';
import { TypedCommands } from '../support/typed-commands';

const cachedSchema = z.array(
  z.looseObject({
    key: z.string(),
    manifest: z.looseObject({ image: z.looseObject({ id: z.string() }) }).nullish(),
  }),
);

let nova: NovaApi;
let compute: ComputeProcess;
let typed: TypedCommands;
let directory: string;
let image: string;
let server: string;

beforeAll(async () => {
  nova = await NovaApi.login();
  typed = await TypedCommands.prepare([NOVA_CONF]);
  directory = await mkdtemp(join(tmpdir(), 'prebake-docs-'));
  compute = await ComputeProcess.start();
  await run(ALL_IN_ONE, ['discover-hosts']);
  await nova.waitForHostStatus('prebake', 'enabled');
  // An image of its own: its µVM is removed.
  image = await nova.upload('documented', 'qcow2', await tiny());
  server = await nova.create({ name: 'documented', image, flavor: await nova.flavorId('m1.small') });
  await nova.waitForStatus(server, 'ACTIVE');
});
afterAll(async () => {
  await nova.delete(server);
  await nova.waitForGone(server);
  await nova.deleteImage(image);
  await compute.stop();
  await typed.remove();
  await rm(directory, { recursive: true });
});

async function tiny(): Promise<Buffer> {
  return await readFile(join(process.env.PREBAKE_CLOUD ?? '/srv/prebake-cloud', 'images', 'tiny.qcow2'));
}

async function keyOf(imageId: string): Promise<string> {
  const cached = cachedSchema.parse(JSON.parse(await typed.type('prebake cache ls --json')));
  return cached.find(({ manifest }) => manifest?.image.id === imageId)?.key ?? 'none';
}

// In the order of the list: a µVM is baked before it is shown, verified and removed.
test.each(commandsRunBy('test/integration/documentation.test.ts'))('%s', async (command) => {
  const figures = join(directory, 'figures.json');
  const values = {
    ...(command.includes('KEY') && { KEY: await keyOf(image) }),
    IMAGE: image,
    SERVER: server,
    // The one that asks for nothing but a disk.
    'NAME [--runs N] [--json FILE]': `kills --runs 1 --json ${figures}`,
  };
  // These take an hour, or belong to the run that this is a part of: only whether they are understood.
  const only = command.startsWith('npm run tempest')
    ? ' --help'
    : command.startsWith('npx jest')
      ? ' --listTests'
      : '';
  expect(await typed.type(command + only, values)).not.toBe('');
});
