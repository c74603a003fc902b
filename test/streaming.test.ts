// Bodies of any size, streamed both ways in bounded memory, whatever the client's pace (specification, sections 3 and 4).
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { ClientHttp2Session } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { ask, open, openAll, ping, statuses, until } from './helpers/client.js';
import { flow, flowHash } from './helpers/lab.js';
import { RawClient } from './helpers/raw-client.js';
import { ServerProcess } from './helpers/server-process.js';

const MIB = 1 << 20;
const GIB = 1 << 30;
/** V8 lets more of read bodies lie before it collects them since Node.js 22. */
const MOST_GROWTH = (Number.parseInt(process.versions.node, 10) < 22 ? 64 : 128) * MIB;

async function download(session: ClientHttp2Session, size: number): Promise<string> {
  const stream = session.request({ ':path': `/flow?size=${size}` });
  const hash = createHash('sha256');
  for await (const chunk of stream) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

async function upload(session: ClientHttp2Session, size: number): Promise<string> {
  const stream = session.request({ ':method': 'POST', ':path': '/sum' });
  let answer = '';
  stream.setEncoding('utf8').on('data', (text: string) => {
    answer += text;
  });
  const ended = once(stream, 'end');
  for (const piece of flow(size)) {
    if (!stream.write(piece)) await once(stream, 'drain');
  }
  stream.end();
  await ended;
  return answer;
}

for (const size of [MIB, 100 * MIB, GIB]) {
  test.serial(`${size / MIB} MiB down and up, whole, in little memory`, async (t) => {
    t.timeout(170_000);
    const server = await ServerProcess.start(t, { maxRequestBodySize: GIB }, { bodyMode: 'stream' });
    const session = await open(t, server.url);
    session.setLocalWindowSize(8 * MIB);
    await download(session, MIB);
    await upload(session, MIB);
    const { rssBytes } = await server.memory();
    const begin = performance.now();
    t.is(await download(session, size), flowHash(size));
    const middle = performance.now();
    t.is(await upload(session, size), `${size} ${flowHash(size)}`);
    const growth = (await server.memory()).peakBytes - rssBytes;
    t.log(
      `down ${pace(size, middle - begin)}, up ${pace(size, performance.now() - middle)}, RSS +${mebibytes(growth)}`,
    );
    t.true(growth < MOST_GROWTH, `${mebibytes(growth)} more`);
    await server.assertBounds(t);
  });
}

/** Reads at 64 KiB a second, through a window of that size, for at most |seconds|; how much came. */
async function readSlowly(session: ClientHttp2Session, size: number, seconds: number): Promise<number> {
  const stream = session.request({ ':path': `/flow?size=${size}` });
  const closed = once(stream, 'close');
  let received = 0;
  let over = false;
  stream.on('data', (chunk: Buffer) => {
    received += chunk.length;
    stream.pause();
  });
  stream.on('error', () => {});
  stream.on('end', () => {
    over = true;
  });
  for (let passed = 0; passed < seconds * 10 && !over; passed++) {
    await sleep(100);
    // A chunk at a time: it pauses itself.
    if (received < ((passed + 1) * 65_536) / 10) stream.resume();
  }
  if (!over) stream.close(8);
  stream.resume();
  await closed;
  return received;
}

test.serial('a client that reads 64 KiB a second costs its window, and gets what it asks for', async (t) => {
  t.timeout(90_000);
  const server = await ServerProcess.start(t, {}, { bodyMode: 'stream' });
  const [whole, cut, other] = await openAll(t, server.url, 3);
  await download(other, MIB);
  const { rssBytes } = await server.memory();
  const slow = Promise.all([readSlowly(whole, MIB, 60), readSlowly(cut, GIB, 30)]);
  for (let second = 0; second < 10; second++) {
    t.is((await ask(other, '/hello')).status, 200);
    await sleep(1000);
  }
  const [first, second] = await slow;
  t.is(first, MIB);
  t.true(second > 20 * 65_536 && second < GIB / 100, `${second} bytes`);
  // The iterator of the one that was cancelled has ended: nothing is being made for nobody.
  await until('no request is left', async () => (await server.stats()).request.active === 0);
  const growth = (await server.memory()).peakBytes - rssBytes;
  t.true(growth < MOST_GROWTH, `${mebibytes(growth)} more`);
  t.is((await server.stats()).request.reset.writeTimeout, 0);
  await server.assertBounds(t);
});

test.serial('two hundred event streams and two hundred slow uploads leave the others as they were', async (t) => {
  t.timeout(120_000);
  const server = await ServerProcess.start(t, {}, { bodyMode: 'stream' });
  const [first, second, other] = await openAll(t, server.url, 3);
  const streams = [first, second].flatMap((session) =>
    Array.from({ length: 100 }, () => session.request({ ':path': '/events' })),
  );
  const events = streams.map(() => 0);
  for (const [at, stream] of streams.entries()) {
    stream.on('data', () => {
      events[at] = (events[at] as number) + 1;
    });
    stream.on('error', () => {});
  }
  const clients = await Promise.all([RawClient.open(t, server.port), RawClient.open(t, server.port)]);
  const uploads = clients.flatMap((client) =>
    Array.from({ length: 100 }, () => ({ client, id: client.request('/sum', {}, false) })),
  );
  await until('all have their handlers', async () => (await server.log()).calls.length === 400);
  let sent = 0;
  for (let round = 0; round < 3; round++) {
    for (const { client, id } of uploads) client.data(id, Buffer.alloc(512));
    sent += 512;
    const answers = await Promise.all(Array.from({ length: 100 }, () => ask(other, '/hello')));
    t.deepEqual(statuses(answers), { 200: 100 });
    t.true((await ping(other)) >= 0);
    await sleep(1000);
  }
  for (const { client, id } of uploads) client.data(id, Buffer.alloc(0), true);
  for (const { client, id } of uploads) {
    const { status, ended } = await client.end(id);
    t.is(status, 200);
    t.true(ended);
  }
  await until('each has had two events', () => events.every((count) => count >= 2));
  const { arenas, request } = await server.stats();
  t.is(arenas.inUse, 0);
  t.is(request.serverError, 0);
  t.is(request.dispatched, 700);
  t.is(sent, 1536);
  for (const stream of streams) stream.close(8);
  await until('their iterators have ended', async () => (await server.log()).running === 0);
  await server.assertBounds(t);
});

function pace(bytes: number, ms: number): string {
  return `${Math.round(bytes / MIB / (ms / 1000))} MiB/s`;
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / MIB)} MiB`;
}
