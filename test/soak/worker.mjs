// The server of the soak, in a worker thread that is terminated and started again. Takes new certificates from its parent.
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { start } from 'valk-aio';

const { key, cert, port, config } = workerData;
const CHUNK = new Uint8Array(16_384).fill(120);

async function* down() {
  for (let count = 0; count < 16; count++) yield CHUNK;
}

async function* events() {
  for (let count = 0; count < 5; count++) {
    yield `data: ${count}\n\n`;
    await sleep(20);
  }
}

async function answer(request) {
  const { pathname } = new URL(request.url);
  if (pathname === '/down') return { body: down() };
  if (pathname === '/events') return { headers: { 'content-type': 'text/event-stream' }, body: events() };
  if (pathname === '/echo') return { body: request.body };
  let length = 0;
  for await (const chunk of request.body ?? []) length += chunk.length;
  return { body: String(length) };
}

const aio = start(config);
const server = await aio.listen({ key, cert, port, bodyMode: 'stream', onError: () => {} }, answer);
parentPort.on('message', ({ certificate }) => {
  if (certificate !== undefined) server.setSecureContext(certificate);
  parentPort.postMessage({ stats: aio.stats() });
});
parentPort.postMessage({ port: server.port });
