/** The service itself, when it runs: what its readiness check says. */
import { z } from 'zod';
import { describeError } from '../exceptions';
import { type Check, fail, ok, warn } from './check';

const TIMEOUT_MS = 5000;
const Readiness = z.object({
  ready: z.boolean(),
  checks: z.record(z.string(), z.object({ state: z.string(), reason: z.string().optional() })),
});

/** @param ask GETs a path of the sidecar */
export function serviceCheck(ask: (path: string, signal: AbortSignal) => Promise<Response>): Check {
  return {
    name: 'service',
    fix: 'look into the log of prebake-compute',
    run: async (signal) => {
      let response: Response;
      try {
        response = await ask('/readyz', AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]));
      } catch (error) {
        return warn(
          `prebake-compute does not answer (${describeError(error)})`,
          'start it: systemctl start prebake-compute; if it runs, see [prebake] sidecar_listen',
        );
      }
      if (response.status === 401) {
        return fail(
          'prebake-compute refuses the token',
          'restart it: [prebake] sidecar_token has changed since its start',
        );
      }
      const { ready, checks } = Readiness.parse(await response.json());
      if (ready) return ok('prebake-compute runs and is ready');
      const down = Object.entries(checks).filter(([, { state }]) => state !== 'up');
      return fail(
        `prebake-compute runs, but is not ready: ${down.map(([name, { reason }]) => `${name} (${reason ?? 'down'})`).join(', ')}`,
        'mend what is named; it goes on by itself',
      );
    },
  };
}
