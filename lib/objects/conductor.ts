/**
 * The two calls through which a compute service reads and writes Nova's database: class methods and methods of an object
 * (nova/conductor/rpcapi.py, version 3.0).
 */
import { z } from 'zod';
import type { CallOptions, RequestContext, Target } from '../messaging';
import { ConductorAnswerError } from './errors';
import type { NovaObject } from './nova-object';
import { serialise } from './primitive';
import { deserialise } from './registry';
import { OBJECT_VERSIONS } from './versions';

const TARGET: Target = { topic: 'conductor', version: '3.0' };
const PING_TARGET: Target = { topic: 'conductor', version: '1.0', namespace: 'baseapi' };
const PING_TIMEOUT_MS = 10_000;

const pingSchema = z.looseObject({ service: z.string() });
const actionSchema = z.tuple([z.record(z.string(), z.unknown()), z.unknown()]);
const changedSchema = z.array(z.string()).optional();

/** The part of `Messaging` that is needed here. */
export interface ConductorTransport {
  call(target: Target, method: string, args: Record<string, unknown>, options: CallOptions): Promise<unknown>;
}

/**
 * nova-conductor. All methods reject with RemoteError (an exception of Nova's over there) or MessagingTimeout.
 */
export class Conductor {
  constructor(
    private readonly messaging: ConductorTransport,
    private readonly options: { readonly timeoutMs: number },
  ) {}

  /** Resolves once a conductor answers. */
  async ping(context: RequestContext, timeoutMs = PING_TIMEOUT_MS): Promise<void> {
    const answer = await this.messaging.call(
      PING_TARGET,
      'ping',
      { arg: '1.21 GigaWatts' },
      { context, timeoutMs },
    );
    if (!pingSchema.safeParse(answer).success) throw new ConductorAnswerError('a ping was answered oddly');
  }

  /** A class method such as `InstanceList.get_by_host`; the result has its objects deserialised. */
  async classAction(
    context: RequestContext,
    className: string,
    method: string,
    args: readonly unknown[] = [],
    kwargs: Readonly<Record<string, unknown>> = {},
  ): Promise<unknown> {
    const answer = await this.messaging.call(
      TARGET,
      'object_class_action_versions',
      {
        objname: className,
        objmethod: method,
        object_versions: OBJECT_VERSIONS,
        args: serialise(args),
        kwargs: serialise(kwargs),
      },
      { context, timeoutMs: this.options.timeoutMs },
    );
    return deserialise(answer);
  }

  /**
   * A method of an object such as `Instance.save`. What the conductor changed is taken over into `object`, whose changes
   * then count as stored; fields that were set meanwhile stay changed.
   *
   * @returns the method's result
   */
  async objectAction(
    context: RequestContext,
    object: NovaObject,
    method: string,
    args: readonly unknown[] = [],
    kwargs: Readonly<Record<string, unknown>> = {},
  ): Promise<unknown> {
    const sent = object.snapshotChanges();
    const answer = await this.messaging.call(
      TARGET,
      'object_action',
      {
        objinst: object.toPrimitive(),
        objmethod: method,
        args: serialise(args),
        kwargs: serialise(kwargs),
      },
      { context, timeoutMs: this.options.timeoutMs },
    );
    const checked = actionSchema.safeParse(answer);
    if (!checked.success) {
      throw new ConductorAnswerError(`${object.objectName}.${method} was answered oddly`, checked.error);
    }
    const { obj_what_changed: changed, ...updates } = checked.data[0];
    const stillChanged = changedSchema.safeParse(changed);
    object.acknowledge(
      sent,
      new Map(Object.entries(updates).map(([field, value]) => [field, deserialise(value)])),
      stillChanged.success ? (stillChanged.data ?? []) : [],
    );
    return deserialise(checked.data[1]);
  }
}
