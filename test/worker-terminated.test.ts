// Specification, section 2: a worker is terminated at any time. Whatever call of the addon it stands in fails from then on.
import test from 'ava';
import { PACKAGE } from './helpers/command.js';
import { runSource } from './helpers/program.js';

/** A program that starts |worker| and terminates it, time and again, some milliseconds after it has told its port. */
const terminating = (worker: string): string => `
import { once } from 'node:events';
import { connect } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
const source = ${JSON.stringify(worker)};
const bytes = Buffer.alloc(16_384);
for (let round = 0; round < 40; round++) {
  const worker = new Worker(source, { eval: true, workerData: { key, cert }, execArgv: [] });
  const [port] = await once(worker, 'message');
  const session = connect('https://127.0.0.1:' + port, { ca: cert });
  session.on('error', () => {});
  for (let count = 0; port > 0 && count < 8; count++) {
    const stream = session.request({ ':method': 'POST', ':path': '/' + count });
    const go = () => { while (!stream.destroyed && stream.write(bytes)); };
    stream.on('error', () => {}).on('drain', go).resume();
    go();
  }
  await sleep(port > 0 ? 20 + round * 2 : round);
  await worker.terminate();
  session.destroy();
}
console.log('done');
`;

for (const [what, worker] of [
  [
    'reads and writes bodies',
    `import('valk-aio').then(async ({ start }) => {
      const { parentPort, workerData } = require('node:worker_threads');
      const aio = start({ maxRequestBodySize: 2 ** 30 });
      const server = await aio.listen({ ...workerData, bodyMode: 'stream' }, async (request, info) => {
        if (request.url.endsWith('/7')) return { body: request.body };
        for await (const chunk of request.body) aio.stats(), info.remoteAddress;
      });
      parentPort.postMessage(server.port);
    });`,
  ],
  [
    'starts, listens, changes its certificate and stops',
    `import('valk-aio').then(async ({ start }) => {
      const { parentPort, workerData } = require('node:worker_threads');
      parentPort.postMessage(0);
      for (;;) {
        const aio = start({ maxConnections: 10 });
        const options = { staticRoutes: { '/a': { body: 'a' }, '/b': {} }, contexts: { 'a.test': workerData } };
        const server = await aio.listen({ ...workerData, ...options }, () => ({}));
        for (let count = 0; count < 5; count++) server.setSecureContext(workerData);
        await aio.stop();
      }
    });`,
  ],
] as const) {
  test(`a worker that ${what} is terminated, and the process goes on`, async (t) => {
    const program = runSource(t, terminating(worker));
    t.like(await program.ended, { code: 0, stdout: 'done\n', stderr: '' });
  });
}

test('a worker that ends while its options are read listens on nothing', async (t) => {
  // The addon has read the port before these, and what it takes to listen.
  const fields = ['reusePort', 'jsStallTimeoutMs', 'none: it listens'];
  const worker = `
    const { folder, field, ...options } = require('node:worker_threads').workerData;
    const native = require('node-gyp-build')(folder);
    const begin = native.start;
    const end = { get: () => process.exit() };
    native.start = (config) => {
      const engine = begin(config);
      return { ...engine, listen: (given) => engine.listen(Object.defineProperty(given, field, end)) };
    };
    import('valk-aio').then(({ start }) => start({ maxConnections: 10 }).listen(options, () => ({})));
  `;
  const program = runSource(
    t,
    `
    import { once } from 'node:events';
    import { connect, createServer } from 'node:net';
    import { Worker } from 'node:worker_threads';
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    server.close();
    const ends = [];
    for (const field of ${JSON.stringify(fields)}) {
      const workerData = { key, cert, port, field, folder: ${JSON.stringify(PACKAGE)} };
      const worker = new Worker(${JSON.stringify(worker)}, { eval: true, workerData, execArgv: [] });
      let ended = false;
      worker.on('exit', () => (ended = true));
      let found = false;
      while (!ended && !found) {
        const socket = connect(port, '127.0.0.1');
        found = await new Promise((resolve) => {
          socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
        });
        socket.destroy();
      }
      ends.push(found);
      await worker.terminate();
    }
    console.log(ends.join());
  `,
  );
  t.like(await program.ended, { code: 0, stdout: 'false,false,true\n', stderr: '' });
});
