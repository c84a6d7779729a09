import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { redact } from '../../lib/log';

const ROOT = join(__dirname, '../..');
const TIME = /\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}/g;

let directory = '';
beforeEach(async () => (directory = await mkdtemp(join(tmpdir(), 'prebake-log-'))));
afterEach(async () => rm(directory, { recursive: true }));

/** What a process of its own logs; its end is part of the test: lines are complete when a process exits. */
async function logsOf(
  statements: string,
  options: { readonly json?: boolean; readonly stderr?: boolean } = {},
  toFile = true,
): Promise<{ text: string; lines: string[]; out: string; error: string }> {
  const file = join(directory, 'deep', 'prebake.log');
  const all = { level: 'info', ...options, ...(toFile ? { file } : {}) };
  const program = `
    const { openLog, logAbout, logOf } = require('./lib/log');
    const log = openLog(${JSON.stringify(all)});
    const { logger } = log;
    ${statements}`;
  const { stdout: out, stderr: error } = await promisify(execFile)(
    process.execPath,
    ['-r', './test/register-typescript.cjs', '-e', program],
    { cwd: ROOT, timeout: 9000 },
  );
  const text = toFile ? await readFile(file, 'utf8') : '';
  return { text, lines: text.trimEnd().split('\n'), out, error };
}

const TOKEN = `gAAAAABm${'x'.repeat(60)}-_Q==`;

describe('redact', () => {
  test.each([
    ['a JSON field', '{"user":"nova","password":"s3cret","id":1}', '{"user":"nova","password":"***","id":1}'],
    ['a header', '{"X-Auth-Token":"abc-def"}', '{"X-Auth-Token":"***"}'],
    ['a field of a context', '{"_context_auth_token":"abc"}', '{"_context_auth_token":"***"}'],
    [
      'JSON inside a JSON string',
      String.raw`{"body":"{\"adminPass\":\"hunter2\",\"a\":1}"}`,
      String.raw`{"body":"{\"adminPass\":\"***\",\"a\":1}"}`,
    ],
    ['a Fernet token in prose', `GET /v2 with ${TOKEN} failed`, 'GET /v2 with *** failed'],
    ['a broker URL', 'rabbit://nova:pa55@127.0.0.1:5672/nova', 'rabbit://nova:***@127.0.0.1:5672/nova'],
    [
      'each of several hosts',
      'rabbit://a:b@h1:1,rabbit://c:d@h2:2/v',
      'rabbit://a:***@h1:1,rabbit://c:***@h2:2/v',
    ],
  ])('takes the secret out of %s', (_what, text, expected) => {
    expect(redact(text)).toBe(expected);
  });

  test('leaves ordinary lines alone', () => {
    const line = '{"level":"info","msg":"tokens expire at 12:30, see http://127.0.0.1:8774/v2.1","keys":[1]}';
    expect(redact(line)).toBe(line);
  });
});

describe('a line', () => {
  const request = {
    requestId: 'req-1',
    globalRequestId: null,
    userId: 'u',
    projectId: 'p',
    userDomainId: 'default',
    projectDomainId: 'default',
  };

  test('looks as nova-compute writes it', async () => {
    const { text } = await logsOf(`
      logger.debug('not this');
      logger.info('stopping');
      const about = logAbout(logOf(logger, 'compute'), { context: ${JSON.stringify(request)}, instanceUuid: 'abc' });
      about.warn({ vcpus: 2, why: 'no µVM' }, 'spawning');`);
    expect(text.replaceAll(TIME, 'TIME').replaceAll(/ \d+ (?=INFO|WARNING)/g, ' PID ')).toBe(
      'TIME PID INFO prebake [-] stopping\n' +
        'TIME PID WARNING prebake.compute [None req-1 u p - - default default] [instance: abc] ' +
        'spawning (vcpus=2, why="no µVM")\n',
    );
  });

  test('stays one line, whatever is in it; an error has a line for each of its own', async () => {
    const { lines } = await logsOf(`
      logger.info('name\\nof a server\\u001b[2J');
      logger.error({ err: new Error('outer', { cause: new Error('inner') }), instance: 'abc' }, 'failed');`);
    expect(lines[0]).toMatch(/ name\\nof a server\\u001b\[2J$/);
    expect(lines[1]).toMatch(/ ERROR prebake \[-\] \[instance: abc\] failed$/);
    expect(lines.slice(2).every((line) => / ERROR prebake \[instance: abc\] /.test(line))).toBe(true);
    expect(lines.join('\n')).toMatch(/\] Error: outer\n[^]*\] caused by: Error: inner\n/);
  });

  test("is JSON with oslo's keys when that is wanted", async () => {
    const { lines } = await logsOf(
      `logAbout(logger, { context: ${JSON.stringify(request)}, instanceUuid: 'abc' }).warn({ vcpus: 2 }, 'spawning');`,
      { json: true },
    );
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({
      message: 'spawning',
      levelname: 'WARNING',
      levelno: 30,
      name: 'prebake',
      asctime: expect.stringMatching(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/) as string,
      context: { request_id: 'req-1', user_id: 'u', project_id: 'p' },
      instance_uuid: 'abc',
      extra: { vcpus: 2 },
    });
  });

  test.each([false, true])('has no secrets, nor have errors and their causes (json: %s)', async (json) => {
    const { text } = await logsOf(
      `const cause = new Error('refused ${TOKEN}');
      logger.error({ err: new Error('login failed', { cause }), password: 'hunter2' }, 'rabbit://n:pw@h/');`,
      { json },
    );
    expect(text).toContain('login failed');
    expect(text).toContain('refused ***');
    expect(text).not.toMatch(/hunter2|gAAAA|:pw@/);
  });

  test('is written or not as the level of the moment says, by children made before', async () => {
    const { lines } = await logsOf(`
      const child = logOf(logger, 'compute');
      child.debug('one'); log.setLevel('debug'); child.debug('two'); log.setLevel('info'); child.debug('three');`);
    expect(lines).toEqual([expect.stringMatching(/ DEBUG prebake\.compute \[-\] two$/)]);
  });
});

describe('where lines go', () => {
  test('a new file of the same name when the old one was moved away', async () => {
    const file = join(directory, 'deep', 'prebake.log');
    const { lines } = await logsOf(`
      const { existsSync, renameSync, readFileSync } = require('node:fs');
      const until = async (holds) => { while (!holds()) await new Promise((resolve) => setTimeout(resolve, 10)); };
      const has = (path, text) => existsSync(path) && readFileSync(path, 'utf8').includes(text);
      const file = ${JSON.stringify(file)};
      void (async () => {
        logger.info('before');
        await until(() => has(file, 'before'));
        renameSync(file, file + '.1');
        await until(() => (logger.info('soon'), existsSync(file)));
        logger.info('after');
        await until(() => has(file, 'after'));
        process.exit();
      })();`);
    expect(lines.at(-1)).toMatch(/after$/);
    expect(await readFile(`${file}.1`, 'utf8')).toMatch(/before\n/);
  });

  test.each([
    ['standard output without a file', {}, { out: / hello\n$/, error: /^$/ }],
    ['standard error when asked for', { stderr: true }, { out: /^$/, error: / hello\n$/ }],
  ])('%s', async (_what, options, expected) => {
    const { out, error } = await logsOf(`logger.info('hello');`, options, false);
    expect(out).toMatch(expected.out);
    expect(error).toMatch(expected.error);
  });
});
