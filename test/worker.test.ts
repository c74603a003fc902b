// Specification, section 2: worker threads, and processes that end without stop().
import { once } from 'node:events';
import type { ClientHttp2Session } from 'node:http2';
import { Worker } from 'node:worker_threads';
import test, { type ExecutionContext } from 'ava';
import type { AioStats } from 'valk-aio';
import { cert, key } from './helpers/certificate.js';
import { ask, open, openAll, outcome, send, until } from './helpers/client.js';
import { runSource } from './helpers/program.js';
import { knock, serve, threadCount } from './helpers/serve.js';

const WORKER = new URL('helpers/serving-worker.mjs', import.meta.url);

interface Serving {
  readonly worker: Worker;
  readonly url: string;
  readonly port: number;
}

async function startWorker(t: ExecutionContext, ioThreads = 1): Promise<Serving> {
  const worker = new Worker(WORKER, { workerData: { key, cert, ioThreads }, execArgv: [] });
  t.teardown(() => worker.terminate());
  const [{ url }] = (await once(worker, 'message')) as [{ url: string }];
  return { worker, url, port: Number(new URL(url).port) };
}

/** Keeps a connection busy with requests of all kinds until it is over; how many answers were whole. */
async function traffic(session: ClientHttp2Session): Promise<number> {
  let answered = 0;
  const paths = ['/', '/late', '/big', '/hold', '/throw'];
  const one = async (at: number): Promise<void> => {
    for (let round = at; !session.closed && !session.destroyed; round++) {
      const body = round % 2 === 0 ? 'x'.repeat(30_000) : undefined;
      const stream = send(session, paths[round % paths.length] as string, { body });
      if (round % paths.length === 3) setTimeout(() => stream.close(8), 10);
      if ((await outcome(stream)).whole) answered++;
    }
  };
  await Promise.all(Array.from({ length: 10 }, (_, at) => one(at)));
  return answered;
}

test.serial('a worker serves and stops, and the main thread beside it', async (t) => {
  const threads = threadCount();
  const { worker, url } = await startWorker(t);
  const main = await serve(t, () => ({ body: 'main' }));
  const [inWorker, inMain] = [await open(t, url), await open(t, main.url)];
  t.is((await ask(inWorker, '/path', { body: 'abc' })).body.toString(), '/path 3');
  t.is((await ask(inMain, '/')).body.toString(), 'main');
  t.is((await ask(inWorker, '/throw')).status, 500);
  worker.postMessage('stop');
  const exited = once(worker, 'exit');
  const [{ stats, errors }] = (await once(worker, 'message')) as [{ stats: AioStats; errors: string[] }];
  t.is((await exited)[0], 0);
  t.is(stats.request.dispatched, 2);
  t.deepEqual(errors, ['Error: thrown in a worker']);
  t.is((await ask(inMain, '/')).body.toString(), 'main');
  await main.aio.stop();
  await until('their threads have ended', () => threadCount() <= threads);
});

test.serial('workers that are terminated in the middle of traffic take nobody with them', async (t) => {
  const main = await serve(t, () => ({ body: 'main' }));
  const inMain = await open(t, main.url);
  for (const ioThreads of [1, 0, 1, 0]) {
    const { worker, url, port } = await startWorker(t, ioThreads);
    const [first, ...sessions] = await openAll(t, url, 3);
    const busy = sessions.map(traffic);
    await ask(first as ClientHttp2Session, '/late');
    await worker.terminate();
    hangUp(sessions);
    const answered = await Promise.all(busy);
    t.true(
      answered.some((count) => count > 0),
      'there was traffic',
    );
    t.is(await knock(port), 'ECONNREFUSED');
    t.is((await ask(inMain, '/')).body.toString(), 'main');
  }
});

for (const [what, code] of [
  ['exit', 7],
  ['throw', 1],
] as const) {
  test.serial(`a worker that ends by ${what} in the middle of traffic closes its server`, async (t) => {
    const { worker, url, port } = await startWorker(t);
    const failed: Error[] = [];
    worker.on('error', (error: Error) => failed.push(error));
    const [first, ...sessions] = await openAll(t, url, 3);
    const busy = sessions.map(traffic);
    await ask(first as ClientHttp2Session, '/late');
    const exited = new Promise<number>((resolve) => {
      worker.on('exit', resolve);
    });
    worker.postMessage(what);
    t.is(await exited, code);
    hangUp(sessions);
    await Promise.all(busy);
    t.is(await knock(port), 'ECONNREFUSED');
    t.deepEqual(
      failed.map(({ message }) => message),
      what === 'throw' ? ['uncaught in a worker'] : [],
    );
  });
}

/**
 * Ends the traffic on connections whose server is gone: node:http2's client may never notice, when it was a write that
 * failed.
 */
function hangUp(sessions: readonly ClientHttp2Session[]): void {
  for (const session of sessions) session.destroy();
}

/** A program that makes traffic on a server of its own worker, then does |then| in the main thread. */
const onlyWorker = (then: string): string => `
import { once } from 'node:events';
import { connect } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
const worker = new Worker(new URL('test/helpers/serving-worker.mjs', 'file://' + process.cwd() + '/'), { workerData: { key, cert }, execArgv: [] });
const [{ url }] = await once(worker, 'message');
const session = connect(url, { ca: cert });
session.on('error', () => {});
let answered = 0;
const one = (path) => {
  if (session.destroyed || session.closed) return;
  const stream = session.request({ ':path': path });
  stream.on('error', () => {}).on('end', () => answered++).on('close', () => one(path)).resume();
};
for (let count = 0; count < 20; count++) one(['/', '/late', '/big'][count % 3]);
while (answered < 100) await sleep(1);
${then}
console.log('done');
`;

test('the only worker that loaded the addon is terminated in the middle of traffic', async (t) => {
  const program = runSource(t, onlyWorker('await worker.terminate(); session.destroy(); await sleep(200);'));
  t.like(await program.ended, { code: 0, stdout: 'done\n', stderr: '' });
});

test('a new worker loads the addon after the only one that had it was terminated', async (t) => {
  const program = runSource(
    t,
    onlyWorker(`await worker.terminate();
    session.destroy();
    const next = new Worker(new URL('test/helpers/serving-worker.mjs', 'file://' + process.cwd() + '/'), { workerData: { key, cert }, execArgv: [] });
    await once(next, 'message');
    next.postMessage('stop');
    await once(next, 'exit');`),
  );
  t.like(await program.ended, { code: 0, stdout: 'done\n', stderr: '' });
});

test('process.exit() while a worker serves', async (t) => {
  const program = runSource(t, onlyWorker(`console.log('exit'); process.exit(3);`));
  t.like(await program.ended, { code: 3, stdout: 'exit\n', stderr: '' });
});

/** A program that serves requests of all kinds in its main thread. */
const server = (then: string, ioThreads: number): string => `
import { setTimeout as sleep } from 'node:timers/promises';
const big = new Uint8Array(4 << 20);
let answered = 0;
const aio = start({ ioThreads: ${ioThreads} });
const server = await aio.listen({ key, cert, bodyMode: 'stream' }, async (request) => {
  if (++answered === 200) { ${then} }
  const { pathname } = new URL(request.url);
  if (pathname === '/late') await sleep(5);
  if (pathname === '/hold') await new Promise(() => {});
  if (pathname === '/throw') return { status: 500 };
  for await (const chunk of request.body ?? []) if (chunk.length === 0) throw new Error();
  return { body: pathname === '/big' ? big : 'small' };
});
console.log(server.url);
`;

for (const [title, then, code, pattern] of [
  ['process.exit() in a handler', 'process.exit(5);', 5, /^$/],
  ['process.exit() in the middle of traffic', 'setImmediate(() => process.exit(6));', 6, /^$/],
  ['an uncaught exception', `setTimeout(() => { throw new Error('uncaught'); });`, 1, /Error: uncaught/],
  ['an unhandled rejection', `void Promise.reject(new Error('unhandled'));`, 1, /Error: unhandled/],
] as const) {
  for (const ioThreads of [2, 0]) {
    test(`${title} ends the process cleanly, with ${ioThreads} engine threads`, async (t) => {
      const program = runSource(t, server(then, ioThreads));
      const url = await program.line();
      const sessions = await openAll(t, url, 2);
      const busy = sessions.map(traffic);
      const ended = await program.ended;
      hangUp(sessions);
      await Promise.all(busy);
      t.is(ended.code, code, ended.stderr);
      t.regex(ended.stderr, pattern);
    });
  }
}

test('an exception in a handler is answered 500 and reported, and the process goes on', async (t) => {
  const program = runSource(
    t,
    `const aio = start();
    const server = await aio.listen({ key, cert }, (request) => {
      if (request.url.endsWith('/throw')) throw new Error('thrown');
      return request.url.endsWith('/reject') ? Promise.reject(new Error('rejected')) : { body: 'fine' };
    });
    console.log(server.url);`,
  );
  const session = await open(t, await program.line());
  const statuses = [];
  for (const path of ['/throw', '/reject', '/', '/throw']) statuses.push((await ask(session, path)).status);
  t.deepEqual(statuses, [500, 500, 200, 500]);
  program.child.kill('SIGTERM');
  const { stderr } = await program.ended;
  t.is(stderr.match(/Error: thrown/g)?.length, 2);
  t.is(stderr.match(/Error: rejected/g)?.length, 1);
  t.regex(stderr, /GET https:\S+\/reject/);
});

test('handles that nobody holds any more: the server goes on, collected requests and answers do no harm', async (t) => {
  const program = runSource(
    t,
    `import { setTimeout as sleep } from 'node:timers/promises';
    let collected = 0;
    const registry = new FinalizationRegistry(() => collected++);
    const watch = (value) => { registry.register(value, 0); return value; };
    const url = await (async () => {
      const aio = watch(start());
      const server = watch(await aio.listen({ key, cert, bodyMode: 'stream' }, async (request) => {
        watch(request);
        gc();
        if (request.url.endsWith('/stats')) return { body: String(collected) };
        // The body, its stream and the signal are touched, and dropped unread.
        if (request.url.endsWith('/drop')) { request.body?.getReader(); void request.signal; return { body: 'dropped' }; }
        await sleep(1);
        gc();
        return new Response(new ReadableStream({ async pull(c) { gc(); c.enqueue(await request.bytes()); c.close(); } }));
      }));
      return server.url;
    })();
    console.log(url);`,
    ['--expose-gc'],
  );
  const url = await program.line();
  const session = await open(t, url);
  for (let round = 0; round < 20; round++) {
    const body = 'x'.repeat(round * 5000 + 1);
    t.is((await ask(session, '/echo', { body })).body.toString(), body);
    t.is((await ask(session, '/drop', { body })).body.toString(), 'dropped');
  }
  t.true(Number((await ask(session, '/stats')).body.toString()) >= 20);
  t.is((await ask(await open(t, url), '/drop')).status, 200);
});

test('systems that were stopped, or never used, are collected', async (t) => {
  const program = runSource(
    t,
    `import { setTimeout as sleep } from 'node:timers/promises';
    const references = [];
    for (let round = 0; round < 5; round++) {
      const aio = start();
      const server = await aio.listen({ key, cert }, () => ({}));
      references.push(new WeakRef(aio), new WeakRef(server));
      await aio.stop();
    }
    for (let round = 0; round < 10; round++) { await sleep(10); gc(); }
    console.log(references.filter((reference) => reference.deref() !== undefined).length);`,
    ['--expose-gc'],
  );
  const ended = await program.ended;
  // The last one may still lie on the stack of the program's top level.
  t.true(Number(ended.stdout) <= 2, ended.stdout + ended.stderr);
  t.is(ended.code, 0);
});

test('a signal that kills the process closes its connections', async (t) => {
  const program = runSource(t, server('', 2));
  const url = await program.line();
  const session = await open(t, url);
  const closed = new Promise((resolve) => {
    session.on('close', resolve);
  });
  program.child.kill('SIGTERM');
  await closed;
  t.regex((await program.ended).stderr, /SIGTERM/);
  t.is(await knock(Number(new URL(url).port)), 'ECONNREFUSED');
});
