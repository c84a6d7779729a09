/** A cloud-init image's µVM: Debian 12 is baked once, and its clones are whole servers in a fraction of a cold boot. */
import type { UvmManifest } from '../../lib/squirrel';
import { hostnameOf, macOf, reportOf, UvmHost } from './support/uvm-host';

const BASE_MEMORY_MB = 512;
const GIB = 1024 ** 3;
const WHO_TIMEOUT_MS = 240_000;
const flavor = {
  name: 'm1',
  vcpus: 4,
  memoryMb: 1536,
  rootGb: 10,
  ephemeralGb: 0,
  swapMb: 0,
  extraSpecs: {},
};

let host: UvmHost;
let manifest: UvmManifest;

jest.setTimeout(900_000);

beforeAll(async () => {
  host = await UvmHost.start({
    imageFile: 'debian-12.qcow2',
    baseMemoryMb: BASE_MEMORY_MB,
    bakeTimeoutS: 900,
    gateTimeoutMs: 120_000,
  });
  manifest = await host.baker.bake(host.image);
});
afterAll(() => host.stop());

test('the µVM is small', () => {
  expect(manifest.memoryMb).toBe(BASE_MEMORY_MB);
  expect(manifest.addedBytes).toBeLessThan(80 * 1024 * 1024);
});

test('two servers differ in all that makes a server, and have what their flavor gives', async () => {
  const servers = [host.server(flavor), host.server(flavor)];
  const reports = [];
  for (const instance of servers) {
    const request = await host.request(instance);
    const report = await reportOf(await host.driver.spawn(request));
    reports.push({ report, marks: request.timeline.marks, spans: request.timeline.spans });
    expect(report).toMatchObject({ vcpus: 4, rootBytes: 10 * GIB });
    expect(report.memoryMb).toBeGreaterThan(1300);
  }
  const seen = new Map<string, Set<string>>();
  for (const instance of servers) {
    const who = await host.whoIs(instance, WHO_TIMEOUT_MS);
    expect(who.get('hostname')).toBe(hostnameOf(instance));
    expect(who.get('macs')).toBe(macOf(instance));
    expect(who.get('cpus')).toBe('4');
    expect(Number(who.get('root'))).toBeGreaterThan(9000);
    for (const what of ['hostname', 'machine', 'hostkeys', 'random', 'macs']) {
      const value = who.get(what) ?? '';
      expect(value).not.toBe('');
      seen.set(what, (seen.get(what) ?? new Set()).add(value));
    }
  }
  for (const [what, values] of seen) expect([what, values.size]).toEqual([what, servers.length]);
});
