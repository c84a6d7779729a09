/** One finished line of pino, taken apart for the formats it is shown in. */
import { z } from 'zod';

/** How bad it is, by Python's names and numbers. */
const LEVELS = {
  trace: ['DEBUG', 10],
  debug: ['DEBUG', 10],
  info: ['INFO', 20],
  warn: ['WARNING', 30],
  error: ['ERROR', 40],
  fatal: ['CRITICAL', 50],
} as const;

interface LoggedError {
  readonly message?: string | undefined;
  readonly stack?: string | undefined;
  readonly cause?: LoggedError | undefined;
}
const errorSchema: z.ZodType<LoggedError> = z.lazy(() =>
  z.looseObject({
    message: z.string().optional(),
    stack: z.string().optional(),
    cause: errorSchema.optional().catch(undefined),
  }),
);
const text = z.string().nullish().catch(null);

const lineSchema = z.looseObject({
  level: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal']),
  time: z.number(),
  pid: z.number(),
  name: text,
  msg: text,
  request_id: text,
  global_request_id: text,
  user: text,
  project: text,
  user_domain: text,
  project_domain: text,
  instance_uuid: text,
  // Some lines have the server by this name, as oslo.log knows it, too.
  instance: text,
  err: errorSchema.optional().catch(undefined),
  error: errorSchema.optional().catch(undefined),
});

/** The request a line belongs to. */
export interface RecordContext {
  readonly requestId: string;
  readonly globalRequestId: string | null;
  readonly user: string | null;
  readonly project: string | null;
  readonly userDomain: string | null;
  readonly projectDomain: string | null;
}

/** A line of the log. */
export interface LogRecord {
  readonly at: Date;
  readonly pid: number;
  readonly levelName: string;
  readonly levelNumber: number;
  /** What Python would call the module. */
  readonly name: string;
  readonly message: string;
  readonly context: RecordContext | null;
  readonly instanceUuid: string | null;
  /** Lines of the stack of an error and of its causes; empty without one. */
  readonly traceback: readonly string[];
  /** Message of that error. */
  readonly errorSummary: string;
  /** Everything else that the line carries. */
  readonly extra: Readonly<Record<string, unknown>>;
}

/** Takes a line apart; null for what is not one of pino's. */
export function parseRecord(line: string): LogRecord | null {
  const parsed = lineSchema.safeParse(jsonOf(line));
  if (!parsed.success) return null;
  const { level, time, pid, name, msg, request_id, global_request_id, instance_uuid, ...rest } = parsed.data;
  const { user, project, user_domain, project_domain, instance, err, error, ...extra } = rest;
  const [levelName, levelNumber] = LEVELS[level];
  const failure = err ?? error;
  return {
    at: new Date(time),
    pid,
    levelName,
    levelNumber,
    name: name ?? 'prebake',
    message: msg ?? failure?.message ?? '',
    context:
      typeof request_id !== 'string'
        ? null
        : {
            requestId: request_id,
            globalRequestId: global_request_id ?? null,
            user: user ?? null,
            project: project ?? null,
            userDomain: user_domain ?? null,
            projectDomain: project_domain ?? null,
          },
    instanceUuid: instance_uuid ?? instance ?? null,
    traceback: failure === undefined ? [] : tracebackOf(failure),
    errorSummary: failure?.message ?? '',
    extra,
  };
}

function jsonOf(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

function tracebackOf(error: LoggedError): string[] {
  const own = (error.stack ?? error.message ?? '').split('\n');
  const { cause } = error;
  if (cause === undefined) return own;
  const [first = '', ...rest] = tracebackOf(cause);
  return [...own, `caused by: ${first}`, ...rest];
}
