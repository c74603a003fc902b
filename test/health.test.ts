// Specification, section 3: health endpoints, and the fields that the engine adds.
import { connect } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { cert } from './helpers/certificate.js';
import { ask, open, openAll, until } from './helpers/client.js';
import { serve } from './helpers/serve.js';
import { ServerProcess } from './helpers/server-process.js';

const IMF_FIXDATE = /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$/;

test('health has paths of its own on the port, in JSON, and counts for no handler', async (t) => {
  const server = await ServerProcess.start(t, { maxConnections: 4 }, { health: { live: '/up', ready: '/go' } });
  const session = await open(t, server.url);
  for (const path of ['/up', '/go', '/up?probe=1']) {
    const { status, headers, body } = await ask(session, path);
    t.is(status, 200);
    t.regex(String(headers['content-type']), /^application\/json/);
    const { waiting, pressure, jsAgeMs } = JSON.parse(body.toString());
    t.is(waiting, 0);
    t.deepEqual(Object.keys(pressure), ['connections', 'buffers', 'arenas']);
    t.true(jsAgeMs >= 0 && jsAgeMs < 30_000);
  }
  t.is((await ask(session, '/up', { method: 'HEAD' })).body.length, 0);
  t.is((await ask(session, '/livez')).body.toString(), 'Hello, world!\n');
  t.deepEqual((await server.log()).calls, ['/livez']);
});

test('a health port has sixteen places of its own: a full server answers its probes', async (t) => {
  const server = await ServerProcess.start(t, { maxConnections: 1 }, { health: { port: 0 } });
  const only = await open(t, server.url);
  const held = ask(only, '/hold');
  await until('it is full, and the request held', async () => (await server.log()).running === 1);
  t.is((await server.stats()).connections.inUse, 1);
  const probes = await openAll(t, `https://127.0.0.1:${server.healthPort}/`, 16);
  for (const probe of probes) {
    t.is((await ask(probe, '/livez')).status, 200);
    t.is((await ask(probe, '/readyz')).status, 200);
    t.is((await ask(probe, '/hello')).status, 404);
  }
  // The seventeenth waits in the backlog until one leaves.
  const late = connect(`https://127.0.0.1:${server.healthPort}/`, { ca: cert });
  late.on('error', () => {});
  t.teardown(() => late.destroy());
  const answer = ask(late, '/livez');
  t.is(await Promise.race([answer.then(() => 'answered'), sleep(300, 'waits')]), 'waits');
  probes[0]?.close();
  t.is((await answer).status, 200);
  await server.release();
  t.is((await held).status, 200);
  t.deepEqual((await server.log()).calls, ['/hold']);
  // On the server's own port these paths are the handler's.
  t.is((await ask(only, '/livez')).body.toString(), 'Hello, world!\n');
});

test('live is 503 once JavaScript has not answered for jsStallTimeoutMs, and 200 again when it does', async (t) => {
  const server = await ServerProcess.start(t, {}, { health: { jsStallTimeoutMs: 1500 } });
  const [session, probe] = await openAll(t, server.url, 2);
  const { answer, unblock } = await server.block(t, session as never);
  const live = async (): Promise<number> => (await ask(probe as never, '/livez')).status;
  await until('it is found to hang', async () => (await live()) === 503);
  unblock();
  t.is((await answer).status, 200);
  await until('it lives', async () => (await live()) === 200);
});

test('an idle process is no hung one', async (t) => {
  const server = await ServerProcess.start(t, {}, { health: { jsStallTimeoutMs: 3000 } });
  const session = await open(t, server.url);
  for (let look = 0; look < 8; look++) {
    t.is((await ask(session, '/livez')).status, 200);
    await sleep(500);
  }
});

test('the engine adds a date, unless sendDate is false or the handler has one, and no server field', async (t) => {
  const handler = ({ url }: Request) => ({ headers: url.endsWith('/own') ? { date: 'today' } : {}, body: 'x' });
  const staticRoutes = { '/static': { body: 'x' } };
  const dated = await open(t, (await serve(t, handler, { staticRoutes })).url);
  for (const path of ['/', '/static']) {
    const { headers } = await ask(dated, path);
    t.regex(String(headers.date), IMF_FIXDATE);
    t.true(Math.abs(Date.parse(String(headers.date)) - Date.now()) < 60_000);
    t.is(headers['content-length'], '1');
    t.false('server' in headers);
  }
  t.is((await ask(dated, '/own')).headers.date, 'today');
  const undated = await open(t, (await serve(t, handler, { staticRoutes, sendDate: false })).url);
  for (const path of ['/', '/static']) t.false('date' in (await ask(undated, path)).headers);
});
