/** A test that speaks to the cloud's services as one of them: to nova-conductor's database, and to the compute service itself. */
import pino from 'pino';
import { loadConfig } from '../../lib/config';
import { Messaging, RequestContext } from '../../lib/messaging';
import {
  Conductor,
  type NovaObject,
  NovaObjectList,
  type ObjectClass,
  expectObject,
} from '../../lib/objects';
import { NOVA_CONF } from './nova-api';

const TIMEOUT_MS = 30_000;

/** A connection to the broker of the all-in-one; its taker closes it. */
export class CloudRpc {
  readonly context = RequestContext.admin();

  private constructor(
    private readonly messaging: Messaging,
    private readonly conductor: Conductor,
  ) {}

  static async connect(): Promise<CloudRpc> {
    const config = await loadConfig([NOVA_CONF]);
    const messaging = await Messaging.connect({
      transportUrl: config.default.transportUrl,
      connectionName: 'prebake-test',
      heartbeatS: 60,
      logger: pino({ level: 'silent' }),
    });
    return new CloudRpc(messaging, new Conductor(messaging, { timeoutMs: TIMEOUT_MS }));
  }

  close(): Promise<void> {
    return this.messaging.close();
  }

  /** The members of a list that a class method (`ServiceList`, `get_by_binary`) answers with. */
  async list<T extends NovaObject>(
    type: ObjectClass<T>,
    [className, method]: readonly [string, string],
    args: readonly unknown[],
  ): Promise<readonly T[]> {
    const found = await this.conductor.classAction(this.context, className, method, args, {});
    return expectObject(found, NovaObjectList).itemsOf(type);
  }

  /** What a class method that finds one object answers with. */
  async find<T extends NovaObject>(
    type: ObjectClass<T>,
    [className, method]: readonly [string, string],
    args: readonly unknown[],
  ): Promise<T> {
    return expectObject(await this.conductor.classAction(this.context, className, method, args, {}), type);
  }

  /** Stores what was set in an object. */
  async save(object: NovaObject): Promise<void> {
    await this.conductor.objectAction(this.context, object, 'save');
  }

  /** Asks the compute service of this host. */
  askCompute(
    topic: string,
    version: string,
    method: string,
    args: Record<string, unknown>,
  ): Promise<unknown> {
    const target = { topic, server: 'prebake', version };
    return this.messaging.call(target, method, args, { context: this.context, timeoutMs: TIMEOUT_MS });
  }
}
