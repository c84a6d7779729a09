/** A host among conductors of one release, of two during an upgrade, and of none it knows. */
import type { Messaging, ServeOptions } from '../../../lib/messaging';
import { reportedServiceVersion } from '../../../lib/compute/release';
import { RpcTopics } from '../../../lib/compute/rpc-topics';

const NOW = Date.parse('2026-01-01T01:00:00Z');
const DOWN_AFTER_MS = 60_000;

interface Seen {
  readonly version: number;
  readonly silentS?: number;
  readonly never?: boolean;
  readonly forcedDown?: boolean;
}

function reported(seen: readonly Seen[]): number {
  const conductors = seen.map(({ version, silentS = 0, never = false, forcedDown = false }) => ({
    version,
    forcedDown,
    lastSeenUp: never ? null : new Date(NOW - silentS * 1000),
  }));
  return reportedServiceVersion(conductors, DOWN_AFTER_MS);
}

describe('the version that is reported', () => {
  it.each<[string, readonly Seen[], number]>([
    ["is the conductor's", [{ version: 66 }], 66],
    ['is the older one of two during an upgrade', [{ version: 64 }, { version: 66 }], 64],
    ['does not wait for a conductor that is gone', [{ version: 64, silentS: 61 }, { version: 66 }], 66],
    ['takes conductors that are all silent as they are', [{ version: 64, silentS: 9e6 }], 64],
    ['takes a conductor that is only starting as it is', [{ version: 66, never: true }], 66],
    ['does not count one that is forced down', [{ version: 64, forcedDown: true }, { version: 66 }], 66],
    ['is never one whose requests are not understood', [{ version: 999 }], 73],
    ['is never older than the oldest that is spoken', [{ version: 12 }, { version: 66 }], 66],
    ["is Zed's without any conductor", [], 64],
  ])('%s', (_name, seen, version) => {
    expect(reported(seen)).toBe(version);
  });
});

describe('topics', () => {
  function topics() {
    const open: string[] = [];
    const messaging: Pick<Messaging, 'serve'> = {
      serve: ({ topic }: ServeOptions) => {
        open.push(topic);
        return Promise.resolve({
          stop: () => {
            open.splice(open.indexOf(topic), 1);
            stopped.push(topic);
            return Promise.resolve();
          },
        });
      },
    };
    const stopped: string[] = [];
    return { subject: new RpcTopics(messaging, 'prebake', []), open, stopped };
  }

  it('are one in a cloud of Zed, two from 71 on, and the second ends last', async () => {
    const { subject, open, stopped } = topics();
    await subject.serve(64);
    expect(open).toEqual(['compute']);
    await subject.serve(72);
    expect(open).toEqual(['compute', 'compute-alt']);
    await subject.stop(1);
    expect(stopped).toEqual(['compute', 'compute-alt']);
  });
});
