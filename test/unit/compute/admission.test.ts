/** Which server of a storm is let in when: how many at once, in whose turn, and what becomes of those that wait in vain. */
import { Admission, type AdmissionLimits, type Admitted } from '../../../lib/compute/admission';

const ROOMY: AdmissionLimits = { builds: 100, guests: 100, guestBytes: 10, availableBytes: () => 10_000 };

/** An admission, and who it has let in so far. */
class Door {
  readonly inside = new Map<string, Admitted>();
  private readonly admission: Admission;

  constructor(limits: Partial<AdmissionLimits>) {
    this.admission = new Admission({ ...ROOMY, ...limits });
  }

  /** Servers are named after their image: `a1`, `a2`, `b1`. */
  async ask(servers: readonly string[], signal = new AbortController().signal): Promise<void> {
    for (const server of servers) {
      void this.admission
        .enter(server.charAt(0), signal)
        .then((admitted) => this.inside.set(server, admitted));
    }
    await this.settle();
  }

  async built(server: string): Promise<void> {
    this.inside.get(server)?.built();
    await this.settle();
  }

  async ready(server: string): Promise<void> {
    this.inside.get(server)?.settled();
    await this.settle();
  }

  get names(): string[] {
    return [...this.inside.keys()];
  }

  private async settle(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test('everybody is let in at once where there is room', async () => {
  const door = new Door({});
  await door.ask(['a1', 'a2', 'b1']);
  expect(door.names).toEqual(['a1', 'a2', 'b1']);
});

test('no more builds at once than Nova is told, each until its server is active', async () => {
  const door = new Door({ builds: 2 });
  await door.ask(['a1', 'a2', 'a3']);
  await door.ready('a1');
  expect(door.names).toEqual(['a1', 'a2']);
  await door.built('a1');
  expect(door.names).toEqual(['a1', 'a2', 'a3']);
});

test('no more guests at once than the host can serve, each until it is ready', async () => {
  const door = new Door({ guests: 2 });
  await door.ask(['a1', 'a2', 'a3']);
  await door.built('a1');
  expect(door.names).toEqual(['a1', 'a2']);
  await door.ready('a1');
  expect(door.names).toEqual(['a1', 'a2', 'a3']);
});

test('a place that is given back twice is one place', async () => {
  const door = new Door({ builds: 1, guests: 1 });
  await door.ask(['a1', 'a2', 'a3']);
  for (let time = 0; time < 2; time++) {
    await door.built('a1');
    await door.ready('a1');
  }
  expect(door.names).toEqual(['a1', 'a2']);
});

test('images take turns, whoever has asked for many', async () => {
  const door = new Door({ guests: 1 });
  await door.ask(['a1', 'a2', 'a3', 'a4', 'b1', 'b2', 'c1']);
  for (const server of ['a1', 'a2', 'b1', 'c1', 'a3', 'b2']) await door.ready(server);
  expect(door.names).toEqual(['a1', 'a2', 'b1', 'c1', 'a3', 'b2', 'a4']);
});

test('guests that are not ready yet keep the memory that they may still write to', async () => {
  let availableBytes = 25;
  const door = new Door({ availableBytes: () => availableBytes });
  await door.ask(['a1', 'a2', 'a3']);
  expect(door.names).toEqual(['a1', 'a2']);
  availableBytes = 15;
  await door.ready('a1');
  expect(door.names).toEqual(['a1', 'a2']);
  // With nobody left to wait for the scheduler is right, however little there is.
  await door.ready('a2');
  expect(door.names).toEqual(['a1', 'a2', 'a3']);
});

test('a server that is deleted while it waits takes no place', async () => {
  const door = new Door({ guests: 1 });
  const deleted = new AbortController();
  await door.ask(['a1']);
  await door.ask(['b1', 'b2'], deleted.signal);
  await door.ask(['c1', 'b3']);
  deleted.abort();
  await door.ready('a1');
  // b1 and b2 go on to find out that they are not wanted; their image keeps its turn.
  expect(door.names).toEqual(['a1', 'b1', 'b2', 'b3']);
  await door.ready('b3');
  expect(door.names.at(-1)).toBe('c1');
});
