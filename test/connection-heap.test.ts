// Specification, section 6: the memory of one connection.
import test from 'ava';
import { ask, open, ping, until } from './helpers/client.js';
import { RawClient } from './helpers/raw-client.js';
import { ServerProcess } from './helpers/server-process.js';

const ENHANCE_YOUR_CALM = 11;

test('a connection that holds too much is asked to leave, the others feel nothing', async (t) => {
  const server = await ServerProcess.start(t, { maxConnections: 4, arenaPoolSize: 100 });
  const other = await open(t, server.url);
  const client = await RawClient.open(t, server.port, [[4, 2 ** 30]]);
  // Reads nothing any more: what the socket does not take stays with the connection.
  client.socket.pause();
  client.request('/big?size=16000000');
  await until('the large answer is on its way', async () => (await server.log()).calls.length === 1);
  for (let count = 1; count <= 90; count++) client.request('/fields?size=28000');
  await until('the handlers run', async () => (await server.log()).running === 90);
  await server.release();
  await until('all have settled', async () => (await server.log()).running === 0);
  t.true((await ping(other)) >= 0);
  client.ping();
  client.socket.resume();
  await until('GOAWAY', () => client.goaway === ENHANCE_YOUR_CALM);
  await until('it has left', async () => (await server.stats()).connection.active === 1);
  t.is((await server.stats()).connection.closed.memory, 1);
  t.is((await ask(other, '/hello')).status, 200);
  await server.assertBounds(t);
});
