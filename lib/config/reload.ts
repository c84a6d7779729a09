/** A configuration that was read again while the service runs: what can be taken over now, and what waits for a restart. */
import type { Config } from './load';
import { toSectionName, toSnakeCase } from './names';
import type { Option } from './option';
import { SECTIONS } from './sections';

/** What has changed, by name: `[prebake] bake`. */
export interface Reload {
  readonly taken: readonly string[];
  readonly needRestart: readonly string[];
}

/** Writes the changed mutable options of `fresh` into `config`, whose readers see them the next time they look. */
export function takeMutable(config: Config, fresh: Config): Reload {
  const taken: string[] = [];
  const needRestart: string[] = [];
  for (const [key, { options }] of Object.entries(SECTIONS)) {
    const before = valuesOf(config, key);
    const after = valuesOf(fresh, key);
    for (const [name, option] of Object.entries<Option<unknown>>(options)) {
      if (JSON.stringify(before[name]) === JSON.stringify(after[name])) continue;
      (option.mutable ? taken : needRestart).push(`[${toSectionName(key)}] ${toSnakeCase(name)}`);
      if (option.mutable) before[name] = after[name];
    }
  }
  return { taken, needRestart };
}

/** Readers of the configuration must not write to it; this file is the exception. */
function valuesOf(config: Config, section: string): Record<string, unknown> {
  return (config as unknown as Record<string, Record<string, unknown>>)[section] ?? {};
}
