/**
 * The service's log: one JSON object per line, by pino, with everything secret taken out of the finished line.
 *
 * It decides how a line looks and where it goes, not what is worth a line.
 */
import pino from 'pino';

/** What every part of the service logs through; parts make children of it with their own fields. */
export type Logger = pino.Logger;

/** Least severe lines that are written. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';

export interface LogOptions {
  readonly level: LogLevel;
  /** File that lines are appended to (its folder is made if missing); standard output without it. */
  readonly file?: string;
}

/** Fields that tie a line to a request of a user and to a server, by the names oslo.log gives them. */
export interface LogSubject {
  readonly requestId?: string | undefined;
  readonly globalRequestId?: string | undefined;
  readonly instanceUuid?: string | undefined;
}

const MASK = '***';
/** Matches `"password":"..."` and its like, as JSON or as JSON inside a JSON string (quotes escaped). */
const SECRET_FIELD =
  /((?:\\*)"[\w$.-]*(?:pass(?:word|wd)?|secret|auth[_-]?token|x-auth-token|x-service-token|subject-token|admin_?pass|private_key|authorization)\\*"\s*:\s*\\*")(?:[^"\\]|\\[^"])+/gi;
/** Fernet tokens of Keystone, wherever they appear. */
const FERNET_TOKEN = /\bgAAAA[\w-]{20,}=*/g;
/** The password in `rabbit://user:password@host`. */
const URL_PASSWORD = /(\b[a-z][a-z0-9+.-]*:\/\/[^\s:@/"\\]*:)[^\s@/"\\]+@/gi;

/** Removes passwords and tokens from a piece of text, JSON or not. */
export function redact(text: string): string {
  return text
    .replace(SECRET_FIELD, `$1${MASK}`)
    .replace(FERNET_TOKEN, MASK)
    .replace(URL_PASSWORD, `$1${MASK}@`);
}

/** Makes the log of this process. Lines are written without blocking and completed when the process exits. */
export function createLogger(options: LogOptions): Logger {
  const destination = pino.destination({ dest: options.file ?? 1, mkdir: true, sync: false });
  return pino(
    {
      level: options.level,
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: pino.stdSerializers.errWithCause, error: pino.stdSerializers.errWithCause },
      hooks: { streamWrite: redact },
    },
    destination,
  );
}

/** A logger whose lines carry the request and the server they are about. */
export function logAbout(logger: Logger, subject: LogSubject): Logger {
  return logger.child({
    ...(subject.requestId === undefined ? {} : { request_id: subject.requestId }),
    ...(subject.globalRequestId === undefined ? {} : { global_request_id: subject.globalRequestId }),
    ...(subject.instanceUuid === undefined ? {} : { instance_uuid: subject.instanceUuid }),
  });
}
