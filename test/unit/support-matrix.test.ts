/** The page of what is supported says what the tests show, now. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { annotatedTests, annotationsIn } from '../matrix/annotations';
import { supportMatrix } from '../matrix/page';
import { ROWS } from '../matrix/rows';

/** Prettier pads the columns of tables. */
function withoutPadding(page: string): string {
  return page.replace(/ +/g, ' ').replace(/-{3,}/g, '---');
}

test('docs/support-matrix.md is what `npm run support-matrix` writes', async () => {
  const page = await readFile(join(__dirname, '../../docs/support-matrix.md'), 'utf8');
  expect(withoutPadding(page)).toBe(withoutPadding(supportMatrix(ROWS, await annotatedTests())));
});

test('an annotation names the test below it, whose rows must exist', () => {
  const shown = annotationsIn(
    'a.test.ts',
    "// matrix: operation.pause, operation.unpause\nit('rests', () => {\n",
  );
  expect(shown).toEqual([
    { key: 'operation.pause', file: 'a.test.ts', test: 'rests' },
    { key: 'operation.unpause', file: 'a.test.ts', test: 'rests' },
  ]);
  expect(() => annotationsIn('a.test.ts', '// matrix: operation.pause\nconst a = 1;\n')).toThrow(
    /no test below/,
  );
  const stray = { key: 'operation.fly', file: 'a.test.ts', test: 'flies' };
  expect(() => supportMatrix(ROWS, [stray])).toThrow(/no row operation.fly/);
});

test('a row that no test shows has to be explained', () => {
  const row = { key: 'operation.pause', title: 'Pause', nova: 'complete' } as const;
  expect(() => supportMatrix([row], [])).toThrow(/neither shown by a test nor explained/);
  expect(supportMatrix([{ ...row, without: 'Never.' }], [])).toContain('| complete | no | Never. |');
});
