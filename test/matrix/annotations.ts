/** Which tests show which rows of the support matrix: a comment `matrix: KEY, KEY` above a test, or a group of them, says so. */
import { readFile, readdir } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';

const ROOT = join(__dirname, '..', '..');
const ANNOTATION = /^\s*\/\/ matrix: (.+)$/;
const TEST = /^\s*(?:it|test|describe)(?:\.each\(.*)?\(\s*(['"`])(.*?)\1/;

/** A test that shows a row. */
export interface Shown {
  readonly key: string;
  /** Path from the repository's root, with slashes. */
  readonly file: string;
  readonly test: string;
}

/** All of them, by file. @throws Error for an annotation without a test below it */
export async function annotatedTests(): Promise<Shown[]> {
  const shown: Shown[] = [];
  for (const folder of ['test/functional', 'test/integration', 'test/unit']) {
    const entries = await readdir(join(ROOT, folder), { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile() && entry.name.endsWith('.test.ts'));
    for (const path of files.map((entry) => join(entry.parentPath, entry.name)).sort()) {
      const file = relative(ROOT, path).split(sep).join('/');
      shown.push(...annotationsIn(file, await readFile(path, 'utf8')));
    }
  }
  return shown;
}

/** The annotations of one file. @throws Error for one without a test below it */
export function annotationsIn(file: string, content: string): Shown[] {
  const lines = content.split('\n');
  return lines.flatMap((line, index) => {
    const keys = ANNOTATION.exec(line)?.[1];
    if (keys === undefined) return [];
    // A long head of a test has its title on a line of its own.
    const test = TEST.exec(lines.slice(index + 1, index + 3).join('\n'))?.[2];
    if (test === undefined) throw new Error(`${file}:${index + 1}: there is no test below 'matrix: ${keys}'`);
    return keys.split(',').map((key) => ({ key: key.trim(), file, test }));
  });
}
