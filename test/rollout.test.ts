import { once } from 'node:events';
import { type ClientHttp2Session, connect } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import test from 'ava';
import { start } from 'valk-aio';
import { cert, key } from './helpers/certificate.js';
import { ask, type Outcome, open, outcome, until } from './helpers/client.js';
import { RawClient } from './helpers/raw-client.js';
import { gate, knock, serve } from './helpers/serve.js';
import { ServerProcess } from './helpers/server-process.js';

const HEALTH = { health: {} };

test('stop() with a delay fails readiness and serves on, then drains', async (t) => {
  const { aio, server, url } = await serve(t, () => ({ body: 'served' }), HEALTH);
  const session = await open(t, url);
  t.is((await ask(session, '/readyz')).status, 200);
  const begin = performance.now();
  const stopping = aio.stop({ delayMs: 3000, timeoutMs: 5000 });
  const ready = await ask(session, '/readyz');
  t.is(ready.status, 503);
  t.is(JSON.parse(ready.body.toString()).status, 'draining');
  t.is((await ask(session, '/livez')).status, 200);
  t.is((await ask(session, '/')).body.toString(), 'served');
  const late = await open(t, url);
  t.is((await ask(late, '/')).status, 200, 'new connections too');
  const left = once(late, 'goaway');
  await stopping;
  await left;
  t.true(performance.now() - begin >= 3000);
  t.is(await knock(server.port), 'ECONNREFUSED');
});

test('a later call shortens the delay, and never lengthens it', async (t) => {
  const { aio, server } = await serve(t, () => ({}), HEALTH);
  const begin = performance.now();
  const stopping = aio.stop({ delayMs: 60_000 });
  void aio.stop({ delayMs: 100 });
  t.is(aio.stop({ delayMs: 90_000 }), stopping);
  await stopping;
  const took = performance.now() - begin;
  t.true(took >= 95 && took < 30_000, `${took} ms`);
  await server.close({ delayMs: 60_000 });
  t.throws(() => aio.stop({ delayMs: -1 }), { instanceOf: RangeError, message: /delayMs/ });
  t.throws(() => server.close({ timeoutMs: Number.NaN }), { instanceOf: RangeError, message: /timeoutMs/ });
});

test('close() with a delay concerns one server', async (t) => {
  const { aio, server, url } = await serve(t, () => ({}), HEALTH);
  const other = await aio.listen({ key, cert, ...HEALTH }, () => ({}));
  const [one, two] = [await open(t, url), await open(t, other.url)];
  const closing = server.close({ delayMs: 60_000 });
  t.is((await ask(one, '/readyz')).status, 503);
  t.is((await ask(two, '/readyz')).status, 200);
  await server.close();
  await closing;
  t.is((await ask(two, '/readyz')).status, 200);
});

test('a delay keeps the process alive, and ends with the promise', async (t) => {
  const aio = start();
  t.teardown(() => aio.stop({ timeoutMs: 0 }));
  const server = await aio.listen({ key, cert }, () => ({}));
  server.unref();
  await aio.stop({ delayMs: 50 });
  t.is(await knock(server.port), 'ECONNREFUSED');
});

test('what stood in the queue when the listener closed is accepted, served and told to leave', async (t) => {
  const { aio, server } = await serve(t, () => ({ body: 'served' }), {}, { maxConnections: 50 });
  const sockets = Array.from({ length: 20 }, () => connectTcp(server.port, '127.0.0.1'));
  for (const socket of sockets) t.teardown(() => socket.destroy());
  await Promise.all(sockets.map((socket) => once(socket, 'connect')));
  // The clients speak only after the listener has gone.
  const begin = performance.now();
  const stopping = aio.stop();
  await until('the port is closed', async () => (await knock(server.port)) === 'ECONNREFUSED');
  const outcomes = await Promise.all(
    sockets.map(async (socket) => {
      const session = connect(server.url, {
        createConnection: () => connectTls({ socket, ca: cert, ALPNProtocols: ['h2'] }),
      });
      session.on('error', () => {});
      const answer = await ask(session, '/').catch(() => undefined);
      return { status: answer?.status, tookMs: performance.now() - begin };
    }),
  );
  // A handshake has a second for its end once the server drains.
  for (const { status, tookMs } of outcomes) t.true(status === 200 || tookMs >= 1000, `${status} after ${tookMs} ms`);
  await stopping;
});

test('two servers share a port only where both say so', async (t) => {
  const { aio, server } = await serve(t, () => ({}), { reusePort: true });
  const same = { key, cert, port: server.port };
  await t.throwsAsync(
    aio.listen(same, () => ({})),
    { code: 'EADDRINUSE' },
  );
  const second = await aio.listen({ ...same, reusePort: true }, () => ({}));
  t.is(second.port, server.port);
});

/** Asks one request after another; retries once what was surely not processed. */
class RetryingClient {
  readonly outcomes: number[] = [];
  retries = 0;
  #session: ClientHttp2Session | undefined;
  #lastStream = Number.POSITIVE_INFINITY;

  constructor(readonly url: string) {}

  async #open(): Promise<ClientHttp2Session> {
    const current = this.#session;
    if (current !== undefined && !current.closed && !current.destroyed) return current;
    // A connection that ends before the server's SETTINGS has carried no request: dial again.
    for (;;) {
      const session = connect(this.url, { ca: cert });
      session.on('error', () => {});
      this.#lastStream = Number.POSITIVE_INFINITY;
      session.on('goaway', (_code, last) => {
        this.#lastStream = last;
        this.#session = undefined;
      });
      this.#session = session;
      const settled = await Promise.race([
        once(session, 'remoteSettings').then(() => true),
        once(session, 'close').then(() => false),
      ]).catch(() => false);
      if (settled) return session;
      await sleep(5);
    }
  }

  async request(): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const session = await this.#open();
      let result: Outcome | undefined;
      let id = 0;
      try {
        const stream = session.request({ ':path': '/' });
        stream.on('ready', () => {
          id = stream.id ?? 0;
        });
        result = await outcome(stream);
      } catch {
        // The session has closed between: nothing was sent.
      }
      const processed = result !== undefined && id <= this.#lastStream && result.resetCode !== 7 && id !== 0;
      if (result?.status === 200 || processed || attempt === 1) {
        this.outcomes.push(result?.status ?? 0);
        return;
      }
      this.retries++;
    }
  }

  close(): void {
    this.#session?.destroy();
  }
}

test('what crosses with GOAWAY is not processed, and the next process answers its retry', async (t) => {
  const calls: string[] = [];
  const held = gate();
  const { aio, server } = await serve(
    t,
    async (request) => {
      const { pathname } = new URL(request.url);
      calls.push(pathname);
      if (pathname === '/held') await held.promise;
      return { body: 'old' };
    },
    { reusePort: true },
  );
  const client = await RawClient.open(t, server.port);
  const next = await ServerProcess.start(t, {}, { reusePort: true, port: server.port });
  const paths = new Map<number, string>();
  const request = (path: string): void => void paths.set(client.request(path), path);
  // Keeps the connection open through both GOAWAYs.
  request('/held');
  await until('it is held', () => calls.length === 1);
  const stopping = aio.stop({ timeoutMs: 60_000 });
  await until('the first GOAWAY', () => client.goaway === 0);
  // As a client does that has not read it yet.
  await until('the second GOAWAY', () => {
    if (client.lastStream < 2 ** 31 - 1) return true;
    request(`/between/${paths.size}`);
    return false;
  });
  for (let count = 0; count < 5; count++) request(`/crossed/${count}`);
  client.ping();
  await until('all of it is read', () => client.pings === 1 || client.closed);
  held.open();
  await until('the end', () => client.closed);
  await stopping;
  t.is(client.goaway, 0);
  const retries: string[] = [];
  for (const [id, path] of paths) {
    const { status, ended } = client.stream(id);
    if (id <= client.lastStream) t.true(status === 200 && ended, `${path}: ${status}`);
    else retries.push(path);
    t.is(calls.includes(path), id <= client.lastStream, path);
  }
  t.true(retries.length >= 5);
  const second = await RawClient.open(t, server.port);
  for (const path of retries) t.is((await second.end(second.request(path))).status, 200, path);
  t.deepEqual((await next.log()).calls, retries);
  t.log(
    `${paths.size - retries.length} requests answered by the old process, ${retries.length} retried at the new one`,
  );
});

test('through a restart behind one port every request is answered', async (t) => {
  const options = { reusePort: true, health: {} };
  let current = await ServerProcess.start(t, {}, options);
  const { port, url } = current;
  const clients = Array.from({ length: 8 }, () => new RetryingClient(url));
  let running = true;
  const traffic = clients.map(async (client) => {
    while (running) await client.request();
  });
  for (let restart = 0; restart < 3; restart++) {
    const next = await ServerProcess.start(t, {}, { ...options, port });
    await sleep(200);
    await current.stop();
    current = next;
    await sleep(200);
  }
  running = false;
  await Promise.all(traffic);
  const counts: Record<number, number> = {};
  for (const client of clients) {
    client.close();
    for (const status of client.outcomes) counts[status] = (counts[status] ?? 0) + 1;
  }
  t.deepEqual(Object.keys(counts), ['200'], JSON.stringify(counts));
  const retries = clients.reduce((sum, client) => sum + client.retries, 0);
  t.log(`${counts[200]} requests, ${retries} retries, 3 restarts`);
});
