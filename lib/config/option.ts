/** Kinds of options: how a value is read, what it may be, and how that is said to the operator. */
import { isIP } from 'node:net';

/** A value that an option does not take. */
export class OptionValueError extends Error {
  constructor(readonly expected: string) {
    super(`expected ${expected}`);
    this.name = 'OptionValueError';
  }
}

/** What is known about one option. */
export interface Option<T> {
  /** What it takes, in words: `an integer of at least 1`. */
  readonly expects: string;
  readonly doc: string;
  /** Taken when no file has the option: text is read like a file's, `$references` included; null stands for itself. */
  readonly fallback: Fallback;
  /** Never shown. */
  readonly secret: boolean;
  /** @throws OptionValueError */
  readonly parse: (raw: string) => T;
  /** Reads null, for options that may be left unset. */
  readonly unset: T | undefined;
  /** Whether a running service takes a new value at SIGHUP: whoever uses it reads it anew each time. */
  readonly mutable: boolean;
}

export type Fallback =
  | { readonly kind: 'text'; readonly text: string }
  /** Found out on the host; `words` describes it in the documentation. */
  | { readonly kind: 'computed'; readonly words: string; readonly compute: () => string }
  | { readonly kind: 'unset' }
  | { readonly kind: 'required' };

/** Default of an option: a value in the file's notation, null for unset, or `required`. */
type Default = string | number | boolean | null | typeof required | Extract<Fallback, { kind: 'computed' }>;

/** Marks an option that every file must have. */
export const required: unique symbol = Symbol('required');

/** `T`, and null when that is the default. */
type WithDefault<T, D> = D extends null ? T | null : T;

interface Spec<D extends Default> {
  readonly default: D;
  readonly doc: string;
  readonly mutable?: true;
}

function option<T, D extends Default>(
  spec: Spec<D>,
  expects: string,
  parse: (raw: string) => T,
  secret = false,
): Option<WithDefault<T, D>> {
  return {
    expects,
    doc: spec.doc,
    fallback: toFallback(spec.default),
    secret,
    parse: parse,
    mutable: spec.mutable ?? false,
    unset: (spec.default === null ? null : undefined) as WithDefault<T, D> | undefined,
  };
}

function toFallback(value: Default): Fallback {
  if (value === null) return { kind: 'unset' };
  if (value === required) return { kind: 'required' };
  if (typeof value === 'object') return value;
  return { kind: 'text', text: String(value) };
}

/** A default that is found out on the host. */
export function computed(words: string, compute: () => string): Extract<Fallback, { kind: 'computed' }> {
  return { kind: 'computed', words, compute };
}

/** Any text. */
export function text<const D extends Default>(
  spec: Spec<D> & { readonly secret?: true; readonly pattern?: RegExp; readonly expects?: string },
): Option<WithDefault<string, D>> {
  const expects = spec.expects ?? 'text';
  return option(
    spec,
    expects,
    (raw) => {
      if (spec.pattern !== undefined && !spec.pattern.test(raw)) throw new OptionValueError(expects);
      return raw;
    },
    spec.secret ?? false,
  );
}

/** An absolute path. */
export function path<const D extends Default>(spec: Spec<D>): Option<WithDefault<string, D>> {
  return text({ ...spec, pattern: /^\//, expects: 'an absolute path' });
}

/** An http or https URL. */
export function url<const D extends Default>(spec: Spec<D>): Option<WithDefault<string, D>> {
  const expects = 'an http:// or https:// URL';
  return option(spec, expects, (raw) => {
    if (!URL.canParse(raw) || !/^https?:$/.test(new URL(raw).protocol)) throw new OptionValueError(expects);
    return raw;
  });
}

interface Range {
  readonly min?: number;
  readonly max?: number;
}

/** A whole number. */
export function integer<const D extends Default>(spec: Spec<D> & Range): Option<WithDefault<number, D>> {
  return ranged(spec, 'an integer', /^[+-]?\d+$/);
}

/** A number. */
export function decimal<const D extends Default>(spec: Spec<D> & Range): Option<WithDefault<number, D>> {
  return ranged(spec, 'a number', /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i);
}

function ranged<D extends Default>(
  spec: Spec<D> & Range,
  kind: string,
  pattern: RegExp,
): Option<WithDefault<number, D>> {
  const { min, max } = spec;
  const expects =
    min !== undefined && max !== undefined
      ? `${kind} between ${min} and ${max}`
      : min !== undefined
        ? `${kind} of at least ${min}`
        : max !== undefined
          ? `${kind} of at most ${max}`
          : kind;
  return option(spec, expects, (raw) => {
    const value = pattern.test(raw.trim()) ? Number(raw) : NaN;
    if (!Number.isFinite(value) || value < (min ?? -Infinity) || value > (max ?? Infinity)) {
      throw new OptionValueError(expects);
    }
    return value;
  });
}

const TRUE = new Set(['true', '1', 'on', 'yes']);
const FALSE = new Set(['false', '0', 'off', 'no']);

/** true, 1, on, yes or false, 0, off, no; in any case. */
export function boolean<const D extends Default>(spec: Spec<D>): Option<WithDefault<boolean, D>> {
  const expects = 'true or false';
  return option(spec, expects, (raw) => {
    const word = raw.trim().toLowerCase();
    if (!TRUE.has(word) && !FALSE.has(word)) throw new OptionValueError(expects);
    return TRUE.has(word);
  });
}

/** Words separated by commas. */
export function list<const D extends Default>(spec: Spec<D>): Option<WithDefault<readonly string[], D>> {
  return option(spec, 'a list separated by commas', (raw) =>
    raw
      .split(',')
      .map((item) => item.trim())
      .filter((item) => item !== ''),
  );
}

/** One of a few words. */
export function choice<const C extends string, const D extends C | null>(
  choices: readonly C[],
  spec: Spec<D>,
): Option<WithDefault<C, D>> {
  const expects = `one of ${choices.join(', ')}`;
  return option(spec, expects, (raw) => {
    const found = choices.find((item) => item === raw);
    if (found === undefined) throw new OptionValueError(expects);
    return found;
  });
}

/** An address to listen on. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** `address:port`, an IPv6 address in brackets. */
export function listenAddress<const D extends Default>(spec: Spec<D>): Option<WithDefault<ListenAddress, D>> {
  const expects = 'address:port with an IP address or localhost, such as 127.0.0.1:8790';
  return option(spec, expects, (raw) => {
    const parts = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(raw.trim());
    const host = parts?.[1] ?? parts?.[2] ?? '';
    const port = Number(parts?.[3]);
    if ((isIP(host) === 0 && host !== 'localhost') || !(port <= 65_535)) throw new OptionValueError(expects);
    return { host, port };
  });
}
