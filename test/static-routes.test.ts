import test from 'ava';
import fc from 'fast-check';
import type { ListenOptions, ResolvedListenOptions, ResolvedStaticRoute, StaticRoute } from '../lib/config-types.js';
import { AioConfigError } from '../lib/errors.js';
import { resolveListenOptions } from '../lib/listen-options.js';
import { listenFieldError, PEM } from './helpers/option-errors.js';

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function resolve(options: Omit<ListenOptions, 'key' | 'cert'> = {}): ResolvedListenOptions {
  return resolveListenOptions({ ...PEM, ...options });
}

function routeOf(route: StaticRoute): ResolvedStaticRoute {
  const [resolved] = resolve({ staticRoutes: { '/x': route } }).staticRoutes;
  if (resolved === undefined) throw new Error('no route');
  return resolved;
}

function routeMessage(route: unknown): string {
  const error = listenFieldError('staticRoutes', { '/x': route });
  if (error.field !== 'staticRoutes') throw new Error(`the field is ${error.field}`);
  return error.message;
}

test('a static route has a status, headers and a body', (t) => {
  const route = routeOf({ status: 404, headers: { 'Content-Type': 'text/plain', 'X-Count': 5 }, body: 'none' });
  t.is(route.path, '/x');
  t.is(route.status, 404);
  t.deepEqual(route.headers, [
    ['content-type', 'text/plain'],
    ['x-count', '5'],
  ]);
  t.is(text(route.body), 'none');
  t.is(text(routeOf({ body: new Uint8Array([97]) }).body), 'a');
  t.is(text(routeOf({ body: new Uint8Array([97, 98]).buffer }).body), 'ab');
  t.is(routeOf({ body: null }).body.length, 0);
  t.is(routeOf({ status: 304 }).status, 304);
});

test('headers are an object, pairs or Headers; each value is a field of its own', (t) => {
  const expected = [
    ['set-cookie', 'a=1'],
    ['set-cookie', 'b=2'],
    ['x', '1'],
  ];
  const headers = new Headers();
  headers.append('Set-Cookie', 'a=1');
  headers.append('Set-Cookie', 'b=2');
  headers.append('X', '1');
  t.deepEqual(routeOf({ headers }).headers, expected);
  t.deepEqual(routeOf({ headers: { 'Set-Cookie': ['a=1', 'b=2'], X: 1 } }).headers, expected);
  t.deepEqual(routeOf({ headers: new Map(Object.entries({ X: '1' })) }).headers, [['x', '1']]);
  const pairs = [
    ['Set-Cookie', 'a=1'],
    ['Set-Cookie', ' b=2\t'],
    ['X', 1],
  ] as const;
  t.deepEqual(routeOf({ headers: pairs }).headers, expected);
  t.deepEqual(routeOf({ headers: { empty: '', latin: 'é', inner: 'a\t b' } }).headers, [
    ['empty', ''],
    ['latin', 'é'],
    ['inner', 'a\t b'],
  ]);
});

test("fields of a connection and the length are the engine's", (t) => {
  const headers = {
    Connection: 'close',
    'Keep-Alive': '5',
    'Proxy-Connection': 'x',
    'Transfer-Encoding': 'chunked',
    Upgrade: 'h2c',
    'Content-Length': 3,
    x: 'y',
  };
  t.deepEqual(routeOf({ headers, body: 'abc' }).headers, [['x', 'y']]);
  t.is(
    routeMessage({ headers, body: 'abcd' }),
    'staticRoutes "/x" headers content-length must be 4, the length of the body',
  );
});

test("a date is the engine's too, and refused", (t) => {
  const message = 'staticRoutes "/x" headers must have no date: sendDate says whether answers have one';
  for (const headers of [{ Date: 'today' }, { date: ['today'] }, [['DATE', 'today']], new Headers({ date: 'today' })]) {
    t.is(routeMessage({ headers }), message);
  }
  t.deepEqual(routeOf({ headers: { 'x-date': 'today' } }).headers, [['x-date', 'today']]);
});

test('a bad static route is an error of staticRoutes', (t) => {
  const blank = 'staticRoutes "/x"';
  const messages: readonly (readonly [unknown, string])[] = [
    [null, `${blank} must be a plain object, not null`],
    ['text', `${blank} must be a plain object, not a string`],
    [{ statsu: 200 }, `${blank} statsu is not a known option; did you mean status?`],
    [{ status: 199 }, `${blank} status must be between 200 and 599`],
    [{ status: 600 }, `${blank} status must be between 200 and 599`],
    [{ status: '200' }, `${blank} status must be a number, not a string`],
    [{ body: 5 }, `${blank} body must be a string, bytes or null, not a number`],
    [{ body: {} }, `${blank} body must be a string, bytes or null, not an object`],
    [{ status: 204, body: 'x' }, `${blank} body must be empty with status 204`],
    [{ status: 304, body: 'x' }, `${blank} body must be empty with status 304`],
    [{ headers: 'a: b' }, `${blank} headers must be an object, pairs or Headers, not a string`],
    [{ headers: null }, `${blank} headers must be an object, pairs or Headers, not null`],
    [{ headers: new Date() }, `${blank} headers must be an object, pairs or Headers, not an object`],
    [{ headers: [['a']] }, `${blank} headers must be pairs of a name and a value`],
    [{ headers: ['ab'] }, `${blank} headers must be pairs of a name and a value`],
    [{ headers: [[5, 'b']] }, `${blank} headers must have names that are tokens, not a number`],
    [{ headers: { a: true } }, `${blank} headers a must be a string or a number, not a boolean`],
    [{ headers: { a: undefined } }, `${blank} headers a must be a string or a number, not undefined`],
    [{ headers: { a: 'x'.repeat(16_384) } }, `${blank} headers must be at most 16KB`],
  ];
  for (const [route, message] of messages) t.is(routeMessage(route), message);
  for (const name of ['', 'a b', ':status', 'a\n', 'é', 'a:']) {
    t.is(
      routeMessage({ headers: { [name]: 'x' } }),
      `${blank} headers must have names that are tokens, not ${JSON.stringify(name)}`,
    );
  }
  for (const value of ['a\r\nb: c', 'a\nb', '\0', '\x7f', 'a\u0100']) {
    t.regex(routeMessage({ headers: { a: value } }), /^staticRoutes "\/x" headers a must have no CR, LF, NUL/);
  }
  for (const routes of [null, [], '/x', new Map()]) {
    t.regex(listenFieldError('staticRoutes', routes).message, /^staticRoutes must be a plain object of paths, not /);
  }
});

test('a static path is what a client sends', (t) => {
  for (const path of ['/', '/robots.txt', '/a/b/', '//a', '/%C3%A4', '/a%20b', "/!$&'()*+,;=:@-._~"]) {
    t.is(resolve({ staticRoutes: { [path]: {} } }).staticRoutes[0]?.path, path);
  }
  for (const path of ['', 'robots.txt', '*', '/a?b', '/a#b']) {
    t.is(
      listenFieldError('staticRoutes', { [path]: {} }).message,
      `staticRoutes ${JSON.stringify(path)} must be a path that begins with / and has no ? or #`,
    );
  }
  for (const [path, sent] of [
    ['/ä', '/%C3%A4'],
    ['/a b', '/a%20b'],
    ['/a/../b', '/b'],
    ['/./a', '/a'],
    ['/a\\b', '/a/b'],
    ['/a\n', '/a'],
  ] as const) {
    t.is(
      listenFieldError('staticRoutes', { [path]: {} }).message,
      `staticRoutes ${JSON.stringify(path)} must be a path as clients send it: ${JSON.stringify(sent)}`,
    );
  }
});

test('what getters and iterators throw is the cause of an error of ours', (t) => {
  const cause = new Error('no');
  const thrower = {
    get body(): string {
      throw cause;
    },
  };
  const endless = {
    [Symbol.iterator](): never {
      throw cause;
    },
  };
  for (const route of [thrower, { headers: endless }]) {
    const error = listenFieldError('staticRoutes', { '/x': route });
    t.is(error.field, 'staticRoutes');
    t.is(error.cause, cause);
  }
});

test('no header that a static route takes can break a line', (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (name, value) => {
      try {
        for (const [rendered, text] of routeOf({ headers: [[name, value]] }).headers) {
          t.regex(rendered, /^[!-9;-@[-~]+$/);
          t.notRegex(text, /[^\t -~\x80-\xff]|^[\t ]|[\t ]$/);
        }
      } catch (error) {
        t.true(error instanceof AioConfigError);
      }
    }),
    { numRuns: 1000 },
  );
});
