/** Reads nova.conf: all files, all options of the table, all that is wrong at once. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { isIPv4 } from 'node:net';
import { join } from 'node:path';
import { describeError } from '../exceptions';
import { ConfigError, type ConfigProblem } from './errors';
import { IniSyntaxError, parseIni, type IniEntry } from './ini';
import { nearest, toSectionName, toSnakeCase } from './names';
import { OptionValueError, type Option } from './option';
import { RawConfig } from './raw-config';
import { SECTIONS } from './sections';

type Sections = typeof SECTIONS;
type Values<S extends { readonly options: object }> = {
  readonly [O in keyof S['options']]: S['options'][O] extends Option<infer T> ? T : never;
};

/** The configuration: `config.default.host`, `config.prebake.baseMemoryMb`. Units are in docs/configuration.md. */
export type Config = { readonly [S in keyof Sections]: Values<Sections[S]> };

type AnyOption = Option<unknown>;
interface Located {
  readonly section: string;
  readonly name: string;
  readonly option: AnyOption;
}

/** Options of keystoneauth that `auth_section` redirects. */
const AUTH_OPTIONS: ReadonlySet<string> = new Set([
  'auth_url',
  'username',
  'user_id',
  'password',
  'user_domain_name',
  'user_domain_id',
  'project_name',
  'project_id',
  'project_domain_name',
  'project_domain_id',
]);

/**
 * Reads the configuration. Later files win over earlier ones; a directory stands for the `*.conf` in it, by name.
 *
 * @throws ConfigError with everything that is wrong
 */
export async function loadConfig(paths: readonly string[]): Promise<Config> {
  const problems: ConfigProblem[] = [];
  const entries: IniEntry[] = [];
  for (const path of paths) entries.push(...(await readEntries(path, problems)));
  if (problems.length > 0) throw new ConfigError(problems);
  return interpret(entries, paths);
}

/** The configuration that assignments amount to; `paths` are named where an option is missing. @throws ConfigError */
export function interpret(entries: readonly IniEntry[], paths: readonly string[]): Config {
  const problems: ConfigProblem[] = [];
  const raw = new RawConfig(entries, defaultText);
  const where = paths.join(', ') || 'no file';
  const sections = Object.entries(SECTIONS).map(([key, { options }]) => {
    const section = toSectionName(key);
    const values = Object.entries(options).map(([optionKey, option]: [string, AnyOption]) => {
      const located = { section, name: toSnakeCase(optionKey), option };
      return [optionKey, readOption(raw, located, where, problems)];
    });
    return [key, Object.fromEntries(values)] as const;
  });
  problems.push(...unknownOptions(raw));
  if (problems.length > 0) throw new ConfigError(problems);
  // The table's types are those of its readers, entry by entry; Object.fromEntries cannot express that.
  const config = Object.fromEntries(sections) as unknown as Config;
  const unfit = crossCheck(config, where);
  if (unfit.length > 0) throw new ConfigError(unfit);
  return config;
}

async function readEntries(path: string, problems: ConfigProblem[]): Promise<IniEntry[]> {
  try {
    if ((await stat(path)).isDirectory()) {
      const names = (await readdir(path)).filter((name) => name.endsWith('.conf')).sort();
      const nested = await Promise.all(names.map((name) => readEntries(join(path, name), problems)));
      return nested.flat();
    }
    return parseIni(await readFile(path, 'utf8'), path);
  } catch (error) {
    problems.push(
      error instanceof IniSyntaxError
        ? { where: `${error.file}:${error.line}`, expected: error.expected }
        : { where: path, expected: `a file that can be read (${describeError(error)})` },
    );
    return [];
  }
}

function readOption(raw: RawConfig, located: Located, where: string, problems: ConfigProblem[]): unknown {
  const { name, option } = located;
  const section = AUTH_OPTIONS.has(name) ? authSection(raw, located.section) : located.section;
  const entry = raw.find(section, name);
  const at = entry === null ? where : `${entry.file}:${entry.line}`;
  let text: string | null = null;
  try {
    text = raw.text(section, name);
    // An option that may be unset is unset by an empty value, too.
    if (option.unset === null && (text === null || text.trim() === '')) return null;
    if (text === null) {
      problems.push({ where: at, section, option: name, expected: option.expects });
      return undefined;
    }
    return option.parse(text);
  } catch (error) {
    if (!(error instanceof OptionValueError)) throw error;
    const value = option.secret ? '***' : (text ?? entry?.value ?? '');
    problems.push({ where: at, section, option: name, value, expected: error.expected });
    return undefined;
  }
}

function authSection(raw: RawConfig, section: string): string {
  return raw.find(section, 'auth_section')?.value.toLowerCase() ?? section;
}

function defaultText(section: string, option: string): string | null {
  const fallback = findOption(section, option)?.fallback;
  switch (fallback?.kind) {
    case 'text':
      return fallback.text;
    case 'computed':
      return fallback.compute();
    case 'unset':
    case 'required':
    case undefined:
      return null;
  }
}

function findOption(section: string, name: string): AnyOption | undefined {
  const found = Object.entries(SECTIONS).find(([key]) => toSectionName(key) === section);
  const options: Record<string, AnyOption> = found?.[1].options ?? {};
  return Object.entries(options).find(([key]) => toSnakeCase(key) === name)?.[1];
}

/** Nova's sections may have anything; ours may not, since nobody else would notice a slip of the pen there. */
function unknownOptions(raw: RawConfig): ConfigProblem[] {
  const names = Object.keys(SECTIONS.prebake.options).map(toSnakeCase);
  return raw.all
    .filter((entry) => entry.section === 'prebake' && !names.includes(entry.option))
    .map((entry) => {
      const meant = nearest(entry.option, names);
      return {
        where: `${entry.file}:${entry.line}`,
        section: entry.section,
        option: entry.option,
        value: entry.value,
        expected: meant === null ? `one of ${names.join(', ')}` : `${meant} (did you mean that?)`,
      };
    });
}

/** What no option can know by itself. */
function crossCheck(config: Config, where: string): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  for (const section of ['placement', 'neutron'] as const) {
    const { authUrl, username, userId, password } = config[section];
    const needed = { auth_url: authUrl, username: username ?? userId, password };
    for (const [option, value] of Object.entries(needed)) {
      const expected = findOption(section, option)?.expects ?? 'a value';
      if (value === null) problems.push({ where, section, option, expected });
    }
  }
  const { sidecarListen, sidecarToken } = config.prebake;
  if (!isLoopback(sidecarListen.host) && sidecarToken === null) {
    const expected = `a token, since sidecar_listen (${sidecarListen.host}) is not on loopback: at least 16 characters`;
    problems.push({ where, section: 'prebake', option: 'sidecar_token', expected });
  }
  problems.push(...fileBackedMemoryProblems(config, where));
  const { baseMemoryMb, maxMemoryMb } = config.prebake;
  if (maxMemoryMb < baseMemoryMb) {
    problems.push({
      where,
      section: 'prebake',
      option: 'max_memory_mb',
      value: String(maxMemoryMb),
      expected: `at least base_memory_mb (${baseMemoryMb})`,
    });
  }
  return problems;
}

/** Files are no memory to be promised twice (nova/virt/libvirt/driver.py, _check_file_backed_memory_support). */
function fileBackedMemoryProblems(config: Config, where: string): ConfigProblem[] {
  const { fileBackedMemory } = config.libvirt;
  const { ramAllocationRatio, reservedHostMemoryMb } = config.default;
  if (fileBackedMemory === 0) return [];
  const problems: ConfigProblem[] = [];
  if (ramAllocationRatio !== 1) {
    const value = ramAllocationRatio === null ? {} : { value: String(ramAllocationRatio) };
    const expected = '1.0, since memory is in files (file_backed_memory)';
    problems.push({ where, section: 'DEFAULT', option: 'ram_allocation_ratio', ...value, expected });
  }
  if (fileBackedMemory <= reservedHostMemoryMb) {
    const expected = `more than reserved_host_memory_mb (${reservedHostMemoryMb})`;
    const value = String(fileBackedMemory);
    problems.push({ where, section: 'libvirt', option: 'file_backed_memory', value, expected });
  }
  return problems;
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}
