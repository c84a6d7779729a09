/** Makes the log of this process, by pino: lines in oslo.log's text or JSON, with everything secret taken out. */
import { isSpanContextValid, trace } from '@opentelemetry/api';
import pino from 'pino';
import { openLogFile, type LogFile } from './log-file';
import { osloJson, osloText } from './oslo';
import { parseRecord } from './record';
import { redact } from './redact';

/** What every part of the service logs through; parts make children of it with their own fields. */
export type Logger = pino.Logger;

/** Least severe lines that are written. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';

export interface LogOptions {
  readonly level: LogLevel;
  /** oslo's JSON instead of text. */
  readonly json?: boolean;
  /** File that lines are appended to. */
  readonly file?: string;
  /** Standard error, too. Without it and without a file, lines go to standard output. */
  readonly stderr?: boolean;
}

/** The log of a process and what can be changed about it while it is in use. */
export interface Log {
  readonly logger: Logger;
  /** From now on, for this logger and all its children. */
  readonly setLevel: (level: LogLevel) => void;
  /** Looks whether the file is still the one of that name, which otherwise happens every second. */
  readonly look: () => Promise<void>;
  /** Writes what is still in memory, for an end without warning. */
  readonly flush: () => void;
}

const LEVELS: Readonly<Record<LogLevel, number>> = {
  debug: 20,
  info: 30,
  warn: 40,
  error: 50,
  silent: Number.POSITIVE_INFINITY,
};

/** Opens the log. Lines are written without blocking and completed when the process exits. */
export function openLog(options: LogOptions): Log {
  let least = LEVELS[options.level];
  const file = options.file === undefined ? null : openLogFile(options.file);
  const outputs = [...(file === null ? [] : [file]), ...streams(options)];
  const format = options.json === true ? osloJson : osloText;
  const logger = pino(
    {
      // Children keep the level they are made with: the level that can change is asked for each line.
      level: 'debug',
      base: { pid: process.pid },
      mixin: traceOfThis,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: pino.stdSerializers.errWithCause, error: pino.stdSerializers.errWithCause },
      hooks: {
        logMethod(args, method, level) {
          if (level >= least) method.apply(this, args);
        },
        streamWrite: (line) => {
          const clean = redact(line);
          const record = parseRecord(clean);
          return record === null ? clean : format(record);
        },
      },
    },
    { write: (line: string) => outputs.forEach((output) => output.write(line)) },
  );
  return {
    logger,
    setLevel: (level) => (least = LEVELS[level]),
    look: async () => file?.look(),
    flush: () => outputs.forEach(flush),
  };
}

/** The trace that the line is part of, when traces are exported. */
function traceOfThis(): { readonly trace_id?: string } {
  const span = trace.getActiveSpan()?.spanContext();
  return span === undefined || !isSpanContextValid(span) ? {} : { trace_id: span.traceId };
}

function flush(output: Pick<LogFile, 'flushSync'>): void {
  try {
    output.flushSync();
  } catch {
    // Not open (yet): there is nowhere to write to.
  }
}

/** A log that nothing has to be changed about later. */
export function createLogger(options: LogOptions): Logger {
  return openLog(options).logger;
}

function streams({ file, stderr }: LogOptions): Pick<LogFile, 'write' | 'flushSync'>[] {
  if (stderr !== true && file !== undefined) return [];
  return [pino.destination({ dest: stderr === true ? 2 : 1, sync: false })];
}
