/**
 * The raw text of options over all files, with oslo.config's `$references` resolved. Knows nothing of kinds; what is not
 * in any file it takes from the table's defaults.
 */
import type { IniEntry } from './ini';
import { OptionValueError } from './option';

/** Python's string.Template with oslo's identifier, which may have dots: `$host`, `${placement.region_name}`, `$$`. */
const REFERENCE = /\$(?:(\$)|([_a-z][._a-z0-9]*)|\{([_a-z][._a-z0-9]*)\})/gi;

/** Text that an option has when no file sets it; null when it has none. */
export type DefaultText = (section: string, option: string) => string | null;

export class RawConfig {
  private readonly entries = new Map<string, IniEntry>();

  /** @param entries in the order of precedence: a later one wins */
  constructor(
    entries: readonly IniEntry[],
    private readonly defaultText: DefaultText,
  ) {
    for (const entry of entries) this.entries.set(keyOf(entry.section, entry.option), entry);
  }

  /** All options that are set, each in the place that won. */
  get all(): readonly IniEntry[] {
    return [...this.entries.values()];
  }

  /** Where an option is set, or null. */
  find(section: string, option: string): IniEntry | null {
    return this.entries.get(keyOf(section, option)) ?? null;
  }

  /**
   * The option's text, from a file or by default, references resolved; null when it has none.
   *
   * @throws OptionValueError for a reference to nothing or to itself
   */
  text(section: string, option: string): string | null {
    return this.resolve(section, option, []);
  }

  private resolve(section: string, option: string, path: readonly string[]): string | null {
    const key = keyOf(section, option);
    if (path.includes(key)) throw new OptionValueError('a value that does not refer to itself');
    const raw = this.entries.get(key)?.value ?? this.defaultText(section, option);
    if (raw === null) return null;
    return raw
      .replaceAll('\\$', '$$$$')
      .replace(REFERENCE, (_match, dollar?: string, bare?: string, braced?: string) =>
        dollar === undefined ? this.follow(bare ?? braced ?? '', section, [...path, key]) : '$',
      );
  }

  private follow(name: string, section: string, path: readonly string[]): string {
    const dot = name.indexOf('.');
    const found =
      (dot === -1
        ? this.resolve(section, name, path)
        : this.resolve(normalise(name.slice(0, dot)), name.slice(dot + 1), path)) ??
      (section === 'DEFAULT' && dot === -1 ? null : this.resolve('DEFAULT', name, path));
    if (found !== null) return found;
    throw new OptionValueError(`an option by the name of ${name} (write $$ for a dollar sign)`);
  }
}

function keyOf(section: string, option: string): string {
  return `${section}\n${option}`;
}

function normalise(section: string): string {
  return section === 'DEFAULT' ? section : section.toLowerCase();
}
