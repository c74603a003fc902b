// Specification, section 2: stopping.
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import test from 'ava';
import { AioConfigError } from 'valk-aio';
import { cert, key } from './helpers/certificate.js';
import { ask, open, openAll, outcome, send, until } from './helpers/client.js';
import { pattern, sha256 } from './helpers/lab.js';
import { RawClient } from './helpers/raw-client.js';
import { gate, knock, serve, threadCount } from './helpers/serve.js';

/** RFC 9113, section 7. */
const REFUSED_STREAM = 7;

test('stop() is idempotent: its calls share one promise, at the same time and later', async (t) => {
  const { aio, server } = await serve(t, () => ({}));
  const first = aio.stop();
  t.is(aio.stop({ timeoutMs: 5000 }), first);
  t.is(aio[Symbol.asyncDispose](), first);
  await first;
  t.is(aio.stop(), first);
  await aio.stop();
  await server.close();
  await server.close({ timeoutMs: 1 });
  t.is(server.ref(), server);
  t.is(server.unref(), server);
});

test('a timeout that is none is thrown, and nothing is stopped', async (t) => {
  const { aio, server, url } = await serve(t, () => ({}));
  for (const timeoutMs of [-1, Number.NaN, '1', null, {}]) {
    const options = { timeoutMs } as { timeoutMs: number };
    if (timeoutMs !== null) {
      t.throws(() => aio.stop(options), { instanceOf: RangeError });
      t.throws(() => server.close(options), { instanceOf: RangeError });
      t.throws(() => aio.stop(options), { code: 'ERR_VALK_AIO_CONFIG', message: /^timeoutMs / });
    }
  }
  for (const [options, message] of [
    [{ timeout: 0 }, 'timeout is not a known option; did you mean timeoutMs?'],
    [5000, 'options must be a plain object, not a number'],
    ['SIGTERM', 'options must be a plain object, not a string'],
  ] as const) {
    t.throws(() => aio.stop(options as object), { instanceOf: AioConfigError, message });
    t.throws(() => server.close(options as object), { instanceOf: AioConfigError, message });
  }
  t.is((await ask(await open(t, url), '/')).status, 200);
  await aio.stop({ timeoutMs: Number.POSITIVE_INFINITY });
});

test('stop() refuses new connections at once, sends GOAWAY, and lets requests in flight finish', async (t) => {
  const held = gate();
  const running = gate();
  const { aio, server, url, errors } = await serve(t, async (request) => {
    const { length } = await request.bytes();
    running.open();
    await held.promise;
    return { body: `${length} bytes` };
  });
  const session = await open(t, url);
  const idle = await open(t, url);
  const goaway = once(session, 'goaway') as Promise<[number]>;
  const idleClosed = once(idle, 'close');
  // One whose handler runs, and one whose body is still coming.
  const inFlight = ask(session, '/', { body: 'abc' });
  await running.promise;
  const uploading = session.request({ ':method': 'POST', ':path': '/upload' });
  const uploaded = outcome(uploading);
  uploading.write('begun');
  await until('the upload has come', () => aio.stats().request.total === 2);

  const stopping = aio.stop();
  t.is((await goaway)[0], 0);
  await idleClosed;
  t.is(await knock(server.port), 'ECONNREFUSED');
  await t.throwsAsync(
    aio.listen({ key, cert }, () => ({})),
    { code: 'ERR_VALK_AIO_STOPPED' },
  );
  t.is(await Promise.race([stopping.then(() => 'stopped'), sleep(100, 'draining')]), 'draining');

  uploading.end(' and ended');
  held.open();
  t.like(await inFlight, { status: 200, whole: true });
  const second = await uploaded;
  t.like(second, { status: 200, whole: true });
  t.is(second.body.toString(), '15 bytes');
  await stopping;
  t.is(aio.stats().request.success, 2);
  t.is(aio.stats().request.reset.stopped, 0);
  t.deepEqual(errors, []);
});

test('a stream that begins after the last GOAWAY is refused, or answered if it was on its way', async (t) => {
  const held = gate();
  const { aio, server } = await serve(t, async ({ url }) => {
    if (url.endsWith('/hold')) await held.promise;
    return { body: 'done' };
  });
  const client = await RawClient.open(t, server.port);
  const first = client.request('/hold');
  await until('the handler runs', () => aio.stats().request.dispatched === 1);
  const stopping = aio.stop();
  await until('GOAWAY', () => client.goaway !== undefined);
  // What is sent within the first GOAWAY's round trip is answered; later ones may be dropped or refused without an effect.
  const late = client.request('/late');
  held.open();
  t.is((await client.end(first)).status, 200);
  await stopping;
  await until('the connection is closed', () => client.closed);
  const { status, ended, resetCode } = client.stream(late);
  t.true((status === 200 && ended) || (status === 0 && (resetCode === undefined || resetCode === REFUSED_STREAM)));
});

test('a large answer that is on its way is sent whole before the stop', async (t) => {
  const bytes = pattern(8 << 20);
  const { aio, url } = await serve(t, () => ({ body: bytes }));
  const session = await open(t, url);
  const stream = send(session, '/');
  const ended = outcome(stream);
  stream.pause();
  await once(stream, 'response');
  const stopping = aio.stop();
  stream.resume();
  const { whole, body } = await ended;
  t.true(whole);
  t.is(sha256(body), sha256(bytes));
  await stopping;
});

test('at the deadline what is in flight is reset, and the promise settles though a handler never does', async (t) => {
  const held = gate();
  const reasons: unknown[] = [];
  let called = 0;
  const { aio, url } = await serve(t, async (request) => {
    called++;
    request.signal.addEventListener('abort', () => reasons.push(request.signal.reason));
    if (new URL(request.url).pathname === '/stream') {
      return {
        body: (async function* () {
          yield 'begun';
          await held.promise;
        })(),
      };
    }
    await held.promise;
    return { body: 'too late' };
  });
  const session = await open(t, url);
  const ended = [ask(session, '/hold'), ask(session, '/stream')] as const;
  await until('the handlers run', () => called === 2);
  const begin = performance.now();
  await aio.stop({ timeoutMs: 300 });
  t.true(performance.now() - begin >= 250, 'they had their time');
  for (const { whole } of await Promise.all(ended)) t.false(whole);
  await until('the signals', () => reasons.length === 2);
  for (const reason of reasons) t.is((reason as Error).name, 'AbortError');
  t.is(aio.stats().request.active, 0);
  // What the handlers give now goes nowhere, and hurts nobody.
  held.open();
  await sleep(20);
});

test('a later call may shorten the time', async (t) => {
  const { aio, url } = await serve(t, () => new Promise<never>(() => {}));
  const session = await open(t, url);
  const ended = ask(session, '/');
  await until('the handler runs', () => aio.stats().request.dispatched === 1);
  const stopping = aio.stop({ timeoutMs: 3_600_000 });
  t.is(await Promise.race([stopping.then(() => 'stopped'), sleep(50, 'draining')]), 'draining');
  t.is(aio.stop({ timeoutMs: 0 }), stopping);
  await stopping;
  t.false((await ended).whole);
});

test('close() drains one server as stop() does the system', async (t) => {
  const held = gate();
  const { aio, server, url } = await serve(t, async () => {
    await held.promise;
    return { body: 'held' };
  });
  const other = await aio.listen({ key, cert }, () => ({ body: 'other' }));
  const [session, otherSession] = [await open(t, url), await open(t, other.url)];
  const inFlight = ask(session, '/');
  await until('the handler runs', () => aio.stats().request.dispatched === 1);
  const goaway = once(session, 'goaway');
  const closing = server.close();
  await goaway;
  t.is(await knock(server.port), 'ECONNREFUSED');
  t.is((await ask(otherSession, '/')).body.toString(), 'other');
  held.open();
  t.is((await inFlight).body.toString(), 'held');
  await closing;
  t.is((await ask(otherSession, '/')).body.toString(), 'other');
});

test('close() resets at its deadline what is in flight, on that server alone', async (t) => {
  const { aio, server, url } = await serve(t, () => new Promise<never>(() => {}));
  const held = gate();
  const other = await aio.listen({ key, cert }, async () => {
    await held.promise;
    return { body: 'other' };
  });
  const cut = ask(await open(t, url), '/');
  const kept = ask(await open(t, other.url), '/');
  await until('the handlers run', () => aio.stats().request.dispatched === 2);
  await server.close({ timeoutMs: 50 });
  t.false((await cut).whole);
  held.open();
  t.is((await kept).body.toString(), 'other');
});

test('a handler may stop its own system, and its answer still arrives', async (t) => {
  const stopped = gate();
  const { aio, url } = await serve(t, () => {
    void aio.stop().then(stopped.open);
    return { body: 'the last' };
  });
  const { status, body, whole } = await ask(await open(t, url), '/');
  t.is(status, 200);
  t.is(body.toString(), 'the last');
  t.true(whole);
  await stopped.promise;
});

test('stop() during a listen() that has not settled: that is rejected, or closed with the rest', async (t) => {
  const { aio } = await serve(t, () => ({}));
  // A name takes a turn of the event loop to be looked up.
  const listening = t.throwsAsync(
    aio.listen({ key, cert, host: 'localhost' }, () => ({})),
    { code: 'ERR_VALK_AIO_STOPPED' },
  );
  const stopping = aio.stop();
  await listening;
  await stopping;
});

test('stop() while clients shake hands, and before they speak, does not wait for them', async (t) => {
  const { aio, server } = await serve(t, () => ({}));
  const silent = connectTls({ port: server.port, host: '127.0.0.1', ALPNProtocols: ['h2'], ca: cert });
  t.teardown(() => silent.destroy());
  await once(
    silent.on('error', () => {}),
    'secureConnect',
  );
  // One that has not said a word.
  const mute = connect(server.port, '127.0.0.1').on('error', () => {});
  t.teardown(() => mute.destroy());
  const gone = [silent, mute].map((socket) => once(socket.resume(), 'close'));
  const sessions = await openAll(t, server.url, 5);
  const closed = sessions.map((session) => once(session, 'close'));
  await until('all are there', () => aio.stats().connection.active === 7);
  await aio.stop({ timeoutMs: 60_000 });
  await Promise.all(closed);
  await Promise.all(gone);
  t.is(aio.stats().connection.active, 0);
});

test.serial('after stop() its threads are gone', async (t) => {
  const before = threadCount();
  const { aio, url } = await serve(t, () => ({ body: 'x' }), {}, { ioThreads: 2 });
  t.is(threadCount(), before + 2);
  await ask(await open(t, url), '/');
  await aio.stop();
  t.is(threadCount(), before);
});

test('after the end stats() is the last snapshot, and requests and connections are still whole', async (t) => {
  const kept: { request?: Request; info?: unknown } = {};
  const { aio, url } = await serve(t, (request, info) => {
    Object.assign(kept, { request, info });
    return { body: 'x' };
  });
  await ask(await open(t, `${url}`), '/path?query', { headers: { 'x-name': 'value' } });
  await aio.stop();
  t.is(aio.stats().request.success, 1);
  t.deepEqual(aio.stats(), aio.stats());
  t.is(kept.request?.url, `${url}path?query`);
  t.is(kept.request?.headers.get('x-name'), 'value');
  t.is((kept.info as { remoteAddress: string }).remoteAddress, '127.0.0.1');
});
