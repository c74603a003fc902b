// Specification, section 4: the queue to JavaScript and back.
import test from 'ava';
import { ask, openAll, ping, statuses, until } from './helpers/client.js';
import { ServerProcess } from './helpers/server-process.js';

const CONFIG = { maxConnections: 10, arenaPoolSize: 400, queueCapacity: 16 };

test('what finds no slot in the queue waits, and is answered once JavaScript goes on', async (t) => {
  const server = await ServerProcess.start(t, { ...CONFIG, queueTimeoutMs: 60_000 }, { health: {} });
  const sessions = await openAll(t, server.url, 10);
  const [first] = sessions;
  const { answer, unblock } = await server.block(t, first);
  const held = sessions.flatMap((session) => Array.from({ length: 30 }, () => ask(session, '/hello')));
  // JavaScript cannot tell us, but the engine can.
  await until('all but those in the queue wait', async () => {
    return JSON.parse((await ask(first, '/livez')).body.toString()).waiting >= 300 - 16;
  });
  for (const session of sessions) t.true((await ping(session)) >= 0);
  unblock();
  t.deepEqual(statuses(await Promise.all([answer, ...held])), { 200: 301 });
  const { arenas, queue, request } = await server.stats();
  t.is(queue.size, 16);
  t.is(queue.highWater, 16);
  t.true(queue.timesFull > 0);
  // Those that waited for a slot had their arenas.
  t.is(arenas.highWater, 301);
  t.is(request.serverError, 0);
  await server.assertBounds(t);
});

test('nothing waits without a bound: a full queue and those in it get the 503 while JavaScript is blocked', async (t) => {
  const server = await ServerProcess.start(t, { ...CONFIG, queueTimeoutMs: 300 }, { health: {} });
  const sessions = await openAll(t, server.url, 10);
  const { answer, unblock } = await server.block(t, sessions[0]);
  const refused = await Promise.all(
    sessions.flatMap((session) => Array.from({ length: 30 }, () => ask(session, '/hello'))),
  );
  t.deepEqual(statuses(refused), { 503: 300 });
  t.true(refused.every(({ headers }) => Number(headers['retry-after']) >= 1));
  unblock();
  t.is((await answer).status, 200);
  const { calls } = await server.log();
  const { queue, request } = await server.stats();
  t.is(calls.length, request.success);
  t.is(queue.highWater, 16);
  t.true((request.rejected503.queueTimeout as number) >= 300);
  await server.assertBounds(t);
});

test('an answer always has its slot', async (t) => {
  const server = await ServerProcess.start(t, { ...CONFIG, queueTimeoutMs: 60_000 });
  const sessions = await openAll(t, server.url, 4);
  const held = sessions.flatMap((session) => Array.from({ length: 100 }, () => ask(session, '/hold')));
  await until('all are held', async () => (await server.log()).running === 400);
  // All in one turn of JavaScript: 25 times as many as the queue has slots.
  await server.release();
  t.deepEqual(statuses(await Promise.all(held)), { 200: 400 });
  t.is((await server.stats()).request.success, 400);
  await server.assertBounds(t);
});
