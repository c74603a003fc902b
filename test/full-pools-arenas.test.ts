// Specification, section 4: arenas.
import test from 'ava';
import { ask, open, openAll, outcome, ping, send, statuses, until } from './helpers/client.js';
import { pattern, sha256 } from './helpers/lab.js';
import { RawClient } from './helpers/raw-client.js';
import { ServerProcess } from './helpers/server-process.js';

const PATIENT = { queueTimeoutMs: 60_000 };

test('without an arena requests wait, their connections are read, and all are answered', async (t) => {
  const server = await ServerProcess.start(
    t,
    { maxConnections: 10, arenaPoolSize: 4, ...PATIENT },
    { staticRoutes: { '/robots.txt': { body: 'none\n' } }, health: {} },
  );
  const sessions = await openAll(t, server.url, 10);
  const first = sessions[0];
  // Under way before the others, and much larger than the client's window: it goes on only if WINDOW_UPDATEs are read.
  const size = 8 << 20;
  const download = ask(first, `/pieces?size=${size}`);
  await until('it has begun', async () => (await server.log()).calls.length === 1);
  const held = sessions.flatMap((session) => Array.from({ length: 20 }, () => ask(session, '/hold')));
  await until('196 wait', async () => (await server.stats()).request.waiting === 196);
  t.is((await server.stats()).arenas.inUse, 4);

  for (const session of sessions) {
    t.true((await ping(session)) >= 0);
    t.is((await ask(session, '/robots.txt')).body.toString(), 'none\n');
    t.is((await ask(session, '/livez')).status, 200);
  }
  const { body, whole } = await download;
  t.true(whole);
  t.is(sha256(body), sha256(pattern(size)));
  // RST_STREAM is read: a request leaves the line.
  const left = send(first, '/hold?left');
  const gone = outcome(left);
  await until('197 wait', async () => (await server.stats()).request.waiting === 197);
  left.close(8);
  await gone;
  await until('196 wait again', async () => (await server.stats()).request.waiting === 196);
  t.is((await server.log()).running, 4);

  t.deepEqual(statuses(await server.releaseUntil(Promise.all(held))), { 200: 200 });
  const { calls, peak } = await server.log();
  t.is(peak, 4);
  t.false(calls.includes('/hold?left'));
  const stats = await server.stats();
  t.is(stats.arenas.highWater, 4);
  t.is(stats.arenas.inUse, 0);
  t.true(stats.arenas.timesFull > 0);
  t.is(stats.request.serverError, 0);
  await server.assertBounds(t);
});

test('connections take turns at arenas, and so do the streams of one', async (t) => {
  const server = await ServerProcess.start(t, { maxConnections: 4, arenaPoolSize: 1, ...PATIENT });
  const [greedy, modest] = await openAll(t, server.url, 2);
  const first = ask(greedy, '/hold');
  await until('the arena is taken', async () => (await server.stats()).arenas.inUse === 1);
  const many = Array.from({ length: 90 }, (_, at) => ask(greedy, `/hello?greedy=${at}`));
  await until('90 wait', async () => (await server.stats()).request.waiting === 90);
  const few = Array.from({ length: 5 }, (_, at) => ask(modest, `/hello?modest=${at}`));
  await until('95 wait', async () => (await server.stats()).request.waiting === 95);
  await server.release();
  t.deepEqual(statuses(await Promise.all([first, ...many, ...few])), { 200: 96 });
  const { calls } = await server.log();
  const turns = calls.slice(1).map((call) => call.slice('/hello?'.length));
  // One of each, then the rest in the order in which they came.
  const modestTurns = turns.flatMap((turn, at) => (turn.startsWith('modest') ? [at] : []));
  t.true(modestTurns[4] <= 10, `the modest had turns ${modestTurns}`);
  for (const who of ['greedy', 'modest']) {
    const order = turns.filter((turn) => turn.startsWith(who)).map((turn) => Number(turn.split('=')[1]));
    t.deepEqual(
      order,
      order.toSorted((a, b) => a - b),
    );
  }
  await server.assertBounds(t);
});

test('after queueTimeoutMs a request that waits gets the 503, and never reaches the handler', async (t) => {
  const config = { maxConnections: 10, arenaPoolSize: 2, queueTimeoutMs: 300 };
  const server = await ServerProcess.start(t, config, { error503Body: 'full\n' });
  const sessions = await openAll(t, server.url, 10);
  const held = [ask(sessions[0], '/hold'), ask(sessions[1], '/hold')];
  await until('the arenas are taken', async () => (await server.stats()).arenas.inUse === 2);
  const refused = await Promise.all(
    sessions.flatMap((session) => Array.from({ length: 50 }, () => ask(session, '/hello'))),
  );
  t.deepEqual(statuses(refused), { 503: 500 });
  for (const { headers, body } of refused) {
    t.is(body.toString(), 'full\n');
    const seconds = Number(headers['retry-after']);
    t.true(Number.isInteger(seconds) && seconds >= 1 && seconds <= 30, headers['retry-after']);
  }
  await server.release();
  t.deepEqual(statuses(await Promise.all(held)), { 200: 2 });
  t.deepEqual((await server.log()).calls, ['/hold', '/hold']);
  t.is((await server.stats()).request.rejected503.queueTimeout, 500);
  await server.assertBounds(t);
});

for (const [what, connectionHeapSize, bodySize] of [
  ['large heads', 256 << 10, 0],
  ['large heads and a body each, at the default', undefined, 8192],
] as const) {
  test(`what does not fit its connection's memory is refused, others feel nothing: ${what}`, async (t) => {
    const server = await ServerProcess.start(t, {
      maxConnections: 10,
      arenaPoolSize: 2,
      connectionHeapSize,
      ...PATIENT,
    });
    const [greedy, modest, holder] = await openAll(t, server.url, 3);
    const held = [ask(holder, '/hold'), ask(holder, '/hold')];
    await until('the arenas are taken', async () => (await server.stats()).arenas.inUse === 2);
    const large = { headers: { 'x-large': 'x'.repeat(30_000) }, body: bodySize > 0 ? pattern(bodySize) : undefined };
    const many = Promise.all(Array.from({ length: 100 }, () => ask(greedy, '/sum', large)));
    await until('some are refused', async () => {
      const { reset, waiting } = (await server.stats()).request;
      return reset.refused + waiting === 100;
    });
    const few = Promise.all(Array.from({ length: 10 }, () => ask(modest, '/hello')));
    await until('the others wait', async () => (await server.stats()).request.waiting >= 10);
    await server.release();
    const outcomes = await many;
    const refusedStream = 7;
    const refused = outcomes.filter(({ resetCode }) => resetCode === refusedStream).length;
    t.deepEqual(statuses(outcomes), { 0: refused, 200: 100 - refused });
    t.true(refused > 0 && refused < 100, `${refused} were refused`);
    t.deepEqual(statuses([...(await few), ...(await Promise.all(held))]), { 200: 12 });
    const stats = await server.stats();
    t.is(stats.request.reset.refused, refused);
    t.is(stats.connection.active, 3);
    // The connection can be used as before.
    t.is((await ask(greedy, '/hello')).status, 200);
    await server.assertBounds(t);
  });
}

test('the body of a request that waits comes as far as a small window, which opens at admission', async (t) => {
  const server = await ServerProcess.start(t, { maxConnections: 4, arenaPoolSize: 1, ...PATIENT });
  const holder = await open(t, server.url);
  const held = ask(holder, '/hold');
  await until('the arena is taken', async () => (await server.stats()).arenas.inUse === 1);
  const client = await RawClient.open(t, server.port);
  const size = 1 << 20;
  const upload = client.request('/sum', { 'content-length': String(size) }, false);
  const initial = client.stream(upload).window;
  t.true(initial <= 16_384, `an initial window of ${initial}`);
  const body = pattern(size);
  client.data(upload, body.subarray(0, initial));
  await until('it waits', async () => (await server.stats()).request.waiting === 1);
  client.ping();
  await until('PING is answered', () => client.pings === 1);
  t.is(client.stream(upload).window, 0);

  await server.release();
  t.is((await held).status, 200);
  await until('the window opens', () => client.stream(upload).window > 0);
  let sent = initial;
  await until('all is sent', () => {
    const piece = Math.min(client.stream(upload).window, client.window, size - sent);
    if (piece > 0) client.data(upload, body.subarray(sent, sent + piece), sent + piece === size);
    sent += piece;
    return sent === size;
  });
  const { status, ended } = await client.end(upload);
  t.is(status, 200);
  t.true(ended);
  await server.assertBounds(t);
});

test('requests whose body is still coming hold at most 3/4 of the arenas, and one connection at most 1/4', async (t) => {
  const server = await ServerProcess.start(t, { maxConnections: 8, arenaPoolSize: 8, ...PATIENT });
  const uploads = await Promise.all(Array.from({ length: 5 }, () => RawClient.open(t, server.port)));
  const first = uploads[0];
  const ids = uploads.map((client) => Array.from({ length: 6 }, () => client.request('/sum', {}, false)));
  await until('all have come, and wait or are admitted', async () => {
    const { active, waiting } = (await server.stats()).request;
    return active === 30 && waiting === 24;
  });
  const stats = await server.stats();
  t.is(stats.arenas.inUse, 6);
  t.is(stats.request.waiting, 24);
  // A window that has opened tells which were admitted.
  const admitted = (client: RawClient, of: number[]): number =>
    of.filter((id) => client.stream(id).window > 8192).length;
  await until('their windows are open', () => {
    return uploads.reduce((sum, client, at) => sum + admitted(client, ids[at]), 0) === 6;
  });
  for (const [at, client] of uploads.entries()) t.true(admitted(client, ids[at]) <= 2);
  // Others are served, by the arenas that are left.
  const session = await open(t, server.url);
  t.deepEqual(statuses(await Promise.all(Array.from({ length: 50 }, () => ask(session, '/hello')))), { 200: 50 });
  // As bodies end the next ones are admitted.
  for (const [at, client] of uploads.entries()) for (const id of ids[at]) client.data(id, Buffer.from('body'), true);
  for (const [at, client] of uploads.entries()) {
    for (const id of ids[at]) t.is((await client.end(id)).status, 200);
  }
  t.false(first.closed);
  t.is((await server.stats()).arenas.inUse, 0);
  await server.assertBounds(t);
});

test('long streams hold no arena, either way', async (t) => {
  const server = await ServerProcess.start(t, { maxConnections: 10, arenaPoolSize: 4 }, { bodyMode: 'stream' });
  const [session, other] = await openAll(t, server.url, 2);
  const events = Array.from({ length: 50 }, () => ask(session, '/open'));
  const client = await RawClient.open(t, server.port);
  const uploads = Array.from({ length: 50 }, () => client.request('/sum', {}, false));
  await until('all have their handlers', async () => (await server.log()).calls.length === 100);
  t.deepEqual(statuses(await Promise.all(Array.from({ length: 100 }, () => ask(other, '/hello')))), { 200: 100 });
  t.is((await server.stats()).arenas.inUse, 0);
  for (const id of uploads) client.data(id, Buffer.from('body'), true);
  for (const id of uploads) t.is((await client.end(id)).status, 200);
  await server.release();
  for (const { status, body } of await Promise.all(events)) {
    t.is(status, 200);
    t.is(body.toString(), 'open\ndone\n');
  }
  await server.assertBounds(t);
});
