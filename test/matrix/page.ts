/** docs/support-matrix.md, made from the rows of Nova's matrix and the tests that show them. */
import type { Shown } from './annotations';
import type { Row } from './rows';

const INTRODUCTION = `# Support matrix

What Nova's own support matrix asks of a hypervisor driver, what Nova's libvirt driver does of it on x86, and what prebake
does, for servers started from a µVM and cold-booted ones alike. A row is _complete_ here only when a test on real parts
shows it; \`npm run support-matrix\` writes this page from the tests.
`;

/** The page. @throws Error for an annotation of a row that does not exist, and for a row that is neither shown nor explained */
export function supportMatrix(rows: readonly Row[], shown: readonly Shown[]): string {
  const keys = new Set(rows.map(({ key }) => key));
  const stray = shown.find(({ key }) => !keys.has(key));
  if (stray !== undefined) throw new Error(`${stray.file}: Nova's matrix has no row ${stray.key}`);
  const lines = rows.map((row) => {
    const tests = shown.filter(({ key }) => key === row.key);
    if (tests.length === 0 && row.without === undefined) {
      throw new Error(`${row.key} is neither shown by a test nor explained`);
    }
    const proof = tests.map(({ file, test }) => `[${escape(test)}](../${file})`).join('<br>');
    const remark = [proof, row.without ?? ''].filter((part) => part !== '').join('<br>');
    const state = tests.length === 0 ? 'no' : row.without === undefined ? 'complete' : 'partial';
    return `| ${escape(row.title)} | \`${row.key}\` | ${row.nova} | ${state} | ${remark} |`;
  });
  const complete = lines.filter((line) => line.includes('| complete | complete |')).length;
  const wanted = rows.filter(({ nova }) => nova === 'complete').length;
  return [
    INTRODUCTION,
    `Of the ${wanted} rows that Nova's libvirt driver completes, ${complete} are complete here.`,
    '',
    '| Feature | Row | Nova, libvirt on x86 | prebake | Shown by, or why not |',
    '| --- | --- | --- | --- | --- |',
    ...lines,
    '',
  ].join('\n');
}

function escape(text: string): string {
  return text.replace(/[|[\]<>]/g, (character) => `\\${character}`);
}
