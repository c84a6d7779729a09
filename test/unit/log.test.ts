import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { redact } from '../../lib/log';

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

describe('createLogger', () => {
  let directory = '';
  beforeEach(async () => (directory = await mkdtemp(join(tmpdir(), 'prebake-log-'))));
  afterEach(async () => rm(directory, { recursive: true }));

  /** A process of its own, since what is tested is also that lines are complete when a process exits. */
  async function logsOf(statements: string): Promise<Record<string, unknown>[]> {
    const file = join(directory, 'deep', 'prebake.log');
    const setup = `
      const { transformFileSync } = require('@swc/core');
      const { code } = transformFileSync(${JSON.stringify(join(__dirname, '../../lib/log.ts'))}, {
        jsc: { parser: { syntax: 'typescript' }, target: 'es2022' }, module: { type: 'commonjs' } });
      const log = { exports: {} };
      new Function('module', 'exports', 'require', code)(log, log.exports, require);
      const { createLogger, logAbout } = log.exports;
      const logger = createLogger({ level: 'info', file: ${JSON.stringify(file)} });
      ${statements}`;
    await promisify(execFile)(process.execPath, ['-e', setup], {
      cwd: join(__dirname, '../..'),
      timeout: 8000,
    });
    const text = await readFile(file, 'utf8');
    return text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  test('writes JSON lines with level, time and the subject, and nothing below its level', async () => {
    const lines = await logsOf(`
      logger.debug('not this');
      logAbout(logger, { requestId: 'req-1', instanceUuid: 'u-1' }).info({ vcpus: 2 }, 'spawning');`);
    expect(lines).toEqual([
      expect.objectContaining({
        level: 'info',
        msg: 'spawning',
        request_id: 'req-1',
        instance_uuid: 'u-1',
        vcpus: 2,
      }),
    ]);
    expect(Date.parse(String(lines[0]?.['time']))).not.toBeNaN();
  });

  test('masks secrets in fields, messages and errors with causes', async () => {
    const lines = await logsOf(`
      const cause = new Error('refused ${TOKEN}');
      logger.error({ err: new Error('login failed', { cause }), password: 'hunter2' }, 'rabbit://n:pw@h/');`);
    const text = JSON.stringify(lines);
    expect(text).toContain('login failed');
    expect(text).toContain('refused ***');
    expect(text).not.toMatch(/hunter2|gAAAA|:pw@/);
  });
});
