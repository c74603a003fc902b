import { Readable } from 'node:stream';
import test from 'ava';
import { runHandler } from '../lib/response.js';
import { askFailing, chunksOf, endless } from './helpers/answers.js';
import { ask, FakeExchange, fakeServer } from './helpers/fake-exchange.js';

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
