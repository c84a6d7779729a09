/**
 * On whose behalf something is done: the `_context_*` keys of a message (nova/context.py). Keys that this program does
 * not know pass through, so that a call made while serving a request carries the request's own context.
 *
 * A context holds the user's token in clear: it never prints or serialises itself.
 */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';

const PREFIX = '_context_';

/** What osprofiler adds while a request is profiled. */
const profileSchema = z
  .looseObject({ base_id: z.uuid(), parent_id: z.uuid() })
  .transform(({ base_id, parent_id }) => ({ baseId: base_id, parentId: parent_id }));
/** The trace of a request and the step of it that sent the message, by their UUIDs. */
export type RequestProfile = z.infer<typeof profileSchema>;

export class RequestContext {
  readonly #values: ReadonlyMap<string, unknown>;

  private constructor(values: ReadonlyMap<string, unknown>) {
    this.#values = values;
  }

  /** The context in a received message. */
  static fromMessage(body: Readonly<Record<string, unknown>>): RequestContext {
    const values = new Map<string, unknown>();
    for (const key of Object.keys(body)) {
      if (key.startsWith(PREFIX)) values.set(key.slice(PREFIX.length), body[key]);
    }
    return new RequestContext(values);
  }

  /** The service's own context: an administrator that is no user, as nova.context.get_admin_context. */
  static admin(requestId = `req-${randomUUID()}`): RequestContext {
    return new RequestContext(
      new Map<string, unknown>([
        ['user', null],
        ['user_id', null],
        ['user_name', null],
        ['user_domain', null],
        ['user_identity', '- - - - -'],
        ['project', null],
        ['project_id', null],
        ['project_name', null],
        ['project_domain', null],
        ['domain', null],
        ['system_scope', null],
        ['is_admin', true],
        ['is_admin_project', true],
        ['read_only', false],
        ['show_deleted', false],
        ['read_deleted', 'no'],
        ['auth_token', null],
        ['request_id', requestId],
        ['global_request_id', null],
        ['resource_uuid', null],
        ['roles', []],
        ['remote_address', null],
        // Nova reads microseconds and no zone.
        ['timestamp', new Date().toISOString().replace('Z', '000')],
        ['quota_class', null],
        ['service_catalog', []],
      ]),
    );
  }

  /** The `_context_*` keys for a message. */
  toMessage(): Record<string, unknown> {
    return Object.fromEntries([...this.#values].map(([key, value]) => [`${PREFIX}${key}`, value]));
  }

  /** This context with administrator rights and, when `readDeleted`, sight of deleted records (Context.elevated). */
  elevated(readDeleted = false): RequestContext {
    const values = new Map(this.#values);
    values.set('is_admin', true);
    if (readDeleted) values.set('read_deleted', 'yes');
    return new RequestContext(values);
  }

  get requestId(): string {
    return this.text('request_id') ?? 'req-unknown';
  }
  get globalRequestId(): string | null {
    return this.text('global_request_id');
  }
  get userId(): string | null {
    return this.text('user_id');
  }
  get projectId(): string | null {
    return this.text('project_id');
  }
  get userDomainId(): string | null {
    return this.text('user_domain');
  }
  get projectDomainId(): string | null {
    return this.text('project_domain');
  }
  /** The user's Keystone token, null when a service acts by itself. */
  get authToken(): string | null {
    return this.text('auth_token');
  }
  get isAdmin(): boolean {
    return this.#values.get('is_admin') === true;
  }

  /** Where the request is traced by osprofiler; null when it is not, or not readably. */
  get profile(): RequestProfile | null {
    return profileSchema.safeParse(this.#values.get('trace_info')).data ?? null;
  }

  /** What may be logged. */
  toJSON(): Record<string, unknown> {
    return { requestId: this.requestId, projectId: this.projectId, userId: this.userId };
  }

  private text(key: string): string | null {
    const value = this.#values.get(key);
    return typeof value === 'string' ? value : null;
  }
}
