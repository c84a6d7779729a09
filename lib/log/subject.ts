/** What a line is about: a part of the program, a user's request, a server. By the names oslo.log gives them. */
import type { Logger } from './logger';

/** On whose behalf something is done; `RequestContext` is one. */
export interface LogContext {
  readonly requestId: string;
  readonly globalRequestId: string | null;
  readonly userId: string | null;
  readonly projectId: string | null;
  readonly userDomainId: string | null;
  readonly projectDomainId: string | null;
}

/** Fields that tie a line to a request of a user and to a server. */
export interface LogSubject {
  readonly context?: LogContext;
  readonly instanceUuid?: string;
}

/** A logger whose lines carry the request and the server they are about. */
export function logAbout(logger: Logger, { context, instanceUuid }: LogSubject): Logger {
  return logger.child({
    ...(context === undefined
      ? {}
      : {
          request_id: context.requestId,
          global_request_id: context.globalRequestId,
          user: context.userId,
          project: context.projectId,
          user_domain: context.userDomainId,
          project_domain: context.projectDomainId,
        }),
    ...(instanceUuid === undefined ? {} : { instance_uuid: instanceUuid }),
  });
}

/** The logger of a part of the program: what Python would call the module (`prebake.compute`). */
export function logOf(logger: Logger, part: string): Logger {
  return logger.child({ name: `prebake.${part}` });
}
