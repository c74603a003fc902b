// A worker thread's program: a server whose handler does what the path says. Tells its parent the address.
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { start } from 'valk-aio';

const { key, cert, ioThreads } = workerData;
const big = new Uint8Array(4 << 20).fill(1);

async function answer(request) {
  const { pathname } = new URL(request.url);
  if (pathname === '/late') await sleep(5);
  if (pathname === '/hold') await new Promise(() => {});
  if (pathname === '/throw') throw new Error('thrown in a worker');
  if (pathname === '/big') return { body: big };
  return { body: `${pathname} ${(await request.bytes()).length}` };
}

const errors = [];
const aio = start({ ioThreads });
const server = await aio.listen({ key, cert, onError: (error) => errors.push(String(error)) }, answer);
parentPort.postMessage({ url: server.url });
parentPort.on('message', async (what) => {
  if (what === 'stop') {
    await aio.stop();
    parentPort.postMessage({ stats: aio.stats(), errors });
    parentPort.close();
  } else if (what === 'exit') {
    process.exit(7);
  } else if (what === 'throw') {
    throw new Error('uncaught in a worker');
  }
});
