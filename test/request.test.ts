import { inspect } from 'node:util';
import test from 'ava';
import fc from 'fast-check';
import type { AbortCause } from '../lib/exchange.js';
import { createRequest } from '../lib/request.js';
import { ConnectionView } from '../lib/request-connection.js';
import { hasValidTarget, targetUrl } from '../lib/request-url.js';
import { CONNECTION, FakeExchange, type FakeRequest } from './helpers/fake-exchange.js';

function make(request: FakeRequest = {}) {
  const exchange = new FakeExchange(request);
  return { exchange, request: createRequest(exchange) };
}

function headOf(path: string, authority = 'localhost', scheme = 'https'): string {
  return `GET\n${scheme}\n${authority}\n${path}\nx-fields\n/a#b\n`;
}

const POST = {
  method: 'POST',
  path: '/form?a=b',
  fields: [
    ['content-type', 'text/plain'],
    ['x-twice', '1'],
    ['x-twice', '2'],
    ['cookie', 'a=b; c=d'],
  ],
} as const;

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

test('a body can be read in each way', async (t) => {
  const text = 'é{"a":1}';
  t.is(await make({ ...POST, body: text }).request.text(), text);
  t.deepEqual(await make({ ...POST, body: '{"a":1}' }).request.json(), { a: 1 });
  t.deepEqual(await make({ ...POST, body: text }).request.bytes(), new TextEncoder().encode(text));
  t.deepEqual(
    new Uint8Array(await make({ ...POST, body: text }).request.arrayBuffer()),
    new TextEncoder().encode(text),
  );
  const blob = await make({ ...POST, body: text }).request.blob();
  t.is(blob.type, 'text/plain');
  t.is(await blob.text(), text);
  const chunks: Uint8Array[] = [];
  for await (const chunk of make({ ...POST, body: text }).request.body ?? []) chunks.push(chunk);
  t.is(Buffer.concat(chunks).toString(), text);
});

test('a byte order mark is no part of the text, and bad UTF-8 is replaced', async (t) => {
  t.is(await make({ ...POST, body: '\ufeffa' }).request.text(), 'a');
  t.deepEqual(await make({ ...POST, body: '\ufeff[1]' }).request.json(), [1]);
  t.is(await make({ ...POST, body: Uint8Array.of(0x61, 0xff) }).request.text(), 'a\ufffd');
});

test('JSON that is none rejects', async (t) => {
  await t.throwsAsync(make({ ...POST, body: '{' }).request.json(), { instanceOf: SyntaxError });
  await t.throwsAsync(make({ ...POST }).request.json(), { instanceOf: SyntaxError });
});

test('forms are parsed, with files', async (t) => {
  const fields = [['content-type', 'application/x-www-form-urlencoded']] as const;
  const form = await make({ method: 'POST', fields, body: 'a=1&b=%C3%A9' }).request.formData();
  t.deepEqual(
    [...form],
    [
      ['a', '1'],
      ['b', 'é'],
    ],
  );
  const data = new FormData();
  data.append('name', 'value');
  data.append('file', new File(['content'], 'a.txt', { type: 'text/plain' }));
  const source = new Response(data);
  const type = source.headers.get('content-type') ?? '';
  const request = {
    method: 'POST',
    fields: [['content-type', type]],
    body: new Uint8Array(await source.arrayBuffer()),
  } as const;
  const parsed = await make(request).request.formData();
  t.is(parsed.get('name'), 'value');
  const file = parsed.get('file') as File;
  t.is(file.name, 'a.txt');
  t.is(await file.text(), 'content');
  await t.throwsAsync(make({ ...POST, body: 'a' }).request.formData(), { instanceOf: TypeError });
});

test('a body is read once', async (t) => {
  const { request, exchange } = make({ ...POST, body: 'a' });
  t.false(request.bodyUsed);
  const reading = request.text();
  t.true(request.bodyUsed);
  t.is(await reading, 'a');
  for (const kind of ['text', 'json', 'bytes', 'arrayBuffer', 'blob', 'formData'] as const) {
    await t.throwsAsync(request[kind](), { instanceOf: TypeError });
  }
  t.throws(() => request.clone(), { instanceOf: TypeError });
  t.throws(() => new Request(request), { instanceOf: TypeError });
  t.is(request.mode, 'cors');
  t.is(exchange.bodiesTaken, 1);
});

test('a body whose stream was read, or is being read, is not read again', async (t) => {
  const { request } = make({ ...POST, body: 'ab' });
  t.is(request.body, request.body);
  const reader = request.body?.getReader();
  await t.throwsAsync(request.text(), { instanceOf: TypeError });
  t.false(request.bodyUsed);
  t.is((await reader?.read())?.value.byteLength, 2);
  t.true(request.bodyUsed);
  reader?.releaseLock();
  await t.throwsAsync(request.text(), { instanceOf: TypeError });
});

test('a body that was looked at can be read', async (t) => {
  const { request } = make({ ...POST, body: 'a' });
  const { body } = request;
  t.truthy(body);
  t.is(await request.text(), 'a');
  t.true(request.bodyUsed);
  t.true((await body?.getReader().read())?.done);
});

test('a reader with its own buffer gets the bytes and the end', async (t) => {
  const { request } = make({ ...POST, body: 'abc' });
  const reader = request.body?.getReader({ mode: 'byob' });
  const first = await reader?.read(new Uint8Array(2));
  const second = await reader?.read(new Uint8Array(2));
  const end = await reader?.read(new Uint8Array(2));
  t.is(Buffer.concat([first?.value ?? Buffer.of(), second?.value ?? Buffer.of()]).toString(), 'abc');
  t.true(end?.done);
});

test('without a body there is null, and every way gives nothing', async (t) => {
  const { request } = make(POST);
  t.is(request.body, null);
  t.is(await request.text(), '');
  t.is((await request.bytes()).byteLength, 0);
  t.is((await request.arrayBuffer()).byteLength, 0);
  t.is((await request.blob()).size, 0);
  t.false(request.bodyUsed);
  t.is(await new Request(request).text(), '');
});

test('an empty body is one', async (t) => {
  const { request } = make({ ...POST, body: '' });
  t.truthy(request.body);
  t.is(await request.text(), '');
  t.true(request.bodyUsed);
});

test('a body that comes with GET can be read', async (t) => {
  const { request } = make({ body: 'a' });
  t.is(await request.text(), 'a');
  const other = make({ method: 'HEAD', body: 'b' });
  t.is(new Request(other.request).method, 'HEAD');
  t.is(await new Response(other.request.body).text(), 'b');
  t.true(other.request.bodyUsed);
});

test('a body is gone with the answer, and the rest stays', async (t) => {
  const { request, exchange } = make({ ...POST, body: 'a' });
  const clone = make({ ...POST, body: 'kept' });
  const kept = clone.request.clone();
  exchange.respond(200, '', null);
  clone.exchange.respond(200, '', null);
  await t.throwsAsync(request.text(), { code: 'ERR_VALK_AIO_BODY_GONE' });
  t.is(request.url, 'https://localhost:8443/form?a=b');
  t.is(request.headers.get('cookie'), 'a=b; c=d');
  t.is(await kept.text(), 'kept');
  t.is(await clone.request.text(), 'kept');
  const stream = make({ ...POST, body: 'a' });
  const { body } = stream.request;
  stream.exchange.respond(200, '', null);
  await t.throwsAsync(new Response(body).text());
});

test('clones are read beside the original', async (t) => {
  for (const streaming of [false, true]) {
    const { request } = make({ ...POST, streaming, body: streaming ? ['a', 'b'] : 'ab' });
    const first = request.clone();
    const second = request.clone();
    t.true(first instanceof Request);
    t.is(first.method, 'POST');
    t.is(first.url, request.url);
    t.deepEqual([...first.headers], [...request.headers]);
    t.is(await first.text(), 'ab');
    t.is(await request.text(), 'ab');
    t.is(await second.clone().text(), 'ab');
    t.true(request.bodyUsed);
    t.false(second.bodyUsed);
  }
  t.is(await make(POST).request.clone().text(), '');
});

test('a Request is made from a request, with changes and without', async (t) => {
  for (const streaming of [false, true]) {
    const body = streaming ? ['a', 'b'] : 'ab';
    const { request } = make({ ...POST, streaming, body });
    const copy = new Request(request);
    t.is(copy.url, request.url);
    t.is(copy.method, 'POST');
    t.deepEqual([...copy.headers], [...request.headers]);
    t.true(request.bodyUsed);
    t.is(await copy.text(), 'ab');

    const other = make({ ...POST, streaming, body }).request;
    const changed = new Request(other, { method: 'PUT', headers: { a: 'b' }, body: 'new' });
    t.is(changed.method, 'PUT');
    t.is(await changed.text(), 'new');
    t.is(await other.text(), 'ab');

    const init = make({ ...POST, streaming, body }).request;
    const elsewhere = new Request('https://elsewhere/', init);
    t.is(elsewhere.url, 'https://elsewhere/');
    t.is(elsewhere.headers.get('x-twice'), '1, 2');
    t.is(await elsewhere.text(), 'ab');
  }
});

test('fetch takes a request', async (t) => {
  const { request } = make({ scheme: 'http', authority: '127.0.0.1:1' });
  const error = await t.throwsAsync(fetch(request), { instanceOf: TypeError });
  t.is(error?.message, 'fetch failed');
});

test('in stream mode the body comes as it is read', async (t) => {
  const body = ['a', '', 'b', 'c'];
  const { request, exchange } = make({ ...POST, streaming: true, body });
  const reader = request.body?.getReader();
  t.is(exchange.chunksRead, 0);
  t.is(Buffer.from((await reader?.read())?.value ?? '').toString(), 'a');
  t.is(exchange.chunksRead, 1);
  t.is(Buffer.from((await reader?.read())?.value ?? '').toString(), 'b');
  t.is(exchange.chunksRead, 3);
  t.is(Buffer.from((await reader?.read())?.value ?? '').toString(), 'c');
  t.true((await reader?.read())?.done);

  t.is(await make({ ...POST, streaming: true, body }).request.text(), 'abc');
  t.deepEqual(await make({ ...POST, streaming: true, body: ['[1', ',2]'] }).request.json(), [1, 2]);
  t.is(await make({ ...POST, streaming: true, body: [] }).request.text(), '');
});

test('in stream mode a cancelled body is no longer wanted', async (t) => {
  const { request, exchange } = make({ ...POST, streaming: true, body: ['a', 'b'] });
  await request.body?.cancel();
  t.true(exchange.bodyCancelled);
  const read = make({ ...POST, streaming: true, body: ['a'] });
  t.truthy(read.request.body);
  t.is(await read.request.text(), 'a');
  t.false(read.exchange.bodyCancelled);
});

test('in stream mode an early end makes the body fail', async (t) => {
  const { request, exchange } = make({ ...POST, streaming: true, body: ['a', 'b'] });
  const reader = request.body?.getReader();
  await reader?.read();
  exchange.abort('reset');
  await t.throwsAsync(reader?.read() ?? Promise.resolve(), { code: 'ERR_VALK_AIO_BODY_GONE' });
  const other = make({ ...POST, streaming: true, body: ['a', 'b'] });
  other.exchange.abort('reset');
  await t.throwsAsync(other.request.text(), { code: 'ERR_VALK_AIO_BODY_GONE' });
});

test('bytes that are part of a larger buffer are given without it', async (t) => {
  const exchange = new FakeExchange({ ...POST, body: 'unused' });
  const pool = Buffer.from(new TextEncoder().encode('secret body secret').buffer);
  exchange.takeBody = () => pool.subarray(7, 11);
  t.is(Buffer.from(await createRequest(exchange).arrayBuffer()).toString(), 'body');
  t.is(await new Response(createRequest(exchange).body).text(), 'body');
  t.is(pool.byteLength, 18, 'the pool was not taken over');
});

test('trailers are there once the body has ended', async (t) => {
  const trailers = 'x-sum\n1\nx-sum\n2\n';
  const { request } = make({ ...POST, streaming: true, body: ['a'], trailers });
  const before = request.trailers;
  t.deepEqual([...before], []);
  await request.text();
  t.is(request.trailers, before);
  t.deepEqual([...request.trailers], [['x-sum', '1, 2']]);
  t.deepEqual([...request.trailers], [['x-sum', '1, 2']]);
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
