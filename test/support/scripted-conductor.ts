/** A nova-conductor that says yes: takes every save and remembers it, answers class methods as a test tells it to. */
import type { ConductorTransport } from '../../lib/objects';

/** A method of an object that was called, with the fields that were sent as changed. */
export interface ObjectCall {
  /** `Instance.save` */
  readonly method: string;
  readonly changes: readonly string[];
  readonly data: Readonly<Record<string, unknown>>;
  readonly kwargs: Readonly<Record<string, unknown>>;
}

interface Primitive {
  readonly 'nova_object.name': string;
  readonly 'nova_object.data': Readonly<Record<string, unknown>>;
  readonly 'nova_object.changes'?: readonly string[];
}

export class ScriptedConductor implements ConductorTransport {
  readonly objectCalls: ObjectCall[] = [];
  /** `InstanceActionEvent.event_start` and the like, in order. */
  readonly classCalls: string[] = [];

  /**
   * @param answers to class methods by `Class.method`; null where there is none
   * @param refuse may throw for an object call, as a conductor whose database says no
   */
  constructor(
    private readonly answers: Readonly<Record<string, unknown>> = {},
    private readonly refuse: (call: ObjectCall) => void = () => undefined,
  ) {}

  call(_target: unknown, method: string, args: Record<string, unknown>): Promise<unknown> {
    if (method === 'object_class_action_versions') {
      const name = `${String(args.objname)}.${String(args.objmethod)}`;
      this.classCalls.push(name);
      return Promise.resolve(this.answers[name] ?? null);
    }
    const object = args.objinst as Primitive;
    const call: ObjectCall = {
      method: `${object['nova_object.name']}.${String(args.objmethod)}`,
      changes: [...(object['nova_object.changes'] ?? [])],
      data: object['nova_object.data'],
      kwargs: args.kwargs as Readonly<Record<string, unknown>>,
    };
    this.objectCalls.push(call);
    try {
      this.refuse(call);
    } catch (error) {
      return Promise.reject(error instanceof Error ? error : new Error(String(error)));
    }
    return Promise.resolve([{ obj_what_changed: [] }, null]);
  }

  /** What was written with each call of a method: only the named fields, and the expected task states. */
  writes(method: string, ...fields: readonly string[]): Record<string, unknown>[] {
    return this.objectCalls
      .filter((call) => call.method === method)
      .map(({ changes, data, kwargs }) => ({
        ...Object.fromEntries(
          fields.filter((field) => changes.includes(field)).map((field) => [field, data[field]]),
        ),
        ...(kwargs.expected_task_state === undefined ? {} : { expected: kwargs.expected_task_state }),
      }));
  }
}
