import { once } from 'node:events';
import { Readable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import test from 'ava';
import { runHandler } from '../lib/response.js';
import type { AioRequest } from '../lib/types.js';
import { askFailing, chunksOf, endless } from './helpers/answers.js';
import { ask, FakeExchange, fakeServer } from './helpers/fake-exchange.js';

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
