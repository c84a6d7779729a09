/** Two servers of the tiny image, one that was booted cold and one from a µVM: what can be asked of one can be asked of the other. */
import type { ComputeProcess } from './compute-process';
import type { NovaApi, Server } from './nova-api';
import { ALL_IN_ONE, bakeImage, run, traces } from './servers';

/** How a server came up, as `/boots` calls it. */
export type How = 'cold' | 'uvm';

/** The two servers. */
export class BothWays {
  private constructor(
    private readonly nova: NovaApi,
    private readonly servers: Map<How, Server>,
  ) {}

  /**
   * Bakes the image and boots both.
   * @param flavors by name; the cold one's is smaller than a µVM, the other's is not
   * @throws Error when a server did not come up as it should
   */
  static async boot(
    nova: NovaApi,
    compute: ComputeProcess,
    flavors: Readonly<Record<How, string>>,
  ): Promise<BothWays> {
    const image = await nova.imageId('tiny');
    await run(ALL_IN_ONE, ['discover-hosts']);
    await bakeImage(image);
    const servers = new Map<How, Server>();
    for (const how of ['cold', 'uvm'] as const) {
      const id = await nova.create({ name: how, image, flavor: await nova.flavorId(flavors[how]) });
      servers.set(how, await nova.waitForStatus(id, 'ACTIVE'));
      const boot = await compute.boot(id);
      if (boot?.how !== how) {
        throw new Error(`the server ${how} came up ${boot?.how ?? '?'}: ${boot?.why ?? ''}`);
      }
    }
    return new BothWays(nova, servers);
  }

  server(how: How): Server {
    const found = this.servers.get(how);
    if (found === undefined) throw new Error(`no ${how} server`);
    return found;
  }

  /** The test has deleted this one itself. */
  forget(how: How): void {
    this.servers.delete(how);
  }

  /** Deletes them. @throws Error when one leaves something behind */
  async remove(): Promise<void> {
    for (const server of this.servers.values()) {
      await this.nova.delete(server.id);
      await this.nova.waitForGone(server.id);
      const left = await traces(this.nova, server);
      if (left.length > 0) throw new Error(`server ${server.name} left its ${left.join(', ')} behind`);
    }
  }
}
