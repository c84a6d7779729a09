/** What the bench `rpc` and its process of callers say to each other. */
import { z } from 'zod';

export const burstSchema = z.object({
  transportUrl: z.string(),
  host: z.string(),
  callers: z.number(),
  durationMs: z.number(),
  timeoutMs: z.number(),
});
/** Who is called, by how many callers at once, for how long. */
export type Burst = z.infer<typeof burstSchema>;

export const burstResultSchema = z.object({ seconds: z.number(), timesMs: z.array(z.number()) });
/** How long it took in all, and each call of it. */
export type BurstResult = z.infer<typeof burstResultSchema>;
