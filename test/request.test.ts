import { inspect } from 'node:util';
import test from 'ava';
import fc from 'fast-check';
import type { AbortCause } from '../lib/exchange.js';
import { createRequest } from '../lib/request.js';
import { ConnectionView } from '../lib/request-connection.js';
import { hasValidTarget, targetUrl } from '../lib/request-url.js';
import { CONNECTION, FakeExchange } from './helpers/fake-exchange.js';
import { make, POST } from './helpers/requests.js';

function headOf(path: string, authority = 'localhost', scheme = 'https'): string {
  return `GET\n${scheme}\n${authority}\n${path}\nx-fields\n/a#b\n`;
}

test('a request is a Request with its method, URL and headers', (t) => {
  const { request } = make(POST);
  t.true(request instanceof Request);
  t.is(request.constructor, Request);
  t.is(Object.prototype.toString.call(request), '[object Request]');
  t.is(request.method, 'POST');
  t.is(request.url, 'https://localhost:8443/form?a=b');
  t.is(request.headers.get('Content-Type'), 'text/plain');
  t.is(request.headers, request.headers);
  t.deepEqual(Object.keys(request), []);
});

test('members that are not of a server have the values of a fresh Request', (t) => {
  const { request } = make();
  const fresh = new Request('https://localhost/');
  const names = [
    'cache',
    'credentials',
    'destination',
    'duplex',
    'integrity',
    'keepalive',
    'mode',
    'redirect',
  ] as const;
  for (const name of names) t.is(request[name], fresh[name], name);
  t.is(request.referrer, fresh.referrer);
  t.is(request.referrerPolicy, fresh.referrerPolicy);
});

test('a request shows its method and URL in logs', (t) => {
  t.regex(inspect(make(POST).request), /^Request \{.*'POST'.*localhost:8443\/form/s);
});

test('any method is given as it was sent', (t) => {
  for (const method of ['GET', 'HEAD', 'DELETE', 'PATCH', 'QUERY', 'TRACE', 'CONNECT', 'get', 'M-SEARCH', '(odd)']) {
    const { request } = make({ method });
    t.is(request.method, method);
    t.is(request.headers.get('x'), null);
  }
});

test('headers are searched and listed alike', (t) => {
  const { request } = make(POST);
  const { headers } = request;
  t.is(headers.get('x-twice'), '1, 2');
  t.is(headers.get('X-TWICE'), '1, 2');
  t.is(headers.get('cookie'), 'a=b; c=d');
  t.is(headers.get('absent'), null);
  t.true(headers.has('cookie'));
  t.false(headers.has('1'));
  t.throws(() => headers.get('bad name'), { instanceOf: TypeError });
  const expected = [
    ['content-type', 'text/plain'],
    ['cookie', 'a=b; c=d'],
    ['x-twice', '1, 2'],
  ];
  t.deepEqual([...headers], expected);
  t.deepEqual([...make(POST).request.headers.entries()], expected);
  t.deepEqual([...new Headers(make(POST).request.headers)], expected);
  t.deepEqual([...new Response(null, { headers: make(POST).request.headers }).headers], expected);
  t.deepEqual(
    [...make(POST).request.headers.keys()],
    expected.map(([name]) => name),
  );
  t.deepEqual(
    [...make(POST).request.headers.values()],
    expected.map(([, value]) => value),
  );
  const each: string[][] = [];
  make(POST).request.headers.forEach((value, name) => void each.push([name, value]));
  t.deepEqual(each, expected);
  t.true(headers instanceof Headers);
  t.regex(inspect(make(POST).request.headers), /'x-twice': '1, 2'/);
});

test("a value that reads like another field's name is not taken for one", (t) => {
  const { request } = make({
    fields: [
      ['a', 'b'],
      ['b', 'c'],
      ['c', ''],
    ],
  });
  t.is(request.headers.get('b'), 'c');
  t.is(request.headers.get('c'), '');
  t.is(request.headers.get(''.padEnd(1, 'a')), 'b');
});

test('changed headers stay changed, in copies too', (t) => {
  for (const early of [true, false]) {
    const { request } = make(POST);
    if (early) request.headers.get('cookie');
    else t.is(request.mode, 'cors');
    request.headers.set('x-new', '1');
    request.headers.append('x-twice', '3');
    request.headers.delete('cookie');
    const expected = [
      ['content-type', 'text/plain'],
      ['x-new', '1'],
      ['x-twice', '1, 2, 3'],
    ];
    t.deepEqual([...request.headers], expected);
    t.deepEqual([...new Request(request).headers], expected);
    request.headers.delete('x-twice');
    t.deepEqual([...request.clone().headers], expected.slice(0, 2));
    t.deepEqual(request.headers.getSetCookie(), []);
  }
});

test('the URL is serialised as WHATWG has it', (t) => {
  const cases: [authority: string, path: string, url: string][] = [
    ['localhost:443', '/', 'https://localhost/'],
    ['EXAMPLE.com', '/A', 'https://example.com/A'],
    ['b\xc3\xbccher.example', '/', 'https://xn--bcher-kva.example/'],
    ['0x7f.1', '/', 'https://127.0.0.1/'],
    ['127.0.0.1:8080', '/', 'https://127.0.0.1:8080/'],
    ['[::0001]:8443', '/', 'https://[::1]:8443/'],
    ['a.', '/', 'https://a./'],
    ['h', '/a/../b/./c', 'https://h/b/c'],
    ['h', '/a/%2E%2e/b', 'https://h/b'],
    ['h', '//a//b', 'https://h//a//b'],
    ['h', '/a b"<>`{}', 'https://h/a%20b%22%3C%3E%60%7B%7D'],
    ['h', "/?a='b'", 'https://h/?a=%27b%27'],
    ['h', '/\xc3\xa9?\xc3\xa9', 'https://h/%C3%A9?%C3%A9'],
    ['h', '/\\a', 'https://h//a'],
    ['h', '/?', 'https://h/?'],
    ['h', '*', 'https://h/*'],
  ];
  for (const [authority, path, url] of cases) {
    const head = headOf(path, authority);
    t.true(hasValidTarget(head), authority + path);
    t.is(targetUrl(head), url);
    t.is(targetUrl(head), url, 'again');
    const same = Buffer.from(head, 'latin1').toString('latin1');
    t.true(hasValidTarget(same));
    t.is(targetUrl(same), url, 'of an equal head');
    t.true(hasValidTarget(headOf('/other', 'other')));
    t.is(targetUrl(head), url, 'after another');
    t.is(createRequest(new FakeExchange({ authority, path })).url, url);
  }
  t.is(targetUrl(headOf('/', 'h:80', 'HTTP')), 'http://h/');
});

test('a target that makes no URL is found', (t) => {
  const authorities = [
    '',
    'a b',
    'a/b',
    'a?b',
    'a#b',
    'a\\b',
    'user@h',
    'u:p@h',
    '1.2.3.400',
    '[::1',
    'h:99999',
    'h:x',
    'a%',
  ];
  for (const authority of [...authorities, 'a\tb', '@h', '\xff']) {
    t.false(hasValidTarget(headOf('/', authority)), JSON.stringify(authority));
  }
  for (const path of ['', 'a', '*a', '/#', '/a#b', '?a', 'https://h/']) t.false(hasValidTarget(headOf(path)), path);
  t.throws(() => targetUrl(headOf('/#')), { instanceOf: TypeError });
  for (const scheme of ['ftp', '', 'httpss', 'javascript']) t.false(hasValidTarget(headOf('/', 'h', scheme)), scheme);
  t.true(hasValidTarget(headOf('/')));
});

const targets = fc.record({
  authority: fc.oneof(
    fc.string({ unit: fc.constantFrom(...'abz019.-_:xn%A') }),
    fc.ipV4(),
    fc.ipV4Extended(),
    fc.webAuthority(),
    fc.string({ unit: fc.constantFrom('0', '1', '256', '.', '08', '0x1', 'a') }),
  ),
  path: fc.oneof(
    fc.string({ unit: fc.constantFrom(...'/.%2eEaZ~!$&\'()*+,;=:@?[]|^`{}"<>\\ -_') }),
    fc.webPath(),
    fc.webQueryParameters().map((query) => `/?${query}`),
  ),
});

test('the URL of any target is that of new URL', (t) => {
  fc.assert(
    fc.property(targets, ({ authority, path }) => {
      let expected: string | null = null;
      try {
        expected = new URL(`https://${authority}/${path}`).href;
      } catch {
        // No URL.
      }
      const head = headOf(`/${path}`, authority);
      if (expected === null || authority === '' || /[@/?#\\]/.test(authority)) return !hasValidTarget(head);
      return path.includes('#') ? !hasValidTarget(head) : hasValidTarget(head) && targetUrl(head) === expected;
    }),
    { numRuns: 3000 },
  );
  t.pass();
});

test('the signal aborts when the stream ends early', (t) => {
  const names: Record<AbortCause, string> = {
    reset: 'AbortError',
    closed: 'AbortError',
    timeout: 'TimeoutError',
    stopped: 'AbortError',
    limit: 'AbortError',
  };
  for (const [cause, name] of Object.entries(names)) {
    const { request, exchange } = make(POST);
    const { signal } = request;
    t.true(signal instanceof AbortSignal);
    t.is(request.signal, signal);
    let told = 0;
    signal.addEventListener('abort', () => {
      told += 1;
    });
    t.false(signal.aborted);
    exchange.abort(cause as AbortCause);
    t.true(signal.aborted);
    t.is(told, 1);
    t.true(signal.reason instanceof DOMException);
    t.is((signal.reason as DOMException).name, name);
    t.throws(() => signal.throwIfAborted(), { any: true });
  }
  const { request, exchange } = make(POST);
  exchange.abort('reset');
  t.true(request.signal.aborted);
  t.true(new Request(request).signal.aborted);
});

test('signals of clones and of requests made from a request follow', (t) => {
  for (const touched of [false, true]) {
    const { request, exchange } = make({ ...POST, body: 'a' });
    if (touched) t.false(request.signal.aborted);
    const clone = request.clone();
    const derived = new Request(request, { headers: { a: 'b' } });
    t.false(clone.signal.aborted || derived.signal.aborted);
    exchange.abort('reset');
    t.true(clone.signal.aborted, 'clone');
    t.true(derived.signal.aborted, 'derived');
    t.is((derived.signal.reason as DOMException).name, 'AbortError');
  }
});

test('the connection is asked for only when it is touched', (t) => {
  const { exchange } = make();
  const view = new ConnectionView(exchange);
  t.is(exchange.connectionReads, 0);
  t.is(view.remoteAddress, CONNECTION.remoteAddress);
  t.is(view.remotePort, CONNECTION.remotePort);
  t.is(view.localAddress, CONNECTION.localAddress);
  t.is(view.localPort, CONNECTION.localPort);
  t.deepEqual(view.tls, CONNECTION.tls);
  t.is(JSON.stringify(view), JSON.stringify(CONNECTION));
  t.regex(inspect(view), /192\.0\.2\.1/);
});
