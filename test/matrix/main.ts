/** Prints docs/support-matrix.md: `npm run support-matrix` writes and formats it. */
import { annotatedTests } from './annotations';
import { supportMatrix } from './page';
import { ROWS } from './rows';

annotatedTests().then(
  (shown) => process.stdout.write(supportMatrix(ROWS, shown)),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  },
);
