// Limits of size and number, on the wire: what the peer that passes one sees, what is counted, and that it is not passed before.
import test from 'ava';
import { loadNative } from '../lib/native.js';
import { handmade12, handmade13 } from './attacks/handmade.js';
import { block, headers, PREFACE, settings } from './attacks/peer.js';
import { ask, open, until } from './helpers/client.js';
import { END_HEADERS, END_STREAM, encode, FRAME, RawClient, SETTING } from './helpers/raw-client.js';
import { ServerProcess } from './helpers/server-process.js';

const ENHANCE_YOUR_CALM = 11;
const PROTOCOL_ERROR = 1;
const CONFIG = { maxConnections: 16, maxConcurrentStreams: 10 };

/** It is counted at the connection's end, which comes after its GOAWAY. */
const isFlood = (server: ServerProcess): Promise<void> =>
  until('the end is counted as a flood', async () => (await server.stats()).connection.closed.flood === 1);

const head = (fields: Record<string, string> = {}): Buffer =>
  encode({ ':method': 'GET', ':scheme': 'https', ':authority': 'x', ':path': '/', ...fields });

test.serial('maxHeaderListSize: sent in SETTINGS; 431 beyond it, and the connection lives on', async (t) => {
  const server = await ServerProcess.start(t, { ...CONFIG, maxHeaderListSize: 4096 });
  const client = await RawClient.open(t, server.port);
  t.is(client.settings.get(SETTING.maxHeaderListSize), 4096);
  // Each field counts 32 beside its name and value (RFC 9113, section 6.5.2); the pseudo-fields take some 170 here.
  t.is((await client.end(client.request('/', { 'x-large': 'x'.repeat(3800) }))).status, 200);
  t.is((await client.end(client.request('/never', { 'x-large': 'x'.repeat(4000) }))).status, 431);
  t.is((await client.end(client.request('/'))).status, 200);
  t.is((await server.stats()).request.headers431, 1);
  t.false((await server.log()).calls.includes('/never'));
});

test.serial('128 fields are taken, 129 are answered 431', async (t) => {
  const server = await ServerProcess.start(t, CONFIG);
  const client = await RawClient.open(t, server.port);
  const fields = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, at) => [`x-${at}`, 'v']));
  t.is((await client.end(client.request('/', fields(128)))).status, 200);
  t.is((await client.end(client.request('/never', fields(129)))).status, 431);
  t.is((await server.stats()).request.headers431, 1);
});

test.serial('8 CONTINUATION frames are taken, 9 end the connection', async (t) => {
  const server = await ServerProcess.start(t, CONFIG);
  for (const [count, isTaken] of [
    [8, true],
    [9, false],
  ] as const) {
    const client = await RawClient.open(t, server.port);
    const id = client.newStream();
    client.frame(FRAME.headers, END_STREAM, id, head());
    for (let at = 1; at <= count; at++) client.frame(FRAME.continuation, at === count ? END_HEADERS : 0, id);
    await client.end(id);
    t.is(client.stream(id).status === 200, isTaken);
    if (isTaken) continue;
    await until('GOAWAY', () => client.goaway !== undefined);
    t.is(client.goaway, ENHANCE_YOUR_CALM);
    await isFlood(server);
  }
});

test.serial('resets: ten times maxConcurrentStreams are no attack, more at once are', async (t) => {
  const server = await ServerProcess.start(t, CONFIG);
  const other = await open(t, server.url);
  const client = await RawClient.open(t, server.port);
  for (let at = 0; at < 95; at++) client.reset(client.request('/hold'));
  client.ping();
  await until('PING', () => client.pings === 1);
  t.is(client.goaway, undefined);
  await server.release();
  for (let at = 0; at < 100 && !client.closed; at++) client.reset(client.request('/hold'));
  await until('GOAWAY', () => client.goaway !== undefined);
  t.is(client.goaway, ENHANCE_YOUR_CALM);
  await isFlood(server);
  const { request } = await server.stats();
  t.true(request.reset.client >= 95);
  // Neither does a reset free the place of a handler that runs.
  t.true((await server.log()).peak <= 11);
  await server.release();
  t.is((await ask(other, '/')).status, 200);
});

test.serial('resets that the client makes the server send count alike, and are counted as malformed', async (t) => {
  const server = await ServerProcess.start(t, CONFIG);
  const client = await RawClient.open(t, server.port);
  for (let at = 0; at < 95; at++) {
    const id = client.request('/never', { 'Upper-Case': 'x' });
    t.is((await client.end(id)).resetCode, PROTOCOL_ERROR);
  }
  t.is(client.goaway, undefined);
  t.is((await server.stats()).request.reset.malformed, 95);
  // As many at once as may be open, so that the budget is spent faster than it fills up.
  for (let round = 0; round < 100 && client.goaway === undefined && !client.closed; round++) {
    const ids = Array.from({ length: CONFIG.maxConcurrentStreams }, () =>
      client.request('/never', { 'Upper-Case': 'x' }),
    );
    for (const id of ids) await client.end(id);
  }
  await until('GOAWAY', () => client.goaway !== undefined);
  t.is(client.goaway, ENHANCE_YOUR_CALM);
  await isFlood(server);
});

for (const [what, send] of [
  ['SETTINGS', (client: RawClient) => client.sendSettings([])],
  ['PING', (client: RawClient) => client.ping()],
  ['PRIORITY', (client: RawClient) => client.frame(FRAME.priority, 0, 1, Buffer.alloc(5, 2))],
  ['WINDOW_UPDATE', (client: RawClient) => client.openWindow(0, 1)],
  ['empty DATA', (client: RawClient) => client.frame(FRAME.data, 0, 1)],
] as const) {
  test.serial(`control frames: a thousand at once are taken, thousands are a flood: ${what}`, async (t) => {
    const server = await ServerProcess.start(t, CONFIG);
    const client = await RawClient.open(t, server.port);
    const id = client.request('/sum', {}, false);
    t.is(id, 1);
    // In portions: what the server has to acknowledge it may not pile up. Frames come in order: once a PING is
    // acknowledged all before it have been taken.
    for (let at = 0; at < 18; at++) {
      for (let sent = 0; sent < 50; sent++) send(client);
      const { pings } = client;
      client.ping();
      await until('the portion is taken', () => client.pings >= pings + (what === 'PING' ? 51 : 1) || client.closed);
    }
    t.is(client.goaway, undefined);
    await until('GOAWAY', () => {
      if (!client.closed) for (let sent = 0; sent < 400; sent++) send(client);
      return client.goaway !== undefined;
    });
    t.is(client.goaway, ENHANCE_YOUR_CALM);
    await isFlood(server);
  });
}

const updatesKeys = async (port: number) => {
  const { tcp, writer } = await handmade13(port);
  return { tcp, data: (bytes: Buffer) => writer.data(bytes), record: () => writer.keyUpdate() };
};
const renegotiates = async (port: number) => {
  const { tcp, writer } = await handmade12(port);
  return { tcp, data: (bytes: Buffer) => writer.data(bytes), record: () => writer.hello() };
};
// OpenSSL answers an attempt with a warning (RFC 5246, section 7.2.2), AWS-LC with the end.
const isWarned = !loadNative().versions().opensslRuntime.startsWith('AWS-LC');

for (const [what, shake] of [
  ['TLS 1.3 key updates', updatesKeys],
  ...(isWarned ? ([['TLS 1.2 renegotiation', renegotiates]] as const) : []),
] as const) {
  test.serial(`${what}: 32 are taken, more at once are a flood`, async (t) => {
    const server = await ServerProcess.start(t, CONFIG);
    const { tcp, data, record } = await shake(server.port);
    t.teardown(() => tcp.destroy());
    let isClosed = false;
    tcp.on('close', () => {
      isClosed = true;
    });
    // Nothing is under way: the server has taken all that was sent, and we what it sent.
    const isQuiet = async (answers = 0): Promise<boolean> => {
      const { bytesIn, bytesOut, request } = await server.stats();
      return bytesIn === tcp.bytesWritten && bytesOut === tcp.bytesRead && request.success >= answers;
    };
    // One at a time: a warning that finds no room to be written ends the connection before.
    const one = (): Promise<void> => {
      tcp.write(record());
      return until('the record is taken', async () => isClosed || (await isQuiet()));
    };
    tcp.write(data(Buffer.concat([PREFACE, settings(), headers(1, block('/before'))])));
    await until('an answer', () => isQuiet(1));
    for (let at = 0; at < 32; at++) await one();
    tcp.write(data(headers(3, block('/after'))));
    await until('an answer after them', () => isQuiet(2));
    t.false(isClosed);
    await until('the end', async () => {
      await one();
      return isClosed;
    });
    await isFlood(server);
    t.deepEqual((await server.log()).calls, ['/before', '/after']);
  });
}

test.serial('TLS 1.2 renegotiation: the first is refused and ends its own connection at most', async (t) => {
  const server = await ServerProcess.start(t, CONFIG);
  const other = await open(t, server.url);
  const { tcp, data, record } = await renegotiates(server.port);
  t.teardown(() => tcp.destroy());
  let isClosed = false;
  tcp.on('close', () => {
    isClosed = true;
  });
  tcp.write(data(Buffer.concat([PREFACE, settings(), headers(1, block('/before'))])));
  await until('an answer', async () => (await server.stats()).request.success === 1);
  t.false(isClosed);
  tcp.write(record());
  if (isWarned) {
    tcp.write(data(headers(3, block('/after'))));
    await until('an answer after it', async () => (await server.stats()).request.success === 2);
    t.false(isClosed);
    t.is((await server.stats()).connection.closed.tls, 0);
  } else {
    await until('the end', () => isClosed);
    await until('it is counted', async () => (await server.stats()).connection.closed.tls === 1);
  }
  t.is((await ask(other, '/')).status, 200);
});
