/** What has the gate laid out alike in every bake: its modules are found without listing directories. */
import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';

const run = promisify(execFile);
const GUEST = join(__dirname, '..', '..', 'lib', 'bake', 'guest');
const TIMEOUT_MS = 30_000;

const PROBE = `
import alike

alike.start_over()
with open('/proc/self/environ') as file:
    started_with = file.read().split('\\0')
usual = alike.begin()
import sys

listed = []
sys.addaudithook(lambda event, args: listed.append(event) if event in ('os.listdir', 'os.scandir') else None)
import json
import email.mime.text
import sqlite3
import xml.etree.ElementTree

without_listing = not listed
missing = False
try:
    import there_is_no_such_module
except ImportError:
    missing = True
alike.end(usual)
import encodings.cp437
import os
print(json.dumps({
    'withoutListing': without_listing,
    'missing': missing,
    'finders': [getattr(finder, '__name__', type(finder).__name__) for finder in sys.meta_path],
    'siteIsDone': 'exit' in dir(__builtins__),
    'path': sys.path,
    'environment': sorted(os.environ),
    'argv': sys.argv,
    'libraryPath': [entry.partition('=')[2] for entry in started_with if entry.startswith('LD_LIBRARY_PATH=')],
}))
`;

const answerSchema = z.object({
  withoutListing: z.boolean(),
  missing: z.boolean(),
  finders: z.array(z.string()),
  siteIsDone: z.boolean(),
  path: z.array(z.string()),
  environment: z.array(z.string()),
  argv: z.array(z.string()),
  libraryPath: z.array(z.string()),
});

describe('the start of the gate', () => {
  it('lists no directory for its modules, and leaves the interpreter as any other', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'prebake-alike-'));
    try {
      const script = join(directory, 'probe.py');
      await copyFile(join(GUEST, 'alike.py'), join(directory, 'alike.py'));
      await writeFile(script, PROBE);
      const { stdout } = await run('python3', ['-B', script], {
        timeout: TIMEOUT_MS,
        env: { PATH: process.env['PATH'] ?? '', PYTHONHASHSEED: '0', INVOCATION_ID: 'abc' },
      });
      const { finders, path, environment, libraryPath, ...answer } = answerSchema.parse(JSON.parse(stdout));
      expect(answer).toEqual({ withoutListing: true, missing: true, siteIsDone: true, argv: [script] });
      expect(finders).toContain('PathFinder');
      expect(finders).not.toContain('Finder');
      expect(path.filter((folder) => folder.startsWith(directory))).toEqual([directory]);
      expect(environment).toContain('PYTHONHASHSEED');
      expect(environment).not.toContain('INVOCATION_ID');
      expect(environment).not.toContain('PYTHONPATH');
      expect(environment).not.toContain('LD_LIBRARY_PATH');
      // With this the loader does not come to its cache.
      expect(libraryPath).toHaveLength(1);
      const { stdout: trace } = await run('python3', ['-S', '-c', 'import ssl, sqlite3, ctypes'], {
        timeout: TIMEOUT_MS,
        env: {
          PATH: process.env['PATH'] ?? '',
          LD_LIBRARY_PATH: libraryPath.join(),
          LD_DEBUG: 'libs',
          LD_DEBUG_OUTPUT: join(directory, 'libs'),
        },
      }).then(() => run('sh', ['-c', 'cat "$1"/libs.*', 'sh', directory], { timeout: TIMEOUT_MS }));
      expect(trace).toContain('find library=libssl');
      expect(trace).not.toContain('search cache=');
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
