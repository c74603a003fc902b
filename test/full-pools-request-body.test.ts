// Specification, section 4: request bodies.
import test from 'ava';
import { ask, open, until } from './helpers/client.js';
import { pattern, sha256 } from './helpers/lab.js';
import { RawClient } from './helpers/raw-client.js';
import { ServerProcess } from './helpers/server-process.js';

const LIMIT = 64 << 10;
const NO_ERROR = 0;
const modes = ['buffer', 'stream'] as const;

for (const bodyMode of modes) {
  test(`${bodyMode}: 413 at the head where content-length says so, and the body is not wanted`, async (t) => {
    const server = await ServerProcess.start(t, { maxConnections: 4, maxRequestBodySize: LIMIT }, { bodyMode });
    const client = await RawClient.open(t, server.port);
    const fields = (size: number): Record<string, string> => ({ 'content-length': String(size) });
    const before = client.window;
    const ids = [LIMIT + 1, 2 ** 40].map((size) => client.request('/sum', fields(size), false));
    for (const id of ids) {
      const stream = client.stream(id);
      const window = stream.window;
      await until('the answer, then the reset', () => stream.resetCode !== undefined);
      t.is(stream.status, 413);
      t.true(stream.ended);
      t.is(stream.resetCode, NO_ERROR);
      t.is(stream.window, window, 'no more window');
    }
    t.is(client.window, before);
    t.deepEqual((await server.log()).calls, []);
    const session = await open(t, server.url);
    const exact = pattern(LIMIT);
    const fits = await ask(session, '/sum', { body: exact, headers: { 'content-length': LIMIT } });
    t.is(fits.body.toString(), `${LIMIT} ${sha256(exact)}`);
    const { tooLarge413 } = (await server.stats()).request;
    t.deepEqual(tooLarge413, { contentLength: 2, body: 0, arena: 0 });
    await server.assertBounds(t);
  });

  test(`${bodyMode}: 413 at the first byte too many where no length was told`, async (t) => {
    const server = await ServerProcess.start(t, { maxConnections: 4, maxRequestBodySize: LIMIT }, { bodyMode });
    const session = await open(t, server.url);
    for (const size of [LIMIT - 1, LIMIT, LIMIT + 1]) {
      const body = pattern(size);
      const { status, body: answer } = await ask(session, '/sum', { body });
      t.is(status, size <= LIMIT ? 200 : 413);
      if (size <= LIMIT) t.is(answer.toString(), `${size} ${sha256(body)}`);
    }
    const stats = await server.stats();
    t.is(stats.request.tooLarge413.body, 1);
    t.is(stats.arenas.inUse, 0);
    await server.assertBounds(t);
  });

  test(`${bodyMode}: late bytes are dropped, and credited to the connection`, async (t) => {
    // Each 413 is a stream that the server resets: 1000 streams have a budget of 10,000.
    const config = { maxConnections: 4, maxConcurrentStreams: 1000, maxRequestBodySize: LIMIT };
    const server = await ServerProcess.start(t, config, { bodyMode });
    const client = await RawClient.open(t, server.port);
    await until('the connection has its window', () => client.window > 65_535);
    const whole = client.window;
    const bytes = pattern(16_384);
    // Each stream sends what its window allows, in spite of 413: in all, more than the connection's window.
    for (let sent = 0; sent < whole * 1.5; ) {
      const ids = Array.from({ length: 100 }, () =>
        client.request('/sum', { 'content-length': String(2 ** 30) }, false),
      );
      for (const id of ids) {
        const stream = client.stream(id);
        await until('413', () => stream.status !== 0);
        t.is(stream.status, 413);
        const piece = Math.min(stream.window, bytes.length);
        await until('the connection has a window', () => client.window >= piece);
        client.data(id, bytes.subarray(0, piece));
        sent += piece;
      }
    }
    await until('all was credited', () => client.window > whole / 2);
    const after = client.request('/hello');
    t.is((await client.end(after)).status, 200);
    t.is(client.goaway, undefined);
    await server.assertBounds(t);
  });
}

test('buffer: 413 for a body that its arena has no room for, as soon as that is known', async (t) => {
  const arenaSize = 1 << 20;
  const server = await ServerProcess.start(t, { maxConnections: 4, arenaSize });
  const client = await RawClient.open(t, server.port);
  const known = client.request('/sum', { 'content-length': String(arenaSize) }, false);
  const { status, resetCode } = await client.end(known);
  t.is(status, 413);
  await until('the reset', () => (resetCode ?? client.stream(known).resetCode) === NO_ERROR);
  const session = await open(t, server.url);
  const unknown = await ask(session, '/sum', { body: pattern(2 * arenaSize) });
  t.is(unknown.status, 413);
  const small = pattern(arenaSize / 2);
  t.is((await ask(session, '/sum', { body: small })).body.toString(), `${small.length} ${sha256(small)}`);
  t.deepEqual((await server.stats()).request.tooLarge413, { contentLength: 0, body: 0, arena: 2 });
  t.is((await server.log()).calls.length, 1);
  await server.assertBounds(t);
});

test('stream: a body larger than an arena goes through', async (t) => {
  const server = await ServerProcess.start(t, { maxConnections: 4, arenaSize: 1 << 20 }, { bodyMode: 'stream' });
  const session = await open(t, server.url);
  const body = pattern(8 << 20);
  const { status, body: answer } = await ask(session, '/sum', { body });
  t.is(status, 200);
  t.is(answer.toString(), `${body.length} ${sha256(body)}`);
  await server.assertBounds(t);
});

test('stream: past the limit an answer that has begun is reset, a handler without one is told', async (t) => {
  const server = await ServerProcess.start(t, { maxConnections: 4, maxRequestBodySize: LIMIT }, { bodyMode: 'stream' });
  // Each on a connection of its own, since they share its memory, and a window of a part of it is less than the limit.
  const begin = async (path: string) => {
    const client = await RawClient.open(t, server.port);
    const id = client.request(path, {}, false);
    return { client, id, stream: client.stream(id) };
  };
  const answered = await begin('/open');
  await until('the answer has begun', () => answered.stream.received > 0);
  const waiting = await begin('/hold');
  await until('the handlers run', async () => (await server.log()).calls.length === 2);
  for (const { client, id, stream } of [answered, waiting]) {
    // The handlers read nothing, so what passes the limit passes the window too: as far as that goes.
    let sent = 0;
    await until('the stream has ended', () => {
      const piece = Math.min(stream.window, client.window, 16_384, LIMIT + 1 - sent);
      if (piece > 0) client.data(id, pattern(piece));
      sent += Math.max(piece, 0);
      return stream.resetCode !== undefined || stream.ended;
    });
  }
  t.is(answered.stream.status, 200);
  t.false(answered.stream.ended);
  t.is(waiting.stream.status, 413);
  await until('the handler is told', async () => (await server.log()).aborted.includes('/hold'));
  await server.release();
  t.is((await server.stats()).request.tooLarge413.body, 2);
  await server.assertBounds(t);
});

test('bodies that are refused are not buffered first', async (t) => {
  const limit = 1 << 20;
  const server = await ServerProcess.start(t, {
    maxConnections: 8,
    arenaSize: limit,
    maxRequestBodySize: limit,
    queueTimeoutMs: 60_000,
  });
  const client = await RawClient.open(t, server.port);
  const piece = pattern(16_384);
  const ids = Array.from({ length: 100 }, () => client.request('/sum', {}, false));
  let sent = 0;
  // All at once, 16 MiB each where the windows allow it.
  const left = new Map(ids.map((id) => [id, 16 << 20]));
  await until('all are answered', () => {
    for (const [id, bytes] of left) {
      const stream = client.stream(id);
      if (stream.ended || bytes === 0) left.delete(id);
      else if (Math.min(stream.window, client.window) >= piece.length) {
        client.data(id, piece);
        left.set(id, bytes - piece.length);
        sent += piece.length;
      }
    }
    return ids.every((id) => client.stream(id).ended);
  });
  for (const id of ids) t.is(client.stream(id).status, 413);
  t.true(sent <= 100 * (limit + 32_768), `${sent} bytes were sent`);
  t.is((await server.stats()).request.clientError, 100);
  await server.assertBounds(t);
});
