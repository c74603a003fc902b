import { Readable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import test from 'ava';
import { runHandler } from '../lib/response.js';
import type { AioRequest } from '../lib/types.js';
import { askFailing } from './helpers/answers.js';
import { ask, FakeExchange, fakeServer } from './helpers/fake-exchange.js';

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
