import { once } from 'node:events';
import { Readable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import vm from 'node:vm';
import test from 'ava';
import { runHandler } from '../lib/response.js';
import type { AioRequest, ConnectionInfo } from '../lib/types.js';
import { type AnyHandler, ask, CONNECTION, FakeExchange, fakeServer } from './helpers/fake-exchange.js';

/** Runs a handler that fails before its head is out: 500, and the error goes to onError. */
async function askFailing(handler: AnyHandler, request = {}, options = {}) {
  const server = fakeServer(handler, options);
  const exchange = new FakeExchange(request);
  runHandler(exchange, server);
  const answer = await exchange.answer();
  return { answer, errors: server.errors as Error[], exchange };
}

async function* chunksOf(...chunks: unknown[]) {
  for (const chunk of chunks) {
    await turn();
    yield chunk;
  }
}

/** An endless body that tells how it was ended. */
function endless(chunk: unknown = 'x') {
  const state = { asked: 0, returned: 0, body: undefined as unknown };
  state.body = {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      state.asked += 1;
      await turn();
      return { done: false, value: chunk };
    },
    async return() {
      state.returned += 1;
      return { done: true, value: undefined };
    },
  };
  return state;
}

test('a string is sent whole', async (t) => {
  const answer = await ask(() => ({ body: 'Hällo\n' }));
  t.is(answer.status, 200);
  t.is(answer.text, 'Hällo\n');
  t.is(answer.contentLength, 7);
  t.deepEqual(answer.fields, []);
  t.true(answer.whole);
});

test('an answer may be empty', async (t) => {
  for (const result of [{}, { body: null }, { body: undefined }, Object.create(null), { status: undefined }]) {
    const answer = await ask(() => result);
    t.is(answer.status, 200);
    t.is(answer.contentLength, 0);
    t.is(answer.text, '');
  }
});

test('a handler gets the request and the connection', async (t) => {
  const seen: unknown[] = [];
  const answer = await ask((request: AioRequest, connection: ConnectionInfo) => {
    seen.push(request.method, connection.remoteAddress);
    return { status: 201 };
  });
  t.is(answer.status, 201);
  t.deepEqual(seen, ['GET', CONNECTION.remoteAddress]);
});

test('a handler that cannot see its request is called without', async (t) => {
  t.is((await ask(() => ({ body: 'a' }))).text, 'a');
  t.is((await ask(async () => ({ body: 'a' }))).text, 'a');
  const rest = (...args: unknown[]) => ({ body: String(args.length) });
  t.is((await ask(rest)).text, '2');
  t.is((await ask((request = null) => ({ body: String(request instanceof Request) }))).text, 'true');
  const old = function (this: unknown) {
    // biome-ignore lint/complexity/noArguments: it is what is tested
    return { body: `${this} ${arguments.length}` };
  };
  t.is((await ask(old)).text, 'undefined 2');
  t.is((await ask(((...args: unknown[]) => rest(...args)).bind(null))).text, '2');
});

test('an answer may come later, from any thenable', async (t) => {
  t.is((await ask(async () => ({ body: 'a' }))).text, 'a');
  t.is((await ask(() => new Promise((resolve) => setTimeout(resolve, 1, { body: 'a' })))).text, 'a');
  // biome-ignore lint/suspicious/noThenProperty: it is what is tested
  t.is((await ask(() => ({ then: (resolve: (value: unknown) => void) => resolve({ body: 'a' }) }))).text, 'a');
  t.is((await ask(() => vm.runInNewContext('Promise.resolve({ body: "a" })'))).text, 'a');
});

test('headers come in each form', async (t) => {
  const expected = [
    ['x-a', '1'],
    ['set-cookie', 'a=b'],
    ['set-cookie', 'c=d'],
    ['x-b', 'two words'],
  ];
  const forms = [
    { 'X-A': 1, 'Set-Cookie': ['a=b', 'c=d'], 'x-b': ' two words\t', 'x-none': undefined },
    [
      ['X-A', 1],
      ['set-cookie', 'a=b'],
      ['SET-COOKIE', 'c=d'],
      ['x-b', 'two words'],
    ],
    new Map<string, unknown>([
      ['x-a', '1'],
      ['set-cookie', ['a=b', 'c=d']],
      ['x-b', 'two words'],
    ]),
  ];
  for (const headers of forms) t.deepEqual((await ask(() => ({ headers }))).fields, expected);
  const headers = new Headers({ 'X-B': 'two words', 'X-A': '1' });
  headers.append('set-cookie', 'a=b');
  headers.append('set-cookie', 'c=d');
  for (const result of [{ headers }, new Response(null, { headers }), new Response('', { headers })]) {
    const { fields } = await ask(() => result);
    t.deepEqual(
      fields.filter(([name]) => name === 'set-cookie').map(([, value]) => value),
      ['a=b', 'c=d'],
    );
    t.deepEqual(fields.filter(([name]) => name.startsWith('x-')).sort(), [
      ['x-a', '1'],
      ['x-b', 'two words'],
    ]);
  }
});

test('fields of a connection are dropped', async (t) => {
  const headers = {
    Connection: 'close',
    'keep-alive': 'timeout=5',
    'Proxy-Connection': 'a',
    'Transfer-Encoding': 'chunked',
    upgrade: ['a', 'b'],
    kept: '1',
  };
  t.deepEqual((await ask(() => ({ headers }))).fields, [['kept', '1']]);
  t.deepEqual((await ask(() => new Response(null, { headers: { connection: 'close', kept: '1' } }))).fields, [
    ['kept', '1'],
  ]);
});

test('values hold Latin-1', async (t) => {
  t.deepEqual((await ask(() => ({ headers: { a: 'é\ttab', b: '' } }))).fields, [
    ['a', 'é\ttab'],
    ['b', ''],
  ]);
});

test('a header that breaks HTTP is 500', async (t) => {
  const bad: unknown[] = [
    { '': 'a' },
    { 'a b': 'a' },
    { ':status': '200' },
    { 'a\n': 'a' },
    { 'a:': 'a' },
    { é: 'a' },
    { a: 'b\r\nc: d' },
    { a: 'b\n' },
    { a: '\r' },
    { a: '\0' },
    { a: '\x7f' },
    { a: '\x1b' },
    { a: 'ā' },
    { a: ['b', 'c\n'] },
    { a: null },
    { a: true },
    { a: {} },
    { a: 1n },
    { a: Symbol('a') },
    { a: [['b']] },
    { 'content-length': 'x' },
    { 'content-length': -1 },
    { 'content-length': '1.5' },
    { 'content-length': ['0', '1'] },
    { 'content-length': '99999999999999999' },
    [['a']],
    [['a', 'b', 'c']],
    ['a', 'b'],
    'a: b',
    1,
    {
      get a(): string {
        throw new Error('getter');
      },
    },
  ];
  for (const headers of bad) {
    const { answer, errors } = await askFailing(() => ({ headers, body: 'secret' }));
    t.is(answer.status, 500);
    t.is(answer.text, 'Internal Server Error\n');
    t.is(errors.length, 1);
    t.true(errors[0] instanceof Error);
  }
  const { errors } = await askFailing(() => ({ headers: { a: 'b\r\nc: d' } }));
  t.is((errors[0] as { code?: string } | undefined)?.code, 'ERR_VALK_AIO_RESPONSE');
});

test('headers that change between answers are never sent as they were', async (t) => {
  const headers: Record<string, string | string[]> = { a: '1' };
  const result = { headers, body: 'a' };
  const server = fakeServer(() => result);
  t.deepEqual((await ask(server)).fields, [['a', '1']]);
  headers.a = '2';
  t.deepEqual((await ask(server)).fields, [['a', '2']]);
  const list = ['3'];
  headers.a = list;
  t.deepEqual((await ask(server)).fields, [['a', '3']]);
  list.push('4');
  t.deepEqual((await ask(server)).fields, [
    ['a', '3'],
    ['a', '4'],
  ]);
  delete headers.a;
  headers.b = 'c';
  result.body = 'b';
  const answer = await ask(server);
  t.deepEqual(answer.fields, [['b', 'c']]);
  t.is(answer.text, 'b');
});

test('an answer that asks for another while its headers are read stays its own', async (t) => {
  const inner = fakeServer(() => ({ headers: { 'content-length': 3, 'content-type': 'a/b' }, body: 'abc' }));
  const answers: Promise<unknown>[] = [];
  const headers = {
    get a() {
      answers.push(ask(inner));
      return '1';
    },
  };
  const blob = new Blob(['ab'], { type: 'c/d' });
  const answer = await ask(() => ({ headers, body: blob }));
  t.is(answer.contentLength, 2);
  t.is(answer.headers.get('content-type'), 'c/d');
  t.is(answers.length, 1);
  await Promise.all(answers);
});

test('many names and long values are sent alike', async (t) => {
  const value = 'v'.repeat(300);
  for (let index = 0; index < 1200; index += 1) {
    const name = `x-${index}`;
    const { fields } = await ask(() => ({ headers: { [name]: value, 'x-last': String(index) } }));
    if (index % 100 === 0) {
      t.deepEqual(fields, [
        [name, value],
        ['x-last', String(index)],
      ]);
    }
  }
});

test('bytes are sent whole, of whatever kind', async (t) => {
  const bytes = new TextEncoder().encode('0123456789');
  const shared = new Uint8Array(new SharedArrayBuffer(100));
  shared.fill(0x61);
  const Resizable = ArrayBuffer as new (length: number, options: object) => ArrayBuffer;
  const resizable = new Resizable(4, { maxByteLength: 8 });
  const bodies: [unknown, string][] = [
    [bytes, '0123456789'],
    [bytes.subarray(2, 4), '23'],
    [bytes.buffer, '0123456789'],
    [new DataView(bytes.buffer, 1, 3), '123'],
    [new Uint16Array(bytes.buffer, 2, 2), '2345'],
    [Buffer.from('abc'), 'abc'],
    [shared, 'a'.repeat(100)],
    [shared.buffer, 'a'.repeat(100)],
    [shared.subarray(0, 3), 'aaa'],
    [resizable, '\0\0\0\0'],
    [vm.runInNewContext('new Uint8Array([97, 98])'), 'ab'],
    [vm.runInNewContext('new ArrayBuffer(2)'), '\0\0'],
    [new Uint8Array(0), ''],
    ['', ''],
  ];
  for (const [body, text] of bodies) {
    const answer = await ask(() => ({ body }));
    t.is(answer.text, text);
    t.is(answer.contentLength, text.length);
    t.true(answer.whole);
  }
});

test('a buffer that is gone does no harm', async (t) => {
  const view = new Uint8Array(100);
  const words = new Uint16Array(100);
  const { buffer } = new Uint8Array(100);
  structuredClone(null, { transfer: [view.buffer, words.buffer, buffer] });
  for (const body of [view, words, buffer]) {
    const { answer, errors } = await askFailing(() => ({ body }));
    t.is(answer.status, 500);
    t.true(errors[0] instanceof TypeError);
    const server = fakeServer(() => ({ body: chunksOf('a', body) }));
    const exchange = new FakeExchange();
    runHandler(exchange, server);
    await exchange.ended();
    t.is(exchange.resetCode, 2);
    t.true(server.errors[0] instanceof TypeError);
  }
});

test('a Blob is sent with its size and type', async (t) => {
  const blob = new Blob(['a'.repeat(100_000), 'é'], { type: 'text/html' });
  const answer = await ask(() => ({ body: blob }));
  t.is(answer.contentLength, 100_002);
  t.is(answer.headers.get('content-type'), 'text/html');
  t.true(answer.text.endsWith('aé'));
  t.is((await ask(() => ({ headers: { 'content-type': 'a/b' }, body: blob }))).headers.get('content-type'), 'a/b');
  t.false((await ask(() => ({ body: new Blob(['a']) }))).headers.has('content-type'));
  t.is((await ask(() => ({ body: new Blob([]) }))).text, '');
  const head = await ask(() => ({ body: blob }), { method: 'HEAD' });
  t.is(head.contentLength, 100_002);
  t.is(head.text, '');
});

test('streams and iterables are sent piece by piece', async (t) => {
  const bytes = new TextEncoder().encode('bytes');
  const bodies: (() => unknown)[] = [
    () => chunksOf('a', '', bytes, bytes.buffer, new Uint8Array(0), new DataView(bytes.buffer)),
    () =>
      new ReadableStream({
        start(controller) {
          for (const chunk of ['a', bytes, '', bytes, bytes]) controller.enqueue(chunk);
          controller.close();
        },
      }),
    () => ['a', bytes, bytes, bytes],
    () => Readable.from(['a', 'bytes', bytes, bytes]),
    () => new Set(['abytesbytes', bytes]),
    function* generator() {
      yield 'a';
      yield* ['bytes', 'bytesbytes'];
    },
  ];
  for (const body of bodies) {
    const made = body();
    const answer = await ask(() => ({ body: made }));
    t.is(answer.text, 'abytesbytesbytes');
    t.is(answer.contentLength, undefined);
    t.false(answer.whole);
  }
  t.is((await ask(() => ({ body: [] }))).text, '');
});

test('a character that lies in two strings is not lost', async (t) => {
  const [first = '', second = ''] = ['😀'.charAt(0), '😀'.charAt(1)];
  t.is((await ask(() => ({ body: chunksOf(`a${first}`, `${second}b`, first, '', second) }))).text, 'a😀b😀');
  t.is((await ask(() => ({ body: chunksOf(first, 'a', second) }))).text, '\ufffda\ufffd');
  t.is((await ask(() => ({ body: chunksOf(first, Buffer.from('a')) }))).text, '\ufffda');
  t.is((await ask(() => ({ body: chunksOf('a', first) }))).text, 'a\ufffd');
  const answer = await ask(() => ({ headers: { 'content-length': 4 }, body: chunksOf(first, second) }));
  t.is(answer.text, '😀');
});

test('more is asked for only when the client has taken what there was', async (t) => {
  const body = endless('0123456789');
  const exchange = new FakeExchange();
  exchange.window = 25;
  runHandler(
    exchange,
    fakeServer(() => ({ body: body.body })),
  );
  for (let index = 0; index < 20; index += 1) await turn();
  t.is(body.asked, 3);
  t.is(exchange.writes.length, 3);
  exchange.drain();
  for (let index = 0; index < 20; index += 1) await turn();
  t.is(body.asked, 6);
  exchange.abort('reset');
  for (let index = 0; index < 5; index += 1) await turn();
  t.is(body.returned, 1);
  t.is(body.asked, 6);
});

test('a large body comes in order, however slowly it is taken', async (t) => {
  const exchange = new FakeExchange();
  exchange.window = 1000;
  const expected = Array.from({ length: 300 }, (_, index) => `${index},`.repeat(index));
  runHandler(
    exchange,
    fakeServer(() => ({ body: chunksOf(...expected) })),
  );
  const timer = setInterval(() => exchange.drain(), 1);
  const answer = await exchange.answer();
  clearInterval(timer);
  t.is(answer.text, expected.join(''));
});

test('a body that throws midway resets the stream', async (t) => {
  const failure = new Error('midway');
  const bodies: (() => unknown)[] = [
    async function* () {
      yield 'a';
      throw failure;
    },
    function* () {
      yield 'a';
      throw failure;
    },
    () =>
      new ReadableStream({
        start: (controller) => controller.enqueue('a'),
        pull: (controller) => controller.error(failure),
      }),
    () =>
      Readable.from(
        (async function* () {
          yield 'a';
          throw failure;
        })(),
      ),
  ];
  for (const body of bodies) {
    const server = fakeServer(() => ({ body: body() }));
    const exchange = new FakeExchange();
    runHandler(exchange, server);
    await exchange.ended();
    t.is(exchange.resetCode, 2);
    t.deepEqual(server.errors, [failure]);
    t.is(server.failedRequests[0]?.url, 'https://localhost:8443/');
  }
});

test('a piece that is neither a string nor bytes resets the stream', async (t) => {
  for (const chunk of [1, null, {}, ['a'], Symbol('a'), () => 'a', Promise.resolve('a')]) {
    const body = endless(chunk);
    const server = fakeServer(() => ({ body: body.body }));
    const exchange = new FakeExchange();
    runHandler(exchange, server);
    await exchange.ended();
    t.is(exchange.resetCode, 2);
    t.is(server.errors.length, 1);
    t.true(server.errors[0] instanceof TypeError);
    t.is(body.returned, 1);
  }
});

test('an iterator that breaks its contract resets the stream', async (t) => {
  const results: (() => unknown)[] = [
    () => undefined,
    () => 1,
    () => {
      throw new Error('next');
    },
    () => Promise.reject(new Error('next')),
  ];
  for (const next of results) {
    const server = fakeServer(() => ({ body: { [Symbol.asyncIterator]: () => ({ next }) } }));
    const exchange = new FakeExchange();
    runHandler(exchange, server);
    await exchange.ended();
    t.is(exchange.resetCode, 2);
    t.is(server.errors.length, 1);
  }
});

test('when the client leaves, a stream is cancelled and an iterator returned, also during a read', async (t) => {
  let reason: unknown;
  const exchange = new FakeExchange();
  const stream = new ReadableStream({
    cancel(given) {
      reason = given;
    },
  });
  const server = fakeServer(() => ({ body: stream }));
  runHandler(exchange, server);
  await turn();
  exchange.abort('closed');
  await turn();
  t.is((reason as DOMException).name, 'AbortError');

  let returned = false;
  const other = new FakeExchange();
  const body = {
    [Symbol.asyncIterator]: () => ({
      next: () => new Promise(() => {}),
      return: () => {
        returned = true;
        throw new Error('return');
      },
    }),
  };
  runHandler(
    other,
    fakeServer(() => ({ body })),
  );
  await turn();
  t.false(returned);
  other.abort('reset');
  await turn();
  t.true(returned);
  t.deepEqual(server.errors, []);
});

test('when the client leaves, a Node.js stream is destroyed', async (t) => {
  const body = new Readable({ read() {} });
  const exchange = new FakeExchange();
  const server = fakeServer(() => ({ body }));
  runHandler(exchange, server);
  body.push('a');
  await turn();
  t.is(exchange.writes.length, 1);
  exchange.abort('reset');
  await once(body, 'close');
  t.true(body.destroyed);
  t.deepEqual(server.errors, []);
});

test('the body of a Response that the client leaves is cancelled', async (t) => {
  let reason: unknown;
  const stream = new ReadableStream({
    pull: (controller) => controller.enqueue(Buffer.from('a')),
    cancel(given) {
      reason = given;
    },
  });
  const exchange = new FakeExchange();
  exchange.window = 3;
  runHandler(
    exchange,
    fakeServer(() => new Response(stream)),
  );
  await turn();
  t.is(exchange.writes.length, 3);
  exchange.abort('reset');
  await turn();
  t.is((reason as DOMException).name, 'AbortError');
});

test('what fails because the client has left is no error', async (t) => {
  const exchange = new FakeExchange();
  const server = fakeServer(async (request: AioRequest) => {
    await new Promise((_, reject) => request.signal.addEventListener('abort', () => reject(request.signal.reason)));
  });
  runHandler(exchange, server);
  exchange.abort('reset');
  await exchange.ended();
  t.true(exchange.settled);
  t.deepEqual(server.errors, []);

  const bug = new Error('bug');
  const other = new FakeExchange();
  const buggy = fakeServer(async () => {
    await turn();
    throw bug;
  });
  runHandler(other, buggy);
  other.abort('reset');
  await other.ended();
  t.deepEqual(buggy.errors, [bug]);
});

test('an answer that comes when the client has left is ended', async (t) => {
  const body = endless();
  const exchange = new FakeExchange();
  runHandler(
    exchange,
    fakeServer(async () => {
      await turn();
      return { body: body.body };
    }),
  );
  exchange.abort('reset');
  await exchange.ended();
  await turn();
  t.true(exchange.settled);
  t.is(body.returned, 1);
  t.is(body.asked, 0);
  t.is(exchange.writes.length, 0);
});

test('a handler that takes too long is reported once', async (t) => {
  const exchange = new FakeExchange();
  const server = fakeServer(async (request: AioRequest) => {
    await new Promise((_, reject) => request.signal.addEventListener('abort', () => reject(request.signal.reason)));
  });
  runHandler(exchange, server);
  exchange.abort('timeout');
  await exchange.ended();
  t.is(server.errors.length, 1);
  t.is((server.errors[0] as { code?: string }).code, 'ERR_VALK_AIO_HANDLER_TIMEOUT');
});

test('a Response is sent with its status, headers and body', async (t) => {
  const init = { status: 201, headers: { 'x-a': 'b' } };
  const answer = await ask(() => new Response('Hällo', init));
  t.is(answer.status, 201);
  t.is(answer.text, 'Hällo');
  t.is(answer.contentLength, 6);
  t.is(answer.headers.get('x-a'), 'b');
  t.is(answer.headers.get('content-type'), 'text/plain;charset=UTF-8');
  t.true(answer.whole);
  const bytes = await ask(async () => new Response(Buffer.alloc(100_000, 'a')));
  t.is(bytes.contentLength, 100_000);
  t.is(bytes.text, 'a'.repeat(100_000));
  const json = await ask(() => Response.json({ a: [1] }));
  t.is(json.text, '{"a":[1]}');
  t.is(json.contentLength, 9);
  t.is(json.headers.get('content-type'), 'application/json');
  const redirect = await ask(() => Response.redirect('https://localhost/a', 303));
  t.is(redirect.status, 303);
  t.is(redirect.headers.get('location'), 'https://localhost/a');
  t.is(redirect.contentLength, 0);
  t.is((await ask(() => new Response(null, { status: 204 }))).contentLength, undefined);
  const empty = await ask(() => new Response(''));
  t.is(empty.text, '');
  t.is(empty.contentLength, 0);
});

test('a Response may hold anything that it takes', async (t) => {
  const form = new FormData();
  form.append('a', 'b');
  form.append('file', new File(['content'], 'a.txt'));
  const answer = await ask(() => new Response(form));
  const parsed = await new Response(answer.body, { headers: answer.headers }).formData();
  t.is(parsed.get('a'), 'b');
  t.is(await (parsed.get('file') as File).text(), 'content');
  t.is((await ask(() => new Response(new URLSearchParams({ a: 'é' })))).text, 'a=%C3%A9');
  t.is((await ask(() => new Response(new Blob(['blob'], { type: 'a/b' })))).text, 'blob');
  const stream = new ReadableStream({
    async pull(controller) {
      await turn();
      controller.enqueue(Buffer.from('late'));
      controller.close();
    },
  });
  const late = await ask(() => new Response(stream));
  t.is(late.text, 'late');
  t.is(late.contentLength, undefined);
  const response = new Response('twice');
  const copy = response.clone();
  t.is((await ask(() => response)).text, 'twice');
  t.is((await ask(() => copy)).text, 'twice');
  t.is((await ask(() => new Response(new Response('moved').body))).text, 'moved');
});

test('the head of a streaming Response does not wait for its body', async (t) => {
  const exchange = new FakeExchange();
  runHandler(
    exchange,
    fakeServer(() => new Response(new ReadableStream({}))),
  );
  await turn();
  t.true(exchange.settled);
  exchange.abort('reset');
});

test('a Response whose body was read or is locked, or that was sent, is 500', async (t) => {
  const read = new Response('a');
  await read.text();
  const locked = new Response('a');
  locked.body?.getReader();
  const sent = new Response('a');
  await ask(() => sent);
  const stream = new Response(new ReadableStream({ start: (controller) => controller.close() }));
  await ask(() => stream);
  for (const response of [read, locked, sent, stream, { body: locked.body }, { body: read.body }]) {
    const { answer, errors } = await askFailing(() => response);
    t.is(answer.status, 500);
    t.true(errors[0] instanceof TypeError);
  }
});

test('a Response of another realm or kind is sent as well', async (t) => {
  const foreign = {
    status: 201,
    ok: true,
    headers: new Map([['x-a', 'b']]),
    body: Readable.from(['a', 'b']),
  };
  Object.setPrototypeOf(foreign, { [Symbol.toStringTag]: 'Response' });
  const answer = await ask(() => foreign);
  t.is(answer.status, 201);
  t.is(answer.text, 'ab');
  t.deepEqual(answer.fields, [['x-a', 'b']]);
});

test('a status outside of 200 to 599 is 500', async (t) => {
  for (const status of [0, 100, 101, 199, 600, 999, -200, 200.5, Number.NaN, '200', null, true, {}]) {
    const { answer, errors } = await askFailing(() => ({ status, body: 'a' }));
    t.is(answer.status, 500, String(status));
    t.is(errors.length, 1);
  }
  t.is((await askFailing(() => Response.error())).answer.status, 500);
  t.is((await ask(() => ({ status: 599 }))).status, 599);
});

test('what is no answer is 500 with a TypeError', async (t) => {
  const results: unknown[] = [
    undefined,
    null,
    'text',
    1,
    true,
    Symbol('a'),
    () => ({}),
    [],
    ['a'],
    new Date(),
    new Map(),
  ];
  results.push(
    new Uint8Array(1),
    new Blob([]),
    new Error('e'),
    { message: 'a' },
    new Headers(),
    new ReadableStream({}),
  );
  results.push(new URL('https://localhost'), Readable.from(['a']));
  for (const result of results) {
    for (const handler of [() => result, async () => result]) {
      const { answer, errors } = await askFailing(handler);
      t.is(answer.status, 500);
      t.is(errors.length, 1);
      t.true(errors[0] instanceof TypeError);
      t.regex(errors[0]?.message ?? '', /^A handler must return/);
    }
  }
  const { answer } = await askFailing((request: AioRequest) => request);
  t.is(answer.status, 500);
  for (const body of [1, true, {}, new Date(), Symbol('a'), () => 'a']) {
    const failed = await askFailing(() => ({ body }));
    t.is(failed.answer.status, 500);
    t.true(failed.errors[0] instanceof TypeError);
  }
});

test('a handler that throws or rejects is 500, and onError is told', async (t) => {
  const error = new Error('thrown');
  const throwing = () => {
    throw error;
  };
  for (const handler of [throwing, async () => throwing(), async (_request: AioRequest) => throwing()]) {
    const server = fakeServer(handler);
    const exchange = new FakeExchange({ path: '/failing' });
    runHandler(exchange, server);
    const answer = await exchange.answer();
    t.is(answer.status, 500);
    t.is(answer.headers.get('content-type'), 'text/plain; charset=utf-8');
    t.deepEqual(server.errors, [error]);
    t.is(server.failedRequests[0]?.url, 'https://localhost:8443/failing');
  }
  for (const thrown of [undefined, null, 'text', 0]) {
    const { errors } = await askFailing(() => {
      throw thrown;
    });
    t.deepEqual(errors as unknown[], [thrown]);
  }
});

test('what onError throws or rejects with is ignored', async (t) => {
  const handlers = [
    () => {
      throw new Error('onError');
    },
    async () => {
      throw new Error('onError');
    },
    () => ({
      // biome-ignore lint/suspicious/noThenProperty: it is what is tested
      get then(): unknown {
        throw new Error('then');
      },
    }),
  ];
  for (const onError of handlers) {
    const exchange = new FakeExchange();
    runHandler(
      exchange,
      fakeServer(
        () => {
          throw new Error('handler');
        },
        { onError: onError as () => void },
      ),
    );
    t.is((await exchange.answer()).status, 500);
  }
  await turn();
});

test.serial('without onError the error goes to standard error', async (t) => {
  const { error: original } = console;
  const lines: unknown[][] = [];
  console.error = (...args: unknown[]) => void lines.push(args);
  try {
    const failure = new Error('handler');
    const handler = () => {
      throw failure;
    };
    await ask(fakeServer(handler, { onError: undefined }), { path: '/a' });
    t.deepEqual(lines, [['valk-aio: GET https://localhost:8443/a', failure]]);
  } finally {
    console.error = original;
  }
});

test('a target that makes no URL is 400 without the handler', async (t) => {
  const server = fakeServer(() => t.fail());
  for (const request of [{ authority: 'a b' }, { authority: '' }, { path: '/#' }, { path: 'a' }, { scheme: 'ftp' }]) {
    const answer = await ask(server, request);
    t.is(answer.status, 400);
    t.is(answer.text, 'Bad Request\n');
  }
  t.deepEqual(server.errors, []);
});

test("a content-length of the handler's own must be true", async (t) => {
  const headers = { 'content-length': '5' };
  const answer = await ask(() => ({ headers, body: 'Hällo'.slice(0, 4) }));
  t.is(answer.contentLength, 5);
  t.deepEqual(answer.fields, []);
  for (const body of ['1234', '123456', 'Hällo', Buffer.from('1'), '', null, undefined, new Blob(['1'])]) {
    const { answer: failed, errors } = await askFailing(() => ({ headers, body }));
    t.is(failed.status, 500);
    t.is((errors[0] as { code?: string } | undefined)?.code, 'ERR_VALK_AIO_RESPONSE');
  }
  t.is((await askFailing(() => new Response('1234', { headers }))).answer.status, 500);
  const streamed = await ask(() => ({ headers, body: chunksOf('12', '345') }));
  t.is(streamed.contentLength, 5);
  t.is(streamed.text, '12345');
  for (const chunks of [['12', '34'], ['12', '3456'], []]) {
    for (const result of [{ headers, body: chunksOf(...chunks) }]) {
      const server = fakeServer(() => result);
      const exchange = new FakeExchange();
      runHandler(exchange, server);
      await exchange.ended();
      t.is(exchange.resetCode, 2);
      t.is((server.errors[0] as { code?: string }).code, 'ERR_VALK_AIO_RESPONSE');
      t.true(Buffer.concat(exchange.writes).byteLength < 5);
    }
  }
});

test('HEAD sends no body, and the length that is known', async (t) => {
  const request = { method: 'HEAD' };
  const whole = await ask(() => ({ headers: { 'content-length': 3 }, body: 'abc' }), request);
  t.is(whole.contentLength, 3);
  t.is(whole.text, '');
  t.is((await ask(() => ({ body: 'abc' }), request)).contentLength, 3);
  t.is((await ask(() => ({ headers: { 'content-length': 7 } }), request)).contentLength, 7);
  t.is((await ask(() => new Response(null, { headers: { 'content-length': '7' } }), request)).contentLength, 7);
  t.is((await ask(() => ({}), request)).contentLength, undefined);
  const response = await ask(() => new Response('abc'), request);
  t.is(response.contentLength, 3);
  t.is(response.text, '');
  t.is((await askFailing(() => ({ headers: { 'content-length': 4 }, body: 'abc' }), request)).answer.status, 500);
  const body = endless();
  t.is((await ask(() => ({ body: body.body }), request)).contentLength, undefined);
  t.is(body.returned, 1);
  t.is(body.asked, 0);
  const other = endless();
  t.is((await ask(() => ({ headers: { 'content-length': 9 }, body: other.body }), request)).contentLength, 9);
  t.is(other.returned, 1);
});

test('204, 205 and 304 send no body', async (t) => {
  for (const status of [204, 205, 304]) {
    const body = endless();
    t.is((await ask(() => ({ status, body: body.body }))).text, '');
    t.is(body.returned, 1);
    let cancelled = false;
    const stream = new ReadableStream({
      cancel() {
        cancelled = true;
      },
    });
    t.is((await ask(() => ({ status, body: stream }))).text, '');
    t.true(cancelled);
    const node = new Readable({ read() {} });
    t.is((await ask(() => ({ status, body: node }))).text, '');
    t.true(node.destroyed);
    const answer = await ask(() => ({ status, headers: { 'content-length': 3 }, body: status === 205 ? '' : 'abc' }));
    t.is(answer.text, '');
    t.is(answer.contentLength, status === 304 ? 3 : status === 205 ? 0 : undefined);
  }
});

test('a body given whole is held to maxResponseBodySize', async (t) => {
  const options = { maxResponseBodySize: 10 };
  const bodies: unknown[] = ['12345678901', 'ééééé1', Buffer.alloc(11), new ArrayBuffer(11), new Blob(['12345678901'])];
  for (const body of bodies) {
    const { answer, errors } = await askFailing(() => ({ body }), {}, options);
    t.is(answer.status, 500);
    t.is((errors[0] as { code?: string } | undefined)?.code, 'ERR_VALK_AIO_RESPONSE');
  }
  t.is((await askFailing(() => new Response('12345678901'), {}, options)).answer.status, 500);
  for (const body of ['1234567890', 'ééééé', Buffer.alloc(10)]) {
    t.is((await ask(fakeServer(() => ({ body }), options))).contentLength, 10);
  }
  t.is((await ask(fakeServer(() => ({ body: chunksOf('123456', '123456') }), options))).text, '123456123456');
  const endlessly = fakeServer(() => ({ body: 'a'.repeat(100) }), { maxResponseBodySize: Number.POSITIVE_INFINITY });
  t.is((await ask(endlessly)).contentLength, 100);
});

test('a streamed body is held to it where that is asked for', async (t) => {
  const options = { maxResponseBodySize: 10, limitStreams: true };
  const body = endless('1234');
  const server = fakeServer(() => ({ body: body.body }), options);
  const exchange = new FakeExchange();
  runHandler(exchange, server);
  await exchange.ended();
  t.is(exchange.resetCode, 2);
  t.is(Buffer.concat(exchange.writes).byteLength, 8);
  t.is(server.errors.length, 1);
  await turn();
  t.is(body.returned, 1);
  t.is((await ask(fakeServer(() => ({ body: chunksOf('12345', '67890') }), options))).text, '1234567890');
});

test('trailers follow the body', async (t) => {
  const trailers = { 'X-Sum': 1, 'set-cookie': ['a=b', 'c=d'], connection: 'close' };
  const expected = 'x-sum\n1\nset-cookie\na=b\nset-cookie\nc=d\n';
  for (const body of ['abc', Buffer.from('abc'), new Blob(['abc'])]) {
    const answer = await ask(() => ({ body, trailers }));
    t.is(answer.text, 'abc');
    t.is(answer.contentLength, 3);
    t.is(answer.trailers, expected);
  }
  t.is((await ask(() => ({ body: chunksOf('a'), trailers }))).trailers, expected);
  t.is((await ask(() => ({ trailers }))).trailers, expected);
  t.is((await ask(() => ({ body: null, trailers: () => trailers }))).trailers, expected);
  let sent = 0;
  const body = async function* () {
    yield 'a';
    sent = 1;
  };
  const later = await ask(() => ({ body: body(), trailers: async () => [['x-sent', sent]] }));
  t.is(later.trailers, 'x-sent\n1\n');
  t.is((await ask(() => ({ body: 'a', trailers: () => undefined }))).trailers, '');
  t.is((await ask(() => ({ body: 'a', trailers }), { method: 'HEAD' })).trailers, '');
});

test('trailers that break HTTP are 500, or a reset when the head is out', async (t) => {
  for (const trailers of [{ 'a b': 'c' }, { 'content-length': 1 }, { a: '\n' }]) {
    for (const body of ['a', chunksOf('a')]) {
      t.is((await askFailing(() => ({ body, trailers }))).answer.status, 500);
    }
    for (const body of ['a', chunksOf('a')]) {
      const server = fakeServer(() => ({ body, trailers: () => trailers }));
      const exchange = new FakeExchange();
      runHandler(exchange, server);
      await exchange.ended();
      t.is(exchange.resetCode, 2);
      t.is(server.errors.length, 1);
    }
  }
});

test('a bad answer ends its body', async (t) => {
  for (const bad of [{ status: 99 }, { headers: { 'a b': 'c' } }, { trailers: { 'a b': 'c' } }]) {
    const body = endless();
    t.is((await askFailing(() => ({ ...bad, body: body.body }))).answer.status, 500);
    t.is(body.returned, 1);
    t.is(body.asked, 0);
  }
});

test('an iterator is told only once that it is over', async (t) => {
  let returned = 0;
  const body = {
    items: ['a', 'b'],
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      const value = this.items.shift();
      return value === undefined ? { done: true, value } : { done: false, value };
    },
    async return() {
      returned += 1;
      return { done: true, value: undefined };
    },
  };
  const exchange = new FakeExchange();
  runHandler(
    exchange,
    fakeServer(() => ({ body })),
  );
  t.is((await exchange.answer()).text, 'ab');
  exchange.abort('closed');
  await turn();
  t.is(returned, 0);
});

test('nothing escapes as an unhandled rejection', async (t) => {
  const escaped: unknown[] = [];
  const listener = (reason: unknown) => void escaped.push(reason);
  process.on('unhandledRejection', listener);
  const failing = () => Promise.reject(new Error('escaped'));
  const bodies: (() => unknown)[] = [
    () => ({ [Symbol.asyncIterator]: () => ({ next: failing, return: failing }) }),
    () => ({ [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}), return: failing }) }),
    () => new ReadableStream({ pull: failing, cancel: failing }),
    () => new ReadableStream({ cancel: failing }),
  ];
  for (const make of bodies) {
    for (const request of [{}, { method: 'HEAD' }]) {
      for (const wrap of [(body: unknown) => ({ body }), (body: unknown) => new Response(body as ReadableStream)]) {
        const exchange = new FakeExchange(request);
        runHandler(
          exchange,
          fakeServer(() => wrap(make())),
        );
        await turn();
        exchange.abort('reset');
        for (let index = 0; index < 3; index += 1) await turn();
      }
    }
  }
  process.off('unhandledRejection', listener);
  t.deepEqual(escaped, []);
});
