// What the engine goes on doing while JavaScript is busy or has too much to do (specification, section 4).
import type { ClientHttp2Session } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { ask, type Outcome, open, openAll, ping, statuses, until } from './helpers/client.js';
import { serve } from './helpers/serve.js';
import { ServerProcess } from './helpers/server-process.js';

const OPTIONS = { staticRoutes: { '/robots.txt': { body: 'none\n' } }, health: {} };

test.serial('while a handler blocks JavaScript for 3 s, all that needs no handler is answered', async (t) => {
  const server = await ServerProcess.start(t, { queueTimeoutMs: 1000 }, OPTIONS);
  const [first, ...others] = await openAll(t, server.url, 10);
  const { answer, unblock } = await server.block(t, first as ClientHttp2Session);
  const waiting = others.flatMap((session) => Array.from({ length: 50 }, () => ask(session, '/hello')));
  const end = performance.now() + 3000;
  for (let round = 0; round < 10 || performance.now() < end; round++) {
    const fresh = await open(t, server.url);
    for (const session of [first as ClientHttp2Session, others[0] as ClientHttp2Session, fresh]) {
      t.is((await ask(session, '/livez')).status, 200);
      t.is((await ask(session, '/robots.txt')).body.toString(), 'none\n');
      t.true((await ping(session)) >= 0);
    }
    fresh.close();
  }
  t.is((await Promise.race(waiting)).status, 503, 'what has waited its time');
  unblock();
  t.is((await answer).status, 200);
  const counts = statuses(await Promise.all(waiting));
  t.is((counts[200] ?? 0) + (counts[503] ?? 0), 450, JSON.stringify(counts));
  const calls = (await server.log()).calls.filter((path) => path === '/hello').length;
  t.is(calls, counts[200] ?? 0);
  t.is((await ask(first as ClientHttp2Session, '/hello')).status, 200);
  await server.assertBounds(t);
});

test.serial(
  'a load beyond the handlers: what is taken is served, the rest gets its 503, and then all is as before',
  async (t) => {
    const server = await ServerProcess.start(t, { queueTimeoutMs: 300, maxConnections: 50 }, OPTIONS);
    const sessions = await openAll(t, server.url, 20);
    const [probe] = await openAll(t, server.url, 1);
    const outcomes: Outcome[] = [];
    let over = false;
    // 200 requests under way at all times, for handlers that can do 200 a second; who is refused comes back at once.
    const load = sessions.flatMap((session) =>
      Array.from({ length: 10 }, async () => {
        while (!over) outcomes.push(await ask(session, '/busy?ms=5'));
      }),
    );
    for (let look = 0; look < 15; look++) {
      t.is((await ask(probe as ClientHttp2Session, '/livez')).status, 200);
      t.is((await ask(probe as ClientHttp2Session, '/robots.txt')).status, 200);
      t.true((await ping(probe as ClientHttp2Session)) >= 0);
      await sleep(200);
    }
    // Overloaded within the last 5 s: no place for new traffic.
    t.is((await ask(probe as ClientHttp2Session, '/readyz')).status, 503);
    over = true;
    await Promise.all(load);
    const counts = statuses(outcomes);
    t.deepEqual(Object.keys(counts), ['200', '503']);
    const calls = (await server.log()).calls.filter((path) => path.startsWith('/busy')).length;
    t.is(calls, counts[200], 'what was refused never reached a handler');
    const { request } = await server.stats();
    t.is(request.rejected503.queueTimeout, counts[503]);
    t.is(request.waiting, 0);
    t.is((await ask(probe as ClientHttp2Session, '/hello')).status, 200);
    await until('it is ready again', async () => (await ask(probe as ClientHttp2Session, '/readyz')).status === 200);
    await server.assertBounds(t);
  },
);

test('handlers that take long let the rest of the event loop have its turn, also after many that do not', async (t) => {
  let round = 0;
  let over = false;
  const longOnes: number[] = [];
  const next = (): void => {
    round += 1;
    if (!over) setImmediate(next);
  };
  const { url } = await serve(t, (request) => {
    if (!request.url.endsWith('/long')) return {};
    longOnes[round] = (longOnes[round] ?? 0) + 1;
    const end = performance.now() + 3;
    while (performance.now() < end);
    return {};
  });
  const session = await open(t, url);
  next();
  const paths = Array.from({ length: 100 }, (_, at) => (at % 50 < 25 ? '/' : '/long'));
  t.deepEqual(statuses(await Promise.all(paths.map((path) => ask(session, path)))), { 200: 100 });
  over = true;
  const most = Math.max(...longOnes.filter(Boolean));
  t.true(most <= 8, `${most} in one turn`);
});

test('after handlerTimeoutMs the signal aborts, the client has its 503, and the place is free', async (t) => {
  // A handler's time counts from the end of queueTimeoutMs at the latest.
  const config = { arenaPoolSize: 1, maxConnections: 4, handlerTimeoutMs: 300, queueTimeoutMs: 1000 };
  const server = await ServerProcess.start(t, config);
  const session = await open(t, server.url);
  const late = await ask(session, '/hold');
  t.is(late.status, 503);
  await until('the handler and onError are told', async () => {
    const { aborted, errors } = await server.log();
    return aborted.length > 0 && errors.length > 0;
  });
  const { aborted, errors, running } = await server.log();
  t.deepEqual(aborted, ['/hold']);
  t.is(errors.length, 1);
  t.is(running, 1);
  // The handler still runs, and the only arena serves others.
  t.is((await ask(session, '/hello')).status, 200);
  const { arenas, request } = await server.stats();
  t.is(arenas.inUse, 0);
  t.is(request.rejected503.handlerTimeout, 1);
  await server.release();
  await until('it has settled', async () => (await server.log()).running === 0);
  t.is((await ask(session, '/hello')).status, 200);
  await server.assertBounds(t);
});

test('maxOverflowArenas lets the pool grow that far, each time counted', async (t) => {
  const config = { maxConnections: 8, arenaPoolSize: 2, maxOverflowArenas: 3, queueTimeoutMs: 60_000 };
  const server = await ServerProcess.start(t, config);
  const session = await open(t, server.url);
  const held = Array.from({ length: 8 }, () => ask(session, '/hold'));
  await until('five run', async () => (await server.log()).running === 5);
  await until('the others have come', async () => (await server.stats()).request.waiting === 3);
  const stats = await server.stats();
  t.is((await server.log()).running, 5);
  t.is(stats.arenas.inUse, 5);
  t.is(stats.overflowArenas, 3);
  t.is(stats.request.waiting, 3);
  t.deepEqual(statuses(await server.releaseUntil(Promise.all(held))), { 200: 8 });
  t.is((await server.stats()).arenas.inUse, 0);
});
