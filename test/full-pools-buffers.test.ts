// Specification, section 4: TCP buffers.
import test from 'ava';
import { ask, openAll, ping, statuses, until } from './helpers/client.js';
import { pattern, sha256 } from './helpers/lab.js';
import { RawClient, SETTING } from './helpers/raw-client.js';
import { ServerProcess } from './helpers/server-process.js';

const withoutBuffer = test.macro(async (t, ioThreads: number) => {
  // Sixteen buffers for sixteen connections, and two of them are for writing alone.
  const pools = { maxConnections: 16, tcpBufferPoolSize: 16 };
  const server = await ServerProcess.start(t, { ...pools, ioThreads, writeTimeoutMs: 600_000 });
  // Clients that read nothing hold a buffer each with what their sockets do not take.
  const idle: RawClient[] = [];
  for (let count = 0; count < 13; count++) {
    const client = await RawClient.open(t, server.port, [[SETTING.initialWindowSize, 2 ** 31 - 1]]);
    client.request('/flow?size=1000000000');
    idle.push(client);
  }
  await until('the answers have begun', () => idle.every((client) => client.stream(1).received > 0));
  for (const client of idle) client.socket.pause();
  await until('each holds a buffer', async () => (await server.stats()).buffers.inUse >= 13);

  const sessions = await openAll(t, server.url, 2);
  const body = pattern(4 << 20);
  const expected = `${body.length} ${sha256(body)}`;

  // One more, and none is left to read with.
  const last = await RawClient.open(t, server.port, [[SETTING.initialWindowSize, 2 ** 31 - 1]]);
  last.request('/flow?size=30000000');
  await until('its answer has begun', () => last.stream(1).received > 0);
  last.socket.pause();
  await until('it holds one too', async () => (await server.stats()).buffers.inUse >= 14);
  // A buffer that was counted may have been one in passing: uploads follow each other until one meets all of them held.
  let waited = false;
  const held = sessions.map(async (session) => {
    do t.is((await ask(session, '/sum', { body })).body.toString(), expected);
    while (!waited);
  });
  await until('reading waits', async () => (await server.stats()).buffers.waiters > 0);
  waited = true;
  last.socket.resume();
  await Promise.all(held);
  t.true((await last.end(1)).ended);
  await until('nobody waits', async () => (await server.stats()).buffers.waiters === 0);
  for (let round = 0; round < 3; round++) {
    const uploads = await Promise.all(sessions.map((session) => ask(session, '/sum', { body })));
    for (const { status, body: answer } of uploads) {
      t.is(status, 200);
      t.is(answer.toString(), expected);
    }
    for (const session of sessions) t.true((await ping(session)) >= 0);
  }
  const many = sessions.flatMap((session) => Array.from({ length: 50 }, () => ask(session, '/big?size=100000')));
  const answers = await Promise.all(many);
  t.deepEqual(statuses(answers), { 200: 100 });
  t.true(answers.every(({ body: bytes }) => sha256(bytes) === sha256(pattern(100_000))));
  const { buffers } = await server.stats();
  t.is(buffers.size, 16);
  t.true(buffers.timesFull > 0);
  t.true(buffers.highWater >= 14 && buffers.highWater <= 16, `${buffers.highWater}`);
  await server.assertBounds(t);

  // Those who read again get on with it.
  const before = idle.map((client) => client.stream(1).received);
  for (const client of idle) client.socket.resume();
  await until('all of them go on', () =>
    idle.every((client, at) => client.stream(1).received > (before[at] as number)),
  );
  t.is((await server.stats()).connection.active, 16);
});

const WITHOUT_BUFFER = 'without a buffer reading stops and goes on later: no byte is lost, and nobody is left waiting';
test(WITHOUT_BUFFER, withoutBuffer, 1);
test(`${WITHOUT_BUFFER}, on two threads`, withoutBuffer, 2);

test('tcpBufferPoolSize is what there is, however many want to read at once', async (t) => {
  const server = await ServerProcess.start(t, { maxConnections: 16, tcpBufferPoolSize: 16 });
  const sessions = await openAll(t, server.url, 16);
  const body = pattern(1 << 20);
  const answers = await Promise.all(
    sessions.flatMap((session) => Array.from({ length: 4 }, () => ask(session, '/sum', { body }))),
  );
  t.deepEqual(statuses(answers), { 200: 64 });
  // A buffer goes back when the socket has taken what is in it, which the client may have read by then.
  await until('all are back', async () => (await server.stats()).buffers.inUse === 0);
  t.true((await server.stats()).buffers.highWater <= 16);
  await server.assertBounds(t);
});
