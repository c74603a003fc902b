// Bodies and trailers of requests whose frames come in one piece, or whose end comes while JavaScript computes.
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import type { Handler } from 'valk-aio';
import { END_HEADERS, END_STREAM, encode, FRAME, RawClient } from './helpers/raw-client.js';
import { gate, serve } from './helpers/serve.js';

/** What comes of a promise: what it gives, or its error's code. */
async function outcome(promise: Promise<unknown>): Promise<unknown> {
  try {
    return await promise;
  } catch (error) {
    return (error as { code?: string }).code;
  }
}

function compute(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

test('a streamed body that is cut off does not look whole to a handler that computes', async (t) => {
  const read = gate();
  const cut = gate();
  const ended = gate();
  const seen: unknown[] = [];
  const handler: Handler = async (request) => {
    const pieces = (request.body as ReadableStream<Uint8Array>)[Symbol.asyncIterator]();
    seen.push(Buffer.from((await pieces.next()).value ?? []).toString());
    read.open();
    await cut.promise;
    compute(100); // the engine learns of the reset, and JavaScript does not yet
    seen.push(await outcome(pieces.next()));
    ended.open();
    return {};
  };
  const { server } = await serve(t, handler, { bodyMode: 'stream' });
  const client = await RawClient.open(t, server.port);
  const id = client.request('/', {}, false);
  client.data(id, Buffer.from('abc'));
  await read.promise;
  client.reset(id);
  cut.open();
  await ended.promise;
  t.deepEqual(seen, ['abc', 'ERR_VALK_AIO_BODY_GONE']);
});

for (const pieces of [['abc'], []]) {
  test(`trailers that come with a streamed request of ${pieces.length} pieces are there after its body`, async (t) => {
    const seen: unknown[] = [];
    const handler: Handler = async (request) => {
      seen.push(request.body === null ? '' : await request.text(), [...(request.trailers ?? [])]);
      return {};
    };
    const { server } = await serve(t, handler, { bodyMode: 'stream' });
    const client = await RawClient.open(t, server.port);
    client.socket.cork();
    const id = client.request('/', {}, false);
    for (const piece of pieces) client.data(id, Buffer.from(piece));
    client.frame(FRAME.headers, END_HEADERS | END_STREAM, id, encode({ 'x-end': 'yes' }));
    client.socket.uncork();
    t.is((await client.end(id)).status, 200);
    t.deepEqual(seen, [pieces.join(''), [['x-end', 'yes']]]);
  });
}

test('a whole body is given back as a stream, whatever else is answered', async (t) => {
  const { server, errors } = await serve(t, (request) =>
    request.method === 'POST' ? { body: request.body } : { body: 'x'.repeat(3000), trailers: { a: 'b' } },
  );
  const client = await RawClient.open(t, server.port);
  client.socket.cork();
  const echo = client.request('/', {}, false);
  client.data(echo, Buffer.from('abc'), true);
  const others = Array.from({ length: 20 }, () => client.request('/'));
  client.socket.uncork();
  for (const other of others) t.true((await client.end(other)).ended);
  const { status, received, resetCode } = await client.end(echo);
  t.deepEqual({ status, received, resetCode }, { status: 200, received: 3, resetCode: undefined });
  t.deepEqual(errors, []);
});

test('a body that its handler has dropped is not waited for, nor is its answer given up for it', async (t) => {
  const handler: Handler = async (request) => {
    await request.body?.cancel();
    await sleep(1500);
    return { body: 'done' };
  };
  const { aio, server } = await serve(t, handler, { bodyMode: 'stream' }, { bodyTimeoutMs: 500, minBodyRate: 1000 });
  const client = await RawClient.open(t, server.port);
  const id = client.request('/', {}, false);
  const { status, received } = await client.end(id);
  t.deepEqual({ status, received }, { status: 200, received: 4 });
  t.is(aio.stats().request.reset.bodyTimeout, 0);
});
