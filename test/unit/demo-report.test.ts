import {
  type ColdFigures,
  type DemoServer,
  checksOf,
  figures,
  formatReport,
} from '../../devstack/demo-report';

const FLAVOR = { name: 'm1.small', vcpus: 2, memoryMb: 2048, rootGb: 10 };
const COLD: ColdFigures = {
  measuredAt: '2026-11-20T10:00:00.000Z',
  imageHash: 'ab',
  flavor: 'm1.small',
  runningMs: 900,
  activeMs: 1500,
  readyMs: 90_000,
};

function server(number: number, change: Partial<DemoServer['facts']> = {}): DemoServer {
  return {
    name: `prebake-demo-${number}`,
    id: `id-${number}`,
    address: `10.77.0.${number}`,
    sshMs: 2300,
    boot: {
      instanceUuid: `id-${number}`,
      imageId: 'image',
      startedAt: '2026-11-20T10:00:00.000Z',
      how: 'uvm',
      why: null,
      outcome: 'ready',
      error: null,
      spans: [{ name: 'restore', startMs: 0, endMs: 500 }],
      marks: [
        { name: 'running', atMs: 700.4 },
        { name: 'active', atMs: 900 },
        { name: 'identity', atMs: 1400 },
        { name: 'ready', atMs: 2500 },
      ],
    },
    facts: {
      hostname: `prebake-demo-${number}`,
      vcpus: 2,
      memoryKib: 2_020_000,
      rootBytes: 10_400_000_000,
      machineId: `machine-${number}`,
      hostKey: `SHA256:key-${number}`,
      address: `10.77.0.${number}`,
      ...change,
    },
  };
}

function failed(first: DemoServer, second: DemoServer, cold = COLD): string[] {
  return checksOf([first, second], cold, FLAVOR)
    .filter((check) => !check.ok)
    .map((check) => check.what);
}

test('nothing to complain about', () => {
  expect(failed(server(1), server(2))).toEqual([]);
});

test.each([
  ['vcpus', 1, 'prebake-demo-2 has 2 CPUs'],
  ['memoryKib', 512 * 1024, 'prebake-demo-2 has 2048 MiB of memory'],
  ['rootBytes', 2 * 1024 ** 3, 'prebake-demo-2 has a root disk of 10 GiB'],
  ['hostname', 'localhost', 'prebake-demo-2 knows its name'],
  ['address', '10.77.0.99', 'prebake-demo-2 has its address'],
  ['hostKey', 'SHA256:key-1', 'the two differ in hostKey'],
  ['machineId', 'machine-1', 'the two differ in machineId'],
])('finds a wrong %s', (key, value, complaint) => {
  expect(failed(server(1), server(2, { [key]: value }))).toEqual([complaint]);
});

test('a server that booted cold or never became ready is found', () => {
  const second = server(2);
  const cold = { ...second, boot: { ...second.boot, how: 'cold' as const, outcome: 'active' } };
  expect(failed(server(1), cold)).toEqual([
    'prebake-demo-2 started from the µVM',
    'prebake-demo-2 has its identity and resources',
  ]);
});

test('a third of a cold boot is the limit', () => {
  expect(failed(server(1), server(2), { ...COLD, readyMs: 7500 })).toEqual([]);
  expect(failed(server(1), server(2), { ...COLD, readyMs: 7499 })).toEqual([
    'ready in a third of a cold boot or less',
  ]);
});

test('the figures have the promised names', () => {
  expect(figures([server(1), server(2)], COLD, { flavor: FLAVOR, bakeMs: 1, checks: [] })).toMatchObject({
    running_ms: 700,
    active_ms: 900,
    identity_ms: 1400,
    ready_ms: 2500,
    ssh_ms: 2300,
    cold_ready_ms: 90_000,
  });
});

test('the report shows both servers beside the cold boot', () => {
  const report = formatReport([server(1), server(2)], COLD, 100);
  expect(report).toMatch(/^the server is ACTIVE +900 ms +900 ms +1\.50 s$/m);
  expect(report).toMatch(/^it is ready: resources, too +2\.50 s +2\.50 s +90\.0 s$/m);
  expect(report).toMatch(/^restore +500 ms +█+$/m);
});
