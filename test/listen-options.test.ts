import vm from 'node:vm';
import test from 'ava';
import fc from 'fast-check';
import type { ListenOptions, ResolvedListenOptions } from '../lib/config-types.js';
import { AioConfigError } from '../lib/errors.js';
import { LISTEN_FIELDS } from '../lib/limits.js';
import { resolveListenOptions } from '../lib/listen-options.js';
import { listenErrorOf, listenFieldError, PEM } from './helpers/option-errors.js';

const MIB = 1024 * 1024;

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function resolve(options: Omit<ListenOptions, 'key' | 'cert'> = {}): ResolvedListenOptions {
  return resolveListenOptions({ ...PEM, ...options });
}

test('key and certificate suffice', (t) => {
  const { key, cert, error503Body, ...rest } = resolve();
  t.is(text(key), 'a key');
  t.is(text(cert), 'a certificate');
  t.is(text(error503Body), 'Service Unavailable\n');
  t.deepEqual(rest, {
    contexts: [],
    ca: undefined,
    requestCert: false,
    rejectUnauthorized: true,
    reusePort: false,
    port: 0,
    host: '127.0.0.1',
    maxResponseBodySize: 64 * MIB,
    maxResponseStreamSize: Number.POSITIVE_INFINITY,
    bodyMode: 'buffer',
    onError: undefined,
    staticRoutes: [],
    health: undefined,
    sendDate: true,
  });
});

test('undefined means the default', (t) => {
  const options = Object.fromEntries(LISTEN_FIELDS.map((field) => [field, undefined]));
  t.deepEqual(resolveListenOptions({ ...options, ...PEM }), resolve());
});

test('every option is taken over', (t) => {
  const onError = (): void => {};
  const resolved = resolveListenOptions({
    key: Buffer.from('k'),
    cert: new Uint8Array([99]),
    contexts: { '*.A.example': { key: 'k', cert: 'c' } },
    ca: ['a', Buffer.from('b')],
    requestCert: true,
    rejectUnauthorized: false,
    reusePort: true,
    port: 65_535,
    host: '::1',
    maxResponseBodySize: 10,
    error503Body: new Uint8Array([98]),
    bodyMode: 'stream',
    onError,
    staticRoutes: { '/a': {} },
    health: { live: '/l', ready: '/r', port: 0, jsStallTimeoutMs: 5000 },
    sendDate: false,
  });
  t.deepEqual(resolved, {
    key: new Uint8Array([107]),
    cert: new Uint8Array([99]),
    contexts: [{ name: '*.a.example', key: new Uint8Array([107]), cert: new Uint8Array([99]) }],
    ca: new Uint8Array([97, 10, 98, 10]),
    requestCert: true,
    rejectUnauthorized: false,
    reusePort: true,
    port: 65_535,
    host: '::1',
    maxResponseBodySize: 10,
    maxResponseStreamSize: 10,
    error503Body: new Uint8Array([98]),
    bodyMode: 'stream',
    onError,
    staticRoutes: [{ path: '/a', status: 200, headers: [], body: new Uint8Array(0) }],
    health: { live: '/l', ready: '/r', port: 0, jsStallTimeoutMs: 5000 },
    sendDate: false,
  });
});

test('the result is frozen, and its bytes are copies', (t) => {
  const key = Buffer.from('secret');
  const body = new ArrayBuffer(3);
  const resolved = resolveListenOptions({
    ...PEM,
    key,
    staticRoutes: { '/a': { body, headers: { a: 'b' } } },
    health: {},
  });
  key.fill(0);
  new Uint8Array(body).fill(1);
  t.is(text(resolved.key), 'secret');
  t.deepEqual(resolved.staticRoutes[0]?.body, new Uint8Array(3));
  const [route] = resolved.staticRoutes;
  for (const part of [resolved, resolved.staticRoutes, route, route?.headers, route?.headers[0], resolved.health]) {
    t.true(Object.isFrozen(part));
  }
});

test('options must be a plain object', (t) => {
  for (const [value, kind] of [
    [undefined, 'undefined'],
    [null, 'null'],
    [[], 'an array'],
    [8443, 'a number'],
    [new URL('https://localhost'), 'an instance of a class'],
  ] as const) {
    const error = listenErrorOf(value);
    t.is(error.message, `options must be a plain object, not ${kind}`);
    t.is(error.field, 'options');
  }
  t.is(text(resolveListenOptions(vm.runInNewContext("({ key: 'k', cert: 'c' })") as ListenOptions).key), 'k');
});

test('an unknown key is an error with the nearest known name', (t) => {
  t.is(listenErrorOf({ ...PEM, certificate: 1 }).field, 'certificate');
  t.is(listenErrorOf({ ...PEM, prot: 1 }).message, 'prot is not a known option; did you mean port?');
  t.is(listenErrorOf({ ...PEM, hostname: '::' }).message, 'hostname is not a known option; did you mean host?');
  t.is(
    listenErrorOf({ ...PEM, maxRequestBodySize: 5 }).message,
    'maxRequestBodySize is an option of start(), not of listen()',
  );
  t.is(listenErrorOf(JSON.parse('{ "key": "k", "cert": "c", "__proto__": {} }')).field, '__proto__');
});

test('key and cert are strings or bytes, and required', (t) => {
  for (const field of ['key', 'cert'] as const) {
    t.regex(listenFieldError(field, undefined).message, new RegExp(`^${field} is required: `));
    for (const value of [
      null,
      5,
      {},
      ['pem'],
      new ArrayBuffer(2),
      new Uint16Array(2),
      new DataView(new ArrayBuffer(2)),
    ]) {
      const error = listenFieldError(field, value);
      t.is(error.field, field);
      t.is(error.value, value);
      t.regex(error.message, new RegExp(`^${field} must be the \\S+( key)? in PEM, a string or bytes, not `));
    }
  }
});

test('port is between 0 and 65,535', (t) => {
  t.is(resolve({ port: 0 }).port, 0);
  t.is(resolve({ port: -0 }).port, 0);
  for (const port of [-1, 65_536]) t.is(listenFieldError('port', port).message, 'port must be between 0 and 65,535');
  t.is(listenFieldError('port', '8443').message, 'port must be a number, not a string');
  t.is(listenFieldError('port', 84.43).message, 'port must be an integer, not 84.43');
  t.is(listenFieldError('port', null).message, 'port must be a number, not null');
});

test('host is an address or a name', (t) => {
  for (const host of ['0.0.0.0', '::', 'fe80::1%eth0', 'localhost', 'my_host.example'])
    t.is(resolve({ host }).host, host);
  for (const host of ['', '[::1]', 'https://localhost', 'a b', 'a\0b', 'a/b', 'a'.repeat(256)]) {
    t.is(listenFieldError('host', host).message, 'host must be an IP address or a host name, without brackets');
  }
  for (const host of [null, 0, ['::']]) t.is(listenFieldError('host', host).field, 'host');
});

test('maxResponseBodySize bounds streams only where it is set', (t) => {
  const sizes = (maxResponseBodySize: number | undefined): readonly number[] => {
    const resolved = resolve({ maxResponseBodySize });
    return [resolved.maxResponseBodySize, resolved.maxResponseStreamSize];
  };
  t.deepEqual(sizes(undefined), [64 * MIB, Number.POSITIVE_INFINITY]);
  t.deepEqual(sizes(0), [64 * MIB, Number.POSITIVE_INFINITY]);
  t.deepEqual(sizes(1), [1, 1]);
  t.deepEqual(sizes(64 * MIB), [64 * MIB, 64 * MIB]);
  t.deepEqual(sizes(Number.MAX_SAFE_INTEGER), [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER]);
  t.deepEqual(sizes(Number.POSITIVE_INFINITY), [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]);
  for (const value of [-1, 1.5, Number.NaN, Number.NEGATIVE_INFINITY, 2 ** 53]) {
    const { message } = listenFieldError('maxResponseBodySize', value);
    t.is(message, 'maxResponseBodySize must be a positive integer or Infinity');
  }
  t.is(listenFieldError('maxResponseBodySize', '64MB').message, 'maxResponseBodySize must be a number, not a string');
});

test('error503Body is a string or bytes of 64 KiB at most', (t) => {
  t.is(text(resolve({ error503Body: 'später' }).error503Body), 'später');
  t.is(resolve({ error503Body: '' }).error503Body.length, 0);
  t.is(resolve({ error503Body: new Uint8Array(65_536) }).error503Body.length, 65_536);
  t.is(listenFieldError('error503Body', 'ä'.repeat(32_769)).message, 'error503Body must be at most 64KB');
  for (const value of [null, 5, {}]) t.is(listenFieldError('error503Body', value).field, 'error503Body');
});

test('bodyMode, onError and sendDate', (t) => {
  t.is(resolve({ bodyMode: 'buffer' }).bodyMode, 'buffer');
  for (const value of ['Stream', '', null, true]) {
    t.is(listenFieldError('bodyMode', value).message, "bodyMode must be 'buffer' or 'stream'");
  }
  for (const value of [null, 'log', {}])
    t.regex(listenFieldError('onError', value).message, /^onError must be a function, not /);
  for (const value of [null, 0, 'no']) {
    t.regex(listenFieldError('sendDate', value).message, /^sendDate must be true or false, not /);
  }
});

test('health: two paths, a port, a bound', (t) => {
  t.deepEqual(resolve({ health: {} }).health, {
    live: '/livez',
    ready: '/readyz',
    port: undefined,
    jsStallTimeoutMs: 30_000,
  });
  const messages: readonly (readonly [unknown, string])[] = [
    [true, 'health must be a plain object, not a boolean'],
    [null, 'health must be a plain object, not null'],
    [{ lives: '/' }, 'health lives is not a known option; did you mean live?'],
    [{ 'a b': 1 }, 'health key "a b" is not a known option; the known ones are live, ready, port, jsStallTimeoutMs'],
    [{ live: 'livez' }, 'health live must be a path that begins with / and has no ? or #'],
    [{ ready: null }, 'health ready must be a path that begins with / and has no ? or #'],
    [{ live: '/readyz' }, 'health live and ready must be two paths'],
    [{ port: 70_000 }, 'health port must be between 0 and 65,535'],
    [{ port: null }, 'health port must be a number, not null'],
    [{ jsStallTimeoutMs: 0 }, 'health jsStallTimeoutMs must be between 1 and 86,400,000'],
    [{ jsStallTimeoutMs: '30s' }, 'health jsStallTimeoutMs must be a number, not a string'],
  ];
  for (const [health, message] of messages) {
    const error = listenFieldError('health', health);
    t.is(error.message, message);
    t.is(error.field, 'health');
  }
});

test('health has a port and paths that nothing else has', (t) => {
  t.is(listenErrorOf({ ...PEM, port: 8443, health: { port: 8443 } }).field, 'health');
  t.is(resolve({ port: 0, health: { port: 0 } }).health?.port, 0);
  const staticRoutes = { '/readyz': { body: 'ready' } };
  t.is(listenErrorOf({ ...PEM, staticRoutes, health: {} }).message, 'health path /readyz is one of staticRoutes too');
  // On a listener of its own nothing stands in the way.
  t.is(resolve({ staticRoutes, health: { port: 0 } }).staticRoutes.length, 1);
});

test('whatever it is given, it returns complete options or throws its error', (t) => {
  const anything = fc.dictionary(fc.oneof(fc.constantFrom(...LISTEN_FIELDS), fc.string()), fc.anything());
  fc.assert(
    fc.property(anything, fc.boolean(), (options, withPem) => {
      try {
        const resolved = resolveListenOptions({ ...options, ...(withPem ? PEM : {}) } as ListenOptions);
        t.deepEqual(Object.keys(resolved).length, LISTEN_FIELDS.length + 1);
      } catch (error) {
        if (!(error instanceof AioConfigError)) throw error;
        t.is(error.field, error.message.split(' ')[0] ?? '');
      }
    }),
    { numRuns: 1000 },
  );
});
