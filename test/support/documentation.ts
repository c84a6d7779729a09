/** The pages of the documentation, and the fenced blocks in them, for tests that hold them to what there is. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The repository. */
export const ROOT = join(__dirname, '..', '..');

/** README.md or a page of docs/. */
export interface Page {
  /** Relative to the repository. */
  readonly path: string;
  readonly text: string;
}

/** A block between ``` lines. */
export interface Fence {
  readonly page: string;
  /** What stands behind the opening marks: `sh run`. */
  readonly info: string;
  readonly text: string;
}

export async function documentationPages(): Promise<readonly Page[]> {
  const docs = (await readdir(join(ROOT, 'docs'))).filter((name) => name.endsWith('.md')).sort();
  const paths = ['README.md', ...docs.map((name) => join('docs', name))];
  return Promise.all(paths.map(async (path) => ({ path, text: await readFile(join(ROOT, path), 'utf8') })));
}

export function documentationFences(pages: readonly Page[]): readonly Fence[] {
  return pages.flatMap(({ path, text }) =>
    [...text.matchAll(/^```(.+)\n([^]*?)^```$/gm)].map(([, info = '', content = '']) => ({
      page: path,
      info,
      text: content,
    })),
  );
}
