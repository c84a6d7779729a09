/** How hosts tell each other that a µVM is in the store: a fanout of their own exchange. Who misses one finds it later. */
import type { Logger } from 'pino';
import { z } from 'zod';
import { type Messaging, RequestContext, type RpcServer } from '../messaging';
import type { StoredKey } from './uvm-store';

const TARGET = { exchange: 'prebake', topic: 'prebake', version: '1.0' };

const storedSchema = z.object({
  image_id: z.uuid(),
  key: z.string().regex(/^[0-9a-f]{64}$/),
  host: z.string(),
});

/** Says and hears. */
export class Announcements {
  private constructor(
    private readonly messaging: Messaging,
    private readonly host: string,
    private readonly server: RpcServer,
  ) {}

  /** @param onStored hears of what other hosts sent */
  static async start(parts: {
    readonly messaging: Messaging;
    readonly host: string;
    readonly onStored: (uvm: StoredKey) => void;
    readonly logger: Logger;
  }): Promise<Announcements> {
    const { messaging, host, onStored, logger } = parts;
    const uvmStored = (_context: RequestContext, args: Record<string, unknown>): Promise<null> => {
      const { image_id: imageId, key, host: sender } = storedSchema.parse(args);
      if (sender !== host) {
        logger.info({ image: imageId, key, sender }, 'a µVM is in the store');
        onStored({ imageId, key });
      }
      return Promise.resolve(null);
    };
    const server = await messaging.serve({
      exchange: TARGET.exchange,
      topic: TARGET.topic,
      host,
      endpoints: [{ versions: ['1.0'], methods: new Map([['uvm_stored', uvmStored]]) }],
    });
    return new Announcements(messaging, host, server);
  }

  /** Tells all other hosts, those that are up. */
  async stored({ imageId, key }: StoredKey): Promise<void> {
    const args = { image_id: imageId, key, host: this.host };
    await this.messaging.fanout(TARGET, 'uvm_stored', args, { context: RequestContext.admin() });
  }

  async close(): Promise<void> {
    await this.server.stop();
  }
}
