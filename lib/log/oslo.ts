/**
 * The two looks that oslo.log gives a line: the text that nova-compute writes by default (ContextFormatter with the
 * default format strings) and the JSON of `use_json` (JSONFormatter). What collects Nova's logs reads ours.
 */
import { hostname } from 'node:os';
import type { LogRecord, RecordContext } from './record';

/** `2026-11-23 13:07:05.490 PID LEVEL name [global-request request user project ...] [instance: uuid] message`. */
export function osloText(record: LogRecord): string {
  const { pid, levelName, name, message, context, traceback } = record;
  const at = asctime(record.at, true);
  const instance = record.instanceUuid === null ? '' : `[instance: ${printable(record.instanceUuid)}] `;
  const subject = context === null ? '-' : identity(context);
  const lines = [
    `${at} ${pid} ${levelName} ${printable(name)} [${subject}] ${instance}${printable(message)}${fields(record.extra)}`,
    ...traceback.map((line) => `${at} ${pid} ERROR ${printable(name)} ${instance}${printable(line)}`),
  ];
  return `${lines.join('\n')}\n`;
}

/** One JSON object with oslo's keys; what only Python has (thread, line number) is left out. */
export function osloJson(record: LogRecord): string {
  const { context } = record;
  const created = record.at.getTime();
  return `${JSON.stringify({
    message: record.message,
    asctime: asctime(record.at, false),
    name: record.name,
    levelname: record.levelName,
    levelno: record.levelNumber,
    created: created / 1000,
    msecs: created % 1000,
    process: record.pid,
    hostname: hostname(),
    traceback: record.traceback.length === 0 ? null : record.traceback,
    error_summary: record.errorSummary,
    context:
      context === null
        ? {}
        : {
            request_id: context.requestId,
            global_request_id: context.globalRequestId,
            user_id: context.user,
            project_id: context.project,
            user_domain: context.userDomain,
            project_domain: context.projectDomain,
          },
    ...(record.instanceUuid === null ? {} : { instance_uuid: record.instanceUuid }),
    extra: record.extra,
  })}\n`;
}

/** Domain and system scope of the token are not known here: `-`, as in most of Nova's lines. */
function identity(context: RecordContext): string {
  const { globalRequestId, requestId, user, project, userDomain, projectDomain } = context;
  const scope = [user, project, null, null, userDomain, projectDomain].map((part) => part ?? '-');
  return [globalRequestId ?? 'None', requestId, ...scope].map(printable).join(' ');
}

/** Local time, as Python's logging writes it. */
function asctime(at: Date, withMs: boolean): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const date = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return `${date} ${time}${withMs ? `.${String(at.getMilliseconds()).padStart(3, '0')}` : ''}`;
}

const PLAIN = /^[\w.:@/+-]+$/;

function fields(extra: LogRecord['extra']): string {
  const shown = Object.entries(extra).map(([key, value]) => {
    const text = typeof value === 'string' && PLAIN.test(value) ? value : JSON.stringify(value);
    return `${key}=${text}`;
  });
  return shown.length === 0 ? '' : printable(` (${shown.join(', ')})`);
}

/** Without control characters: a line of the log is one line, whatever a guest or a user called something. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (character) => JSON.stringify(character).slice(1, -1));
}
