// Bodies of bytes are read by the engine from where they are: whatever happens to them then, nothing else is ever sent.
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { MessageChannel, Worker } from 'node:worker_threads';
import test, { type ExecutionContext } from 'ava';
import { type AioResponse, start } from 'valk-aio';
import { cert, key } from './helpers/certificate.js';
import { ask, open, send, until } from './helpers/client.js';
import { pattern, sha256 } from './helpers/lab.js';

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc') as () => void;

const SIZE = 3 << 20;

const { Memory } = (
  globalThis as unknown as {
    WebAssembly: {
      Memory: new (pages: { initial: number; maximum: number }) => { buffer: ArrayBuffer; grow(pages: number): void };
    };
  }
).WebAssembly;

interface Served {
  url: string;
  stats(): ReturnType<ReturnType<typeof start>['stats']>;
}

async function serve(t: ExecutionContext, handler: () => AioResponse | Response): Promise<Served> {
  const aio = start({ maxConnections: 10 });
  t.teardown(() => aio.stop({ timeoutMs: 0 }));
  const server = await aio.listen({ key, cert }, handler);
  return { url: server.url, stats: () => aio.stats() };
}

/** Fills memory that was freed with something else. */
async function stir(): Promise<void> {
  for (let round = 0; round < 5; round++) {
    gc();
    await sleep(5);
    for (let count = 0; count < 8; count++) new Uint8Array(SIZE).fill(round);
  }
}

/** Asks for the body, lets |meanwhile| happen while the most of it is still to be read, and gives what came. */
async function interrupted(t: ExecutionContext, served: Served, meanwhile: () => unknown): Promise<Buffer> {
  const session = await open(t, served.url);
  const stream = send(session, '/');
  await once(stream, 'response');
  await meanwhile();
  await stir();
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

const expected = sha256(pattern(SIZE));

test('bytes of each kind come as they are', async (t) => {
  const whole = new Uint8Array(pattern(SIZE));
  const bodies: [string, () => NonNullable<AioResponse['body']>][] = [
    ['a Uint8Array', () => new Uint8Array(whole)],
    ['a part of one', () => new Uint8Array([1, 2, 3, ...whole.subarray(0, 9)]).subarray(3)],
    ['a Buffer', () => Buffer.from(whole)],
    ['an ArrayBuffer', () => new Uint8Array(whole).buffer],
    ['a DataView', () => new DataView(new Uint8Array(whole).buffer, 5, 10_000) as unknown as Uint8Array],
    [
      'memory shared between threads',
      () => {
        const shared = new Uint8Array(new SharedArrayBuffer(SIZE));
        shared.set(whole);
        return shared;
      },
    ],
    ['text', () => 'é'.repeat(100_000)],
  ];
  const wanted = [SIZE, 9, SIZE, SIZE, 10_000, SIZE, 200_000];
  let next: () => NonNullable<AioResponse['body']> = () => '';
  const served = await serve(t, () => ({ body: next() }));
  const session = await open(t, served.url);
  for (const [at, [what, body]] of bodies.entries()) {
    next = body;
    const { status, body: came, headers } = await ask(session, '/');
    t.is(status, 200, what);
    t.is(Number(headers['content-length']), wanted[at], what);
    const own = body();
    const bytes =
      typeof own === 'string'
        ? Buffer.from(own)
        : ArrayBuffer.isView(own)
          ? Buffer.from(new Uint8Array(own.buffer, own.byteOffset, own.byteLength))
          : Buffer.from(own as ArrayBuffer);
    t.is(sha256(came), sha256(bytes), what);
  }
});

test('bytes that JavaScript has forgotten are sent', async (t) => {
  const served = await serve(t, () => ({ body: new Uint8Array(pattern(SIZE)) }));
  t.is(sha256(await interrupted(t, served, () => {})), expected);
});

test('bytes that are handed to another thread, which ends, are sent', async (t) => {
  let body = new Uint8Array(0);
  const served = await serve(t, () => {
    body = new Uint8Array(pattern(SIZE));
    return { body };
  });
  const came = await interrupted(t, served, async () => {
    const worker = new Worker('require("node:worker_threads").parentPort.once("message", () => process.exit())', {
      eval: true,
    });
    worker.postMessage(body, [body.buffer]);
    await once(worker, 'exit');
  });
  t.is(body.length, 0);
  t.is(sha256(came), expected);
});

test('bytes that are moved and thrown away are sent', async (t) => {
  let body = new Uint8Array(0);
  const served = await serve(t, () => {
    body = new Uint8Array(pattern(SIZE));
    return { body };
  });
  const came = await interrupted(t, served, () => {
    const { port1, port2 } = new MessageChannel();
    port1.postMessage(body, [body.buffer]);
    port1.close();
    port2.close();
  });
  t.is(body.length, 0);
  t.is(sha256(came), expected);
});

test('bytes that change may be sent as they are by then, and no others', async (t) => {
  const body = new Uint8Array(SIZE).fill(1);
  const served = await serve(t, () => ({ body }));
  const came = await interrupted(t, served, () => body.fill(2));
  t.is(came.length, SIZE);
  t.true(came.every((byte) => byte === 1 || byte === 2));
});

test('memory that can shrink is copied', async (t) => {
  const Resizable = ArrayBuffer as unknown as new (
    length: number,
    options: { maxByteLength: number },
  ) => ArrayBuffer & {
    resize(length: number): void;
  };
  const memory = new Resizable(SIZE, { maxByteLength: SIZE });
  const body = new Uint8Array(memory);
  body.set(pattern(SIZE));
  const served = await serve(t, () => ({ body }));
  const session = await open(t, served.url);
  t.is(sha256((await ask(session, '/')).body), expected);
  // What has not been copied by then is lost, and so is the answer; the server is not.
  const stream = send(session, '/');
  await once(stream, 'response');
  memory.resize(0);
  stream.resume();
  const [error] = (await once(stream, 'error')) as [NodeJS.ErrnoException];
  t.is(error.code, 'ERR_HTTP2_STREAM_ERROR');
  t.is((await ask(session, '/')).status, 200);
});

test('memory of WebAssembly that grows is sent as it was', async (t) => {
  const memory = new Memory({ initial: SIZE >> 16, maximum: (SIZE >> 16) * 2 });
  new Uint8Array(memory.buffer).set(pattern(SIZE));
  const served = await serve(t, () => ({ body: new Uint8Array(memory.buffer) }));
  t.is(sha256(await interrupted(t, served, () => memory.grow(SIZE >> 16))), expected);
});

test('what is lent is let go of when it has been sent, and when its client leaves', async (t) => {
  const collected = { count: 0 };
  const registry = new FinalizationRegistry<void>(() => {
    collected.count += 1;
  });
  const served = await serve(t, () => {
    const body = new Uint8Array(SIZE);
    registry.register(body.buffer);
    return { body };
  });
  const session = await open(t, served.url);
  const before = process.memoryUsage().arrayBuffers;
  for (let count = 0; count < 20; count++) t.is((await ask(session, '/')).body.length, SIZE);
  const leaving = Array.from({ length: 20 }, () => send(session, '/'));
  for (const stream of leaving) {
    stream.on('error', () => {});
    await once(stream, 'response');
    stream.close(8);
  }
  await until('all are collected', () => {
    gc();
    return collected.count === 40;
  });
  await until('their memory is free', () => {
    gc();
    return process.memoryUsage().arrayBuffers - before < SIZE;
  });
  t.is(served.stats().request.total, 40);
});

test('the system ends while bodies are on their way', async (t) => {
  const aio = start({ maxConnections: 10 });
  const server = await aio.listen({ key, cert }, () => ({ body: new Uint8Array(SIZE) }));
  const session = await open(t, server.url);
  const streams = Array.from({ length: 10 }, () => send(session, '/'));
  for (const stream of streams) {
    stream.on('error', () => {});
    await once(stream, 'response');
  }
  await aio.stop({ timeoutMs: 0 });
  await stir();
  t.is(aio.stats().connection.active, 0);
});
