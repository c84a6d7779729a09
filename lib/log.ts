/** The log of this program: what a line looks like and where it goes. What is worth a line is others' business. */
export { type Log, type Logger, type LogLevel, type LogOptions, createLogger, openLog } from './log/logger';
export { redact } from './log/redact';
export { type LogSubject, logAbout, logOf } from './log/subject';
