// Specification, section 6: the memory of one connection.
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { ask, open, ping, until } from './helpers/client.js';
import { RawClient } from './helpers/raw-client.js';
import { ServerProcess } from './helpers/server-process.js';

/** RFC 9113, section 7. */
const ENHANCE_YOUR_CALM = 11;
const REFUSED_STREAM = 7;

test('a connection that holds too much is asked to leave, the others feel nothing', async (t) => {
  const server = await ServerProcess.start(t, { maxConnections: 4, arenaPoolSize: 100 });
  const other = await open(t, server.url);
  const client = await RawClient.open(t, server.port, [[4, 2 ** 30]]);
  // Reads nothing any more: what the socket does not take stays with the connection.
  client.socket.pause();
  client.request('/big?size=16000000');
  await until('the socket takes no more', async () => {
    const before = (await server.stats()).bytesOut;
    await sleep(300);
    const { bytesOut, buffers } = await server.stats();
    return bytesOut > 1_000_000 && bytesOut === before && buffers.inUse === 1;
  });
  for (let count = 1; count <= 90; count++) client.request('/fields?size=28000');
  await until('the handlers run', async () => (await server.log()).running === 90);
  await server.release();
  await until('all have settled', async () => (await server.log()).running === 0);
  t.true((await ping(other)) >= 0);
  const { bytesIn } = await server.stats();
  client.ping();
  // The check comes with a read: no earlier may what waits begin to leave.
  await until('the PING was read', async () => (await server.stats()).bytesIn > bytesIn);
  client.socket.resume();
  await until('GOAWAY', () => client.goaway === ENHANCE_YOUR_CALM);
  await until('it has left', async () => (await server.stats()).connection.active === 1);
  t.is((await server.stats()).connection.closed.memory, 1);
  t.is((await ask(other, '/hello')).status, 200);
  await server.assertBounds(t);
});

test('uploads that do not fit their connection are refused, and the server stays ready', async (t) => {
  const server = await ServerProcess.start(
    t,
    { maxConnections: 4, arenaPoolSize: 100, connectionHeapSize: 256 << 10, bodyTimeoutMs: 60_000 },
    { bodyMode: 'stream', health: {} },
  );
  const other = await open(t, server.url);
  const client = await RawClient.open(t, server.port);
  const ids = Array.from({ length: 60 }, () => client.request('/sum', {}, false));
  const isRefused = (id: number) => client.stream(id).resetCode === REFUSED_STREAM;
  await until('all have been taken, or their refusals have arrived', async () => {
    const { dispatched } = (await server.stats()).request;
    return (dispatched as number) + ids.filter(isRefused).length === 60;
  });
  const refused = ids.filter(isRefused);
  t.true(refused.length > 0 && refused.length < 60, `${refused.length} were refused`);
  t.is(((await server.stats()).request.reset as { refused: number }).refused, refused.length);
  t.is((await ask(other, '/readyz')).status, 200);
  for (const id of ids) if (!refused.includes(id)) client.data(id, Buffer.from('body'), true);
  for (const id of ids) if (!refused.includes(id)) t.is((await client.end(id)).status, 200);
  // Their windows are free again.
  const next = client.request('/sum', {}, false);
  client.data(next, Buffer.from('body'), true);
  t.is((await client.end(next)).status, 200);
  t.is((await server.stats()).request.rejected503.memory, 0);
  await server.assertBounds(t);
});

test('uploads that are open leave room for answers, their own among them', async (t) => {
  const server = await ServerProcess.start(t, { maxConnections: 4 }, { bodyMode: 'stream' });
  const session = await open(t, server.url);
  // Their handlers read nothing yet, so that their windows stay taken.
  const uploads = Array.from({ length: 20 }, () => ask(session, '/hold', { body: 'x'.repeat(100_000) }));
  await until('all are open', async () => (await server.log()).running === 20);
  for (let round = 0; round < 3; round++) t.is((await ask(session, '/big?size=300000')).body.length, 300_000);
  await server.release();
  for (const { status } of await Promise.all(uploads)) t.is(status, 200);
  await server.assertBounds(t);
});

test("a handler that outlives its client's patience is forgotten when it settles", async (t) => {
  // A handler's time counts from the end of queueTimeoutMs at the latest.
  const config = { maxConnections: 4, handlerTimeoutMs: 200, writeTimeoutMs: 300, queueTimeoutMs: 1000 };
  const server = await ServerProcess.start(t, config);
  // Not even the 503 can be sent: no window is open for it.
  const client = await RawClient.open(t, server.port, [[4, 0]]);
  for (let count = 0; count < 5; count++) client.request('/hold');
  await until('their streams were reset', async () => {
    const { reset } = (await server.stats()).request;
    return reset.writeTimeout === 5;
  });
  t.is((await server.log()).running, 5);
  await server.release();
  await until('they have settled', async () => (await server.log()).running === 0);
  await until('nothing is left of them', async () => (await server.stats()).request.active === 0);
  t.is((await server.stats()).arenas.inUse, 0);
  await server.assertBounds(t);
});
