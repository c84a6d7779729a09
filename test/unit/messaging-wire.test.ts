/** The wire format of oslo.messaging, without a broker. */
import { inspect } from 'node:util';
import { ImageNotFound, NotImplementedError } from '../../lib/exceptions';
import { isRemoteError, MalformedMessage, RequestContext, TransportUrlError } from '../../lib/messaging';
import { BACK_OFF_MAX_MS, backOffMs } from '../../lib/messaging/back-off';
import { findHandler, isVersionCompatible } from '../../lib/messaging/dispatcher';
import { decodeReply, decodeRequest, encode, MAX_BODY_BYTES } from '../../lib/messaging/envelope';
import { deserialiseFailure, serialiseFailure } from '../../lib/messaging/failure';
import { RecentIds } from '../../lib/messaging/recent-ids';
import { parseTransportUrl } from '../../lib/messaging/transport-url';
import type { Endpoint } from '../../lib/messaging';
import { recordedMessages } from '../support/rpc-recordings';

type Json = Record<string, unknown>;

describe('the envelope', () => {
  test('of every recorded message is read, and nothing is lost', () => {
    for (const { message } of recordedMessages) {
      if (message.method === undefined) {
        expect(decodeReply(encode(message))).toEqual(message);
      } else {
        const { namespace = null, _msg_id = null, _reply_q = null, _timeout = null } = message;
        const filled = { ...message, namespace, _msg_id, _reply_q, _timeout };
        expect(decodeRequest(encode(message))).toEqual(filled);
      }
    }
  });

  test('has JSON in JSON', () => {
    expect(JSON.parse(encode({ a: 'µ' }).toString())).toEqual({
      'oslo.version': '2.0',
      'oslo.message': '{"a":"µ"}',
    });
  });

  test.each([
    ['no JSON', Buffer.from('{"oslo.version": "2.0", secret'), 'a message is not JSON'],
    ['no envelope', Buffer.from('{"method": "ping"}'), 'is not an oslo envelope'],
    ['another envelope', Buffer.from('{"oslo.version":"3.0","oslo.message":"{}"}'), 'oslo.version'],
    ['no JSON inside', Buffer.from('{"oslo.version":"2.0","oslo.message":"{"}'), 'a message is not JSON'],
    ['a list inside', Buffer.from('{"oslo.version":"2.0","oslo.message":"[]"}'), 'is not an oslo request'],
    ['no method', encode({ args: {} }), 'method'],
    ['args that are none', encode({ method: 'm', args: [1] }), 'args'],
    ['an odd version', encode({ method: 'm', version: 'latest' }), 'version'],
    ['too much', Buffer.alloc(MAX_BODY_BYTES + 1, ' '), 'too large'],
    ['no UTF-8', Buffer.from([0xff, 0xfe]), 'a message is not JSON'],
    ['nothing', Buffer.alloc(0), 'a message is not JSON'],
  ])('with %s is refused', (_name, content, message) => {
    expect(() => decodeRequest(content)).toThrow(MalformedMessage);
    expect(() => decodeRequest(content)).toThrow(message);
    expect(() => decodeRequest(content)).not.toThrow('secret');
  });

  test('that was cut anywhere is refused', () => {
    const whole = encode({ method: 'm', args: { text: 'x' } });
    for (let length = 0; length < whole.length; length += 1) {
      expect(() => decodeRequest(whole.subarray(0, length))).toThrow(MalformedMessage);
    }
  });
});

describe('a context', () => {
  const message = recordedMessages.find((recorded) => recorded.message.method === 'build_and_run_instance');

  test('passes through', () => {
    const body = message?.message ?? {};
    const keys = Object.entries(body).filter(([key]) => key.startsWith('_context_'));
    const context = RequestContext.fromMessage({ ...body, _context_novelty: [1] });
    expect(context.toMessage()).toEqual({ ...Object.fromEntries(keys), _context_novelty: [1] });
    expect(context).toMatchObject({ isAdmin: true, authToken: 'not-recorded' });
    expect(context.requestId).toMatch(/^req-/);
  });

  test("of the service's own has what nova-compute sends", () => {
    const ping = recordedMessages.find((recorded) => recorded.message.method === 'ping')?.message ?? {};
    const recorded = Object.entries(ping).filter(([key]) => key.startsWith('_context_'));
    const own = RequestContext.admin('req-1').toMessage();
    expect(Object.keys(own).sort()).toEqual(recorded.map(([key]) => key).sort());
    expect(own._context_timestamp).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$/);
    expect(own).toEqual({
      ...Object.fromEntries(recorded),
      _context_request_id: 'req-1',
      _context_timestamp: own._context_timestamp,
    });
  });

  test('never shows its token', () => {
    const context = RequestContext.fromMessage({ _context_auth_token: 'gAAAAsecret', _context_user_id: 'u' });
    expect(context.authToken).toBe('gAAAAsecret');
    expect(JSON.stringify({ context }) + inspect(context, { depth: 9 })).not.toContain('secret');
  });

  test('can be raised', () => {
    const context = RequestContext.fromMessage({ _context_is_admin: false, _context_read_deleted: 'no' });
    expect(context.elevated().isAdmin).toBe(true);
    expect(context.elevated(true).toMessage()._context_read_deleted).toBe('yes');
    expect(context.isAdmin).toBe(false);
  });
});

describe('a failure', () => {
  const failures = recordedMessages.flatMap(({ message }) =>
    typeof message.failure === 'string' ? [message.failure] : [],
  );

  test('of the conductor is known by its class, and goes on as it came', () => {
    expect(failures.length).toBeGreaterThan(0);
    for (const text of failures) {
      const error = deserialiseFailure(text);
      expect(isRemoteError(error, 'ComputeHostNotFound')).toBe(true);
      expect(isRemoteError(error, 'InstanceNotFound')).toBe(false);
      expect(error.remoteModule).toBe('nova.exception');
      expect(JSON.parse(serialiseFailure(error, 'req-1'))).toEqual(JSON.parse(text));
    }
  });

  test("goes out under Nova's name", () => {
    expect(JSON.parse(serialiseFailure(new ImageNotFound('no image x'), 'req-1'))).toEqual({
      class: 'ImageNotFound',
      module: 'nova.exception',
      message: 'no image x',
      args: ['no image x'],
      kwargs: { code: 404 },
      tb: [],
    });
    const builtin = JSON.parse(serialiseFailure(new NotImplementedError('no'), 'req-1')) as Json;
    expect(builtin).toMatchObject({ class: 'NotImplementedError', module: 'builtins', kwargs: {} });
  });

  test('of any other kind tells nothing of the inside', () => {
    const text = serialiseFailure(new TypeError('x.password is undefined'), 'req-7');
    expect(JSON.parse(text)).toMatchObject({ class: 'Exception', module: 'builtins', tb: [] });
    expect(text).toContain('req-7');
    expect(text).not.toContain('password');
  });

  test.each(['', 'oops', '[]', '{"class": 1}'])('that cannot be read (%j) is still one', (text) => {
    expect(deserialiseFailure(text).message).toBe('the call failed, and the failure could not be read');
  });
});

describe('the dispatcher', () => {
  const handler = () => Promise.resolve(null);
  const endpoints: Endpoint[] = [
    { versions: ['6.1', '5.13'], methods: new Map([['stop_instance', handler]]) },
    { namespace: 'baseapi', versions: ['1.1'], methods: new Map([['ping', handler]]) },
  ];

  test.each([
    ['6.1', '6.0', true],
    ['6.1', '6.1', true],
    ['6.1', '6.2', false],
    ['6.1', '5.0', false],
    ['5.13', '5.9', true],
    ['1.9', '1.10', false],
  ])('accepting %s serves %s: %s', (accepted, version, compatible) => {
    expect(isVersionCompatible(accepted, version)).toBe(compatible);
  });

  test('finds by namespace, version and name', () => {
    expect(findHandler(endpoints, { method: 'stop_instance', version: '5.3' })).toBe(handler);
    expect(findHandler(endpoints, { method: 'ping', version: '1.0', namespace: 'baseapi' })).toBe(handler);
    const unserved = [
      { method: 'ping', version: '6.0' },
      { method: 'stop_instance', version: '7.0' },
      { method: 'stop_instance', version: '6.0', namespace: 'baseapi' },
      { method: 'constructor', version: '6.0' },
    ];
    const classes = unserved.map((request) => {
      try {
        findHandler(endpoints, request);
        return 'found';
      } catch (error) {
        return (JSON.parse(serialiseFailure(error, 'req-1')) as Json).class;
      }
    });
    expect(classes).toEqual(['NoSuchMethod', 'UnsupportedVersion', 'UnsupportedVersion', 'NoSuchMethod']);
  });
});

describe('a transport URL', () => {
  const host = (hostname: string, port = 5672, username = 'u', password = 'p') => ({
    hostname,
    port,
    username,
    password,
  });

  test.each([
    ['rabbit://u:p@h1:5673/nova', { tls: false, virtualHost: 'nova', hosts: [host('h1', 5673)] }],
    ['rabbit://u:p@h1,u:p@h2:5673/', { tls: false, virtualHost: '/', hosts: [host('h1'), host('h2', 5673)] }],
    ['rabbit://u:p@h1', { tls: false, virtualHost: '/', hosts: [host('h1')] }],
    ['rabbits://u:p@h1//a?ssl=1', { tls: true, virtualHost: '/a', hosts: [host('h1', 5671)] }],
    ['rabbit://u:p@[::1]:5673/%2Fx', { tls: false, virtualHost: '/x', hosts: [host('::1', 5673)] }],
    [
      'rabbit://a%40b:p%2F%3A%2C@h',
      { tls: false, virtualHost: '/', hosts: [host('h', 5672, 'a@b', 'p/:,')] },
    ],
    ['rabbit://u:a:b@h', { tls: false, virtualHost: '/', hosts: [host('h', 5672, 'u', 'a:b')] }],
    ['rabbit://h/v', { tls: false, virtualHost: 'v', hosts: [host('h', 5672, 'guest', 'guest')] }],
  ])('%s is understood', (url, address) => {
    expect(parseTransportUrl(url)).toEqual(address);
  });

  test.each([
    'kafka://u:secret@h',
    'rabbit:///nova',
    'u:secret@h',
    'rabbit://u:secret@h:0',
    'rabbit://u:secret@h:99999',
    'rabbit://u:secret%@h',
    'rabbit://u:secret@/v',
    'rabbit://u:secret@[::1',
    '',
  ])('%j is refused, without its password', (url) => {
    expect(() => parseTransportUrl(url)).toThrow(TransportUrlError);
    expect(() => parseTransportUrl(url)).not.toThrow('secret');
  });
});

test('the back-off doubles up to its bound and never falls below half', () => {
  const longest = Array.from({ length: 12 }, (_, attempt) => backOffMs(attempt, () => 0.999999));
  const shortest = Array.from({ length: 12 }, (_, attempt) => backOffMs(attempt, () => 0));
  expect(longest.slice(0, 4)).toEqual([250, 500, 1000, 2000]);
  expect(longest.at(-1)).toBe(BACK_OFF_MAX_MS);
  for (const [index, value] of shortest.entries()) expect(value).toBe((longest[index] ?? 0) / 2);
  expect(backOffMs(10_000, () => 0.5)).toBeLessThanOrEqual(BACK_OFF_MAX_MS);
});

test('recent ids are remembered, old ones forgotten', () => {
  const recent = new RecentIds(2);
  expect(['a', 'a', 'b', 'c', 'a', 'c'].map((id) => recent.add(id))).toEqual([
    true,
    false,
    true,
    true,
    true,
    false,
  ]);
});
