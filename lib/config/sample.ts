/** A file with every option of one's own section, commented out, as oslo's config generator writes them. */
import { toSnakeCase } from './names';
import type { Fallback, Option } from './option';
import { SECTIONS } from './sections';

const HEAD = `# The options of prebake-compute that Nova does not have. It reads this file after /etc/nova/nova.conf;
# all others of Nova's options belong there. Check with: prebake config check

[prebake]
`;
const WIDTH = 100;

/** The text of a sample prebake.conf; every value in it is the default. */
export function sampleConfiguration(): string {
  const options = Object.entries(SECTIONS.prebake.options).map(([key, option]: [string, Option<unknown>]) => {
    const notes = [option.doc, `Takes ${option.expects}.`, ...(option.mutable ? ['Taken at SIGHUP.'] : [])];
    return `${wrap(notes.join(' '))}\n#${toSnakeCase(key)} = ${valueOf(option.fallback)}\n`;
  });
  return [HEAD, ...options].join('\n');
}

function valueOf(fallback: Fallback): string {
  return fallback.kind === 'text' ? fallback.text : '<unset>';
}

function wrap(text: string): string {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + word.length < WIDTH) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(`# ${word}`);
  }
  return lines.join('\n');
}
