// Limits of time, on the wire: what the peer that passes one sees, what is counted, and that another connection feels nothing.
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import type { AioConfig } from 'valk-aio';
import { cert } from './helpers/certificate.js';
import { ask, open, until } from './helpers/client.js';
import { END_HEADERS, encode, FRAME, RawClient, SETTING } from './helpers/raw-client.js';
import { type PlainListenOptions, ServerProcess } from './helpers/server-process.js';

const ENHANCE_YOUR_CALM = 11;
const CANCEL = 8;

const head = (path: string, fields: Record<string, string> = {}): Buffer =>
  encode({ ':method': 'POST', ':scheme': 'https', ':authority': 'x', ':path': path, ...fields });

/** A server, and another connection whose requests are answered whatever happens until the returned function is called. */
async function serve(t: ExecutionContext, config: AioConfig, options?: PlainListenOptions) {
  const server = await ServerProcess.start(t, { maxConnections: 16, ...config }, options);
  const session = await open(t, server.url);
  let isWatching = true;
  const watching = (async () => {
    const failures: string[] = [];
    while (isWatching) {
      // After a test that has failed there is nothing to watch.
      if (session.destroyed) break;
      const { status, whole } = await ask(session, '/other');
      if (status !== 200 || !whole) failures.push(`status ${status}`);
      await sleep(20);
    }
    return failures;
  })();
  const othersFelt = async (): Promise<string[]> => {
    isWatching = false;
    return watching;
  };
  return { server, othersFelt };
}

/** Milliseconds until |condition| holds. */
async function time(what: string, condition: () => boolean): Promise<number> {
  const begin = performance.now();
  await until(what, condition);
  return performance.now() - begin;
}

/** The end of the one connection that a test is about. It is counted as the server closes it; its client may know before. */
async function isCounted(server: ServerProcess, cause: string): Promise<void> {
  let closed: Record<string, number> = {};
  const isOne = async (): Promise<boolean> => {
    closed = (await server.stats()).connection.closed;
    return closed[cause] === 1;
  };
  await until(`the end is counted as ${cause}`, isOne).catch((error: Error) => {
    throw new Error(`${error.message}: ${JSON.stringify(closed)}`);
  });
}

for (const stage of ['silent', 'without SETTINGS'] as const) {
  test.serial(`handshakeTimeoutMs: a peer that is ${stage} is left`, async (t) => {
    const { server, othersFelt } = await serve(t, { handshakeTimeoutMs: 2000 });
    let isClosed = false;
    const begin = performance.now();
    const where = { port: server.port, host: '127.0.0.1', ca: cert, ALPNProtocols: ['h2'] };
    const socket = stage === 'silent' ? connect(where) : connectTls(where);
    t.teardown(() => socket.destroy());
    socket.resume();
    socket
      .on('error', () => {})
      .on('close', () => {
        isClosed = true;
      });
    await until('the end', () => isClosed);
    t.true(performance.now() - begin > 1500);
    await isCounted(server, 'handshakeTimeout');
    t.deepEqual(await othersFelt(), []);
  });
}

test.serial('idleTimeoutMs: GOAWAY without an error, then the end; a connection with a stream stays', async (t) => {
  const { server, othersFelt } = await serve(t, { idleTimeoutMs: 2000 });
  const busy = await RawClient.open(t, server.port);
  const held = busy.request('/hold');
  const idle = await RawClient.open(t, server.port);
  t.true((await time('GOAWAY', () => idle.goaway !== undefined)) > 1500);
  t.is(idle.goaway, 0);
  await until('the end', () => idle.closed);
  await isCounted(server, 'idleTimeout');
  t.false(busy.closed);
  await server.release();
  t.is((await busy.end(held)).status, 200);
  t.deepEqual(await othersFelt(), []);
});

test.serial('headersTimeoutMs: a block that does not end ends the connection, however it drips', async (t) => {
  const { server, othersFelt } = await serve(t, { headersTimeoutMs: 500 });
  const client = await RawClient.open(t, server.port);
  const id = client.newStream();
  client.frame(FRAME.headers, 0, id, head('/never'));
  const begin = performance.now();
  for (let sent = 0; sent < 6 && client.goaway === undefined; sent++) {
    client.frame(FRAME.continuation, 0, id, encode({ [`x-${sent}`]: 'drip' }));
    await sleep(120);
  }
  await until('GOAWAY', () => client.goaway !== undefined);
  t.true(performance.now() - begin > 300);
  t.is(client.goaway, ENHANCE_YOUR_CALM);
  await until('the end', () => client.closed);
  await isCounted(server, 'headersTimeout');
  t.false((await server.log()).calls.includes('/never'));
  t.deepEqual(await othersFelt(), []);
});

for (const bodyMode of ['buffer', 'stream'] as const) {
  test.serial(`bodyTimeoutMs, ${bodyMode}: 408 for a body that stops; one that goes on is taken`, async (t) => {
    const { server, othersFelt } = await serve(t, { bodyTimeoutMs: 2500 }, { bodyMode });
    const client = await RawClient.open(t, server.port);
    const stopped = client.request('/sum', { 'content-length': '100' }, false);
    const going = client.request('/sum', { 'content-length': '1000' }, false);
    client.data(stopped, Buffer.alloc(10));
    const begin = performance.now();
    let sent = 0;
    for (; client.stream(stopped).status === 0 && sent < 500; sent++) {
      client.data(going, Buffer.of(sent));
      await sleep(100);
    }
    t.is((await client.end(stopped)).status, 408);
    t.true(performance.now() - begin > 2000);
    client.data(going, Buffer.alloc(1000 - sent), true);
    t.is((await client.end(going)).status, 200);
    const { request } = await server.stats();
    t.deepEqual([request.timeouts408, request.reset.bodyTimeout], [1, 1]);
    t.false(client.closed);
    t.deepEqual(await othersFelt(), []);
  });
}

test.serial('bodyTimeoutMs: an answer that has begun is reset', async (t) => {
  const { server, othersFelt } = await serve(t, { bodyTimeoutMs: 2500 }, { bodyMode: 'stream' });
  const client = await RawClient.open(t, server.port);
  // The handler answers without having read the body: what begins is no 408 any more.
  const id = client.request('/open', { 'content-length': '100' }, false);
  await until('the head', () => client.stream(id).status === 200);
  const { status, resetCode, ended } = await client.end(id);
  t.deepEqual([status, resetCode !== undefined || ended], [200, true]);
  t.is((await server.stats()).request.timeouts408, 0);
  await server.release();
  t.deepEqual(await othersFelt(), []);
});

test.serial('minBodyRate: 408 for a body that only drips, though no byte is late', async (t) => {
  const { server, othersFelt } = await serve(t, { minBodyRate: 100 });
  const client = await RawClient.open(t, server.port);
  const id = client.request('/sum', { 'content-length': '100000' }, false);
  const fast = client.request('/sum', { 'content-length': '100000' }, false);
  const begin = performance.now();
  // The rate is looked at every 10 s.
  while (client.stream(id).status === 0 && performance.now() - begin < 25_000) {
    client.data(id, Buffer.of(0));
    client.data(fast, Buffer.alloc(200));
    await sleep(200);
  }
  t.is((await client.end(id)).status, 408);
  t.is(client.stream(fast).status, 0);
  t.true(performance.now() - begin > 8000);
  const { request } = await server.stats();
  t.deepEqual([request.timeouts408, request.reset.bodyRate], [1, 1]);
  t.deepEqual(await othersFelt(), []);
});

for (const [what, path, options] of [
  ['a handler', '/big?size=100000', {}],
  ['a static route', '/static', { staticRoutes: { '/static': { body: 'x'.repeat(100_000) } } }],
] as const) {
  test.serial(
    `writeTimeoutMs: an answer of ${what} that finds no window is reset, one that is taken slowly is not`,
    async (t) => {
      const { server, othersFelt } = await serve(t, { writeTimeoutMs: 2500 }, options);
      const client = await RawClient.open(t, server.port, [[SETTING.initialWindowSize, 100]]);
      const shut = client.request(path);
      const slow = client.request(path);
      await until('both heads', () => client.stream(shut).status === 200 && client.stream(slow).status === 200);
      const begin = performance.now();
      while (client.stream(shut).resetCode === undefined && performance.now() - begin < 30_000) {
        client.openWindow(slow, 10);
        await sleep(100);
      }
      t.is(client.stream(shut).resetCode, CANCEL);
      t.is(client.stream(slow).resetCode, undefined);
      t.true(performance.now() - begin > 1500);
      client.openWindow(slow, 2 ** 20);
      t.is((await client.end(slow)).received, 100_000);
      t.is((await server.stats()).request.reset.writeTimeout, 1);
      t.deepEqual(await othersFelt(), []);
    },
  );
}

test.serial(
  'writeTimeoutMs: a stream whose handler waits to write more is reset, and the next one goes on',
  async (t) => {
    const { server, othersFelt } = await serve(t, { writeTimeoutMs: 400 });
    const client = await RawClient.open(t, server.port, [[SETTING.initialWindowSize, 2 ** 30]]);
    client.socket.pause();
    const ids = Array.from({ length: 50 }, () => client.request('/big?size=400000'));
    await until('the end of the connection', async () => (await server.stats()).connection.closed.writeTimeout === 1);
    t.is(ids.length, 50);
    await until('no request is left', async () => (await server.stats()).request.active <= 1);
    t.deepEqual(await othersFelt(), []);
  },
);

test.serial('writeTimeoutMs: a peer whose socket takes nothing is left', async (t) => {
  const { server, othersFelt } = await serve(t, { writeTimeoutMs: 600 });
  const client = await RawClient.open(t, server.port, [[SETTING.initialWindowSize, 2 ** 30]]);
  client.socket.pause();
  client.request('/pieces?size=60000000&piece=60000');
  await until('the end', async () => (await server.stats()).connection.closed.writeTimeout === 1);
  t.deepEqual(await othersFelt(), []);
});

test.serial('a head that is whole is not held to headersTimeoutMs', async (t) => {
  const { server, othersFelt } = await serve(t, { headersTimeoutMs: 200 });
  const client = await RawClient.open(t, server.port);
  const id = client.newStream();
  client.frame(FRAME.headers, END_HEADERS, id, head('/sum', { 'content-length': '1' }));
  await sleep(600);
  client.data(id, Buffer.of(1), true);
  t.is((await client.end(id)).status, 200);
  t.deepEqual(await othersFelt(), []);
});
