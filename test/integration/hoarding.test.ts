/**
 * Two hosts that share µVMs through the cloud's own object store: one bakes an image as soon as Glance has it, the other
 * fetches the µVM and starts servers from it. Each is a service of its own with its own cache, name and libvirtd.
 */
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type Config, loadConfig } from '../../lib/config';
import { openStore, type SharedStore } from '../../lib/hoard';
import { PrivateLibvirtd } from '../functional/support/private-libvirtd';
import { ComputeProcess } from '../support/compute-process';
import { commandsRunBy } from '../support/documentation';
import { silent } from '../support/hoard';
import { CLOUD, NOVA_CONF, NovaApi, waitFor } from '../support/nova-api';
import { ALL_IN_ONE, run, traces, waitForPing } from '../support/servers';
import { TypedCommands } from '../support/typed-commands';

const HOOK = join(__dirname, '../../drivers/libvirt/hook/prebake');
const BAKER = 'hoarding-baker';
const BAKER_SIDECAR = '127.0.0.1:8791';
const BAKE_TIMEOUT_MS = 600_000;
const FETCH_TIMEOUT_MS = 120_000;
const FORGET_TIMEOUT_MS = 60_000;

const servicesSchema = z.object({ services: z.array(z.looseObject({ id: z.string() })) });

/** Manifests of the image's µVMs in a cache, as they are in their files. */
async function manifestsOf(cache: string, image: string): Promise<string[]> {
  const uvms = join(cache, 'uvms');
  const names = await readdir(uvms).catch(() => []);
  // One may go between the two looks.
  const texts = await Promise.all(names.map((name) => readFile(join(uvms, name), 'utf8').catch(() => '')));
  return texts.filter((text) => text.includes(image));
}

/** Of those, one that servers are started from. */
async function offered(cache: string, image: string): Promise<string | null> {
  const [text] = await manifestsOf(cache, image);
  const doubtful = await readdir(join(cache, 'quarantine')).catch(() => []);
  return text === undefined || doubtful.length > 0 ? null : text;
}

/** What a manifest says, whatever the order in which it does. */
function uvmOf(text: string): Record<string, unknown> {
  return z.object({ uvm: z.record(z.string(), z.unknown()) }).parse(JSON.parse(text)).uvm;
}

describe('two hosts with an object store', () => {
  let nova: NovaApi;
  let directory: string;
  let libvirtd: PrivateLibvirtd;
  let bakes: ComputeProcess;
  let fetches: ComputeProcess;
  let store: SharedStore;
  let typed: TypedCommands;
  let bakerCache: string;
  let cache: string;
  let image: string | undefined;

  /** A configuration file that comes after the cloud's own. */
  async function writeConf(
    name: string,
    sections: Readonly<Record<string, readonly string[]>>,
  ): Promise<string> {
    const path = join(directory, name);
    const lines = Object.entries(sections).flatMap(([section, its]) => [`[${section}]`, ...its]);
    await writeFile(path, `${lines.join('\n')}\n`);
    return path;
  }

  beforeAll(async () => {
    nova = await NovaApi.login();
    directory = await mkdtemp(join(CLOUD, 'hoarding-'));
    await chmod(directory, 0o755);
    bakerCache = join(directory, BAKER, 'cache');
    cache = join(directory, 'cache');
    await mkdir(join(directory, BAKER));
    libvirtd = await PrivateLibvirtd.start({ hook: HOOK, hostname: BAKER });
    const shared = ['object_store = swift', `object_store_container = ${directory.split('/').at(-1) ?? ''}`];
    const bakerConf = await writeConf('baker.conf', {
      DEFAULT: [
        `host = ${BAKER}`,
        `state_path = ${join(directory, BAKER)}`,
        `instances_path = ${join(directory, BAKER, 'instances')}`,
      ],
      libvirt: [`connection_uri = ${libvirtd.uri}`],
      oslo_concurrency: [`lock_path = ${join(directory, BAKER, 'lock')}`],
      prebake: [
        ...shared,
        `cache_directory = ${bakerCache}`,
        `sidecar_listen = ${BAKER_SIDECAR}`,
        'bake = tagged',
      ],
    });
    const conf = await writeConf('other.conf', { prebake: [...shared, `cache_directory = ${cache}`] });
    typed = await TypedCommands.prepare([NOVA_CONF, conf]);
    const config: Config = await loadConfig([NOVA_CONF, conf]);
    const opened = openStore(config, silent);
    if (opened === undefined) throw new Error('the configuration has no object store');
    store = opened;
    bakes = await ComputeProcess.start({ configFiles: [NOVA_CONF, bakerConf], sidecar: BAKER_SIDECAR });
    fetches = await ComputeProcess.start({ configFiles: [NOVA_CONF, conf] });
    await run(ALL_IN_ONE, ['discover-hosts']);
    // It takes part in the cloud, but servers are to run on the other.
    for (const { id } of await bakerServices()) {
      await nova.http.put(`${nova.url('compute')}/os-services/${id}`, { status: 'disabled' });
    }
  });
  afterAll(async () => {
    if (image !== undefined) await nova.deleteImage(image);
    await fetches.stop();
    await bakes.stop();
    for (const { id } of await bakerServices()) {
      await nova.http.delete(`${nova.url('compute')}/os-services/${id}`);
    }
    await libvirtd.stop();
    const { objects } = await store.store.objects.list('');
    for (const { name } of objects) await store.store.objects.remove(name);
    await typed.remove();
    await rm(directory, { recursive: true, force: true });
  });

  async function bakerServices(): Promise<z.infer<typeof servicesSchema>['services']> {
    const answer = await nova.get('compute', `/os-services?host=${BAKER}&binary=nova-compute`);
    return servicesSchema.parse(answer).services;
  }

  it('have one bake: the other starts its first server from what was baked there', async () => {
    const content = await readFile(join(CLOUD, 'images', 'tiny.qcow2'));
    const uploaded = await nova.upload('hoarded', 'qcow2', content, { prebake: 'always' });
    image = uploaded;
    const baked = await waitFor(
      () => offered(bakerCache, uploaded),
      BAKE_TIMEOUT_MS,
      () => 'the image was not baked when Glance had it',
    );
    const fetched = await waitFor(
      () => offered(cache, uploaded),
      FETCH_TIMEOUT_MS,
      () => 'the µVM did not come to the other host',
    );
    expect(uvmOf(fetched)).toEqual(uvmOf(baked));
    expect(await store.store.keys(uploaded)).toHaveLength(1);

    const id = await nova.create({
      name: 'hoarded',
      image: uploaded,
      flavor: await nova.flavorId('m1.small'),
    });
    const server = await nova.waitForStatus(id, 'ACTIVE');
    try {
      expect((await fetches.waitForReady(id)).how).toBe('uvm');
      await waitForPing(nova, server);
    } finally {
      await nova.delete(id);
      await nova.waitForGone(id);
    }
    expect(await traces(nova, server)).toEqual([]);
  });

  it.each(commandsRunBy('test/integration/hoarding.test.ts'))(
    'are served by hand, too: %s',
    async (command) => {
      if (image === undefined) throw new Error('there was no image');
      expect(await typed.type(command, { '[IMAGE|KEY...]': image })).toMatch(/there/);
    },
  );

  it('both let go of a deleted image, and so does the store', async () => {
    if (image === undefined) throw new Error('there was no image');
    const deleted = image;
    await nova.deleteImage(deleted);
    image = undefined;
    for (const place of [bakerCache, cache]) {
      await waitFor(
        async () => {
          const left = await Promise.all(
            ['packs', 'maps', 'materialised'].map((part) => readdir(join(place, part))),
          );
          return (await manifestsOf(place, deleted)).length === 0 && left.flat().length === 0 ? true : null;
        },
        FORGET_TIMEOUT_MS,
        () => `${place} still has something of the µVM`,
      );
    }
    await waitFor(
      async () => ((await store.store.keys(deleted)).length === 0 ? true : null),
      FORGET_TIMEOUT_MS,
      () => 'the store still has the µVM',
    );
  });
});
