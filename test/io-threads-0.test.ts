// An engine on JavaScript's thread. Workers and processes that end are in worker.test.ts, h2load in clients.test.ts.
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { start } from 'valk-aio';
import { cert, key } from './helpers/certificate.js';
import { ask, open, openAll, ping, statuses } from './helpers/client.js';
import { runSource } from './helpers/program.js';
import { gate, knock, serve } from './helpers/serve.js';

const run = promisify(execFile);
const HOSTED = { ioThreads: 0 };

/** Engine threads of this process. */
function engineThreads(): number {
  const names = readdirSync('/proc/self/task').map((id) => readFileSync(`/proc/self/task/${id}/comm`, 'utf8'));
  return names.filter((name) => name.startsWith('valk-io')).length;
}

/** Builds one of the helpers in C that stand before the system's own functions. */
function preloaded(t: ExecutionContext, name: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'valk-aio-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const library = join(folder, `${name}.so`);
  const source = fileURLToPath(new URL(`helpers/${name}.c`, import.meta.url));
  execFileSync(process.env.CC || 'cc', ['-shared', '-fPIC', '-o', library, source, '-ldl']);
  return library;
}

test.serial('it serves without a thread of its own', async (t) => {
  const { aio, url } = await serve(t, async (request) => ({ body: await request.text() }), {}, HOSTED);
  t.is(engineThreads(), 0);
  t.is(aio.config.ioThreads, 0);
  const sessions = await openAll(t, url, 10);
  const bodies = Array.from({ length: 200 }, (_, index) => `${index}`.repeat(1 + (index % 7) * 5000));
  const answers = await Promise.all(bodies.map((body, index) => ask(sessions[index % 10] as never, '/', { body })));
  t.true(answers.every((answer, index) => answer.body.toString() === bodies[index]));
  t.is(aio.stats().request.success, 200);
  await aio.stop();
  t.is(aio.stats().connection.active, 0);
});

test('bodies stream both ways', async (t) => {
  const { url } = await serve(t, (request) => ({ body: request.body }), { bodyMode: 'stream' }, HOSTED);
  const body = Buffer.alloc(6 << 20, 'abcdefg');
  t.true((await ask(await open(t, url), '/', { body })).body.equals(body));
});

test('timers, rejections and answers that come later have their turns', async (t) => {
  const { url, errors } = await serve(
    t,
    async (request) => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      if (request.url.endsWith('/throw')) throw new Error('thrown');
      return { body: 'late' };
    },
    {},
    HOSTED,
  );
  const session = await open(t, url);
  const answers = await Promise.all(['/', '/throw', '/'].map((path) => ask(session, path)));
  t.deepEqual(statuses(answers), { 200: 2, 500: 1 });
  t.is(errors.length, 1);
});

test('what JavaScript is too slow for gets its 503', async (t) => {
  const { promise, open: release } = gate();
  const { aio, url } = await serve(
    t,
    async () => {
      await promise;
      return { body: 'held' };
    },
    {},
    { ...HOSTED, maxConnections: 20, arenaPoolSize: 2, queueTimeoutMs: 50 },
  );
  const session = await open(t, url);
  const answers = Array.from({ length: 20 }, () => ask(session, '/', { body: 'x'.repeat(20_000) }));
  t.is((await Promise.race(answers)).status, 503);
  release();
  const counts = statuses(await Promise.all(answers));
  t.is((counts[200] ?? 0) + (counts[503] ?? 0), 20);
  t.true((counts[200] ?? 0) >= 1);
  t.is(aio.stats().arenas.inUse, 0);
});

test('a handler that computes keeps everyone waiting, and nobody is lost', async (t) => {
  const program = runSource(
    t,
    `const aio = start({ ioThreads: 0, queueTimeoutMs: 20000 });
    const server = await aio.listen({ key, cert, health: { live: '/livez', jsStallTimeoutMs: 100 } }, (request) => {
      const end = performance.now() + (request.url.endsWith('/busy') ? 700 : 0);
      while (performance.now() < end);
      return { body: 'done' };
    });
    console.log(server.url);`,
  );
  const [first, second] = await openAll(t, await program.line(), 2);
  t.is((await ask(second as never, '/livez')).status, 200);
  const begin = performance.now();
  const busy = ask(first as never, '/busy');
  const others = [ask(second as never, '/livez'), ask(second as never, '/'), ask(first as never, '/')];
  t.true((await ping(second as never)) >= 0);
  t.is((await busy).status, 200);
  t.true(performance.now() - begin >= 650);
  t.deepEqual(statuses(await Promise.all(others)), { 200: 3 });
});

test.serial('turns of the engine, however long, keep neither JavaScript nor the event loop from theirs', async (t) => {
  const program = runSource(
    t,
    `import { setImmediate } from 'node:timers/promises';
    let turns = 0;
    const aio = start({ ioThreads: 0, queueTimeoutMs: 200 });
    const staticRoutes = { '/static': { body: 'x' } };
    const server = await aio.listen({ key, cert, staticRoutes }, () => ({ body: String(turns) }));
    console.log(server.url);
    for (;;) {
      await setImmediate();
      turns += 1;
    }`,
    [],
    { LD_PRELOAD: preloaded(t, 'slow-send') },
  );
  const url = await program.line();
  const session = await open(t, url);
  let over = false;
  const others = run('h2load', ['-n', '1500', '-c', '10', '-m', '1', `${url}static`, url]).finally(() => {
    over = true;
  });
  const answers: Awaited<ReturnType<typeof ask>>[] = [];
  while (!over) {
    answers.push(await ask(session, '/'));
    await sleep(20);
  }
  t.regex((await others).stdout, /1500 succeeded, 0 failed/);
  t.deepEqual(Object.keys(statuses(answers)), ['200']);
  const turns = answers.slice(1, -1).map((answer) => Number(answer.body));
  const taken = (turns.at(-1) ?? 0) - (turns[0] ?? 0);
  t.true(taken >= turns.length, `${taken} turns of the event loop during ${turns.length} answers`);
});

test('two systems on one thread share nothing, and one that has stopped is gone', async (t) => {
  const first = await serve(t, () => ({ body: 'first' }), {}, HOSTED);
  const second = await serve(t, () => ({ body: 'second' }), {}, HOSTED);
  const sessions = [await open(t, first.url), await open(t, second.url)] as const;
  t.is((await ask(sessions[0], '/')).body.toString(), 'first');
  t.is((await ask(sessions[1], '/')).body.toString(), 'second');
  await first.aio.stop();
  t.is(await knock(first.server.port), 'ECONNREFUSED');
  t.is((await ask(sessions[1], '/')).body.toString(), 'second');
  const third = await serve(t, () => ({ body: 'third' }), {}, HOSTED);
  t.is((await ask(await open(t, third.url), '/')).body.toString(), 'third');
});

test('requests under way are answered before it stops', async (t) => {
  const { promise, open: release } = gate();
  const called = gate();
  const { aio, url } = await serve(
    t,
    async () => {
      called.open();
      await promise;
      return { body: 'held' };
    },
    {},
    HOSTED,
  );
  const answer = ask(await open(t, url), '/');
  await called.promise;
  const stopped = aio.stop({ timeoutMs: 10_000 });
  release();
  t.is((await answer).body.toString(), 'held');
  await stopped;
});

test('its process ends when it has stopped, and when it never listened', async (t) => {
  const stops = runSource(
    t,
    `const aio = start({ ioThreads: 0 });
    const server = await aio.listen({ key, cert }, () => ({ body: 'x' }));
    await aio.stop();
    console.log('stopped');`,
  );
  t.like(await stops.ended, { code: 0, stdout: 'stopped\n', stderr: '' });
  t.like(await runSource(t, 'start({ ioThreads: 0 });').ended, { code: 0, stdout: '', stderr: '' });
});

test('a certificate changes, and a bad one is refused', async (t) => {
  await using aio = start(HOSTED);
  const server = await aio.listen({ key, cert }, () => ({ body: 'x' }));
  await server.setSecureContext({ key, cert });
  await t.throwsAsync(async () => server.setSecureContext({ key: 'none', cert }));
  t.is((await ask(await open(t, server.url), '/')).status, 200);
});

test('an event loop that cannot watch it is an error, and leaves nothing behind', async (t) => {
  const program = runSource(
    t,
    `import { readdirSync, readlinkSync } from 'node:fs';
    import { setImmediate } from 'node:timers/promises';
    const folder = '/proc/self/fd/';
    const descriptors = () =>
      readdirSync(folder).flatMap((fd) => {
        try {
          return fd + ' ' + readlinkSync(folder + fd);
        } catch {
          return []; // readdirSync's own
        }
      });
    const before = descriptors();
    try {
      start({ ioThreads: 0 });
    } catch (error) {
      console.log(error.code, error.message);
    }
    await setImmediate();
    console.log('left: ' + descriptors().filter((descriptor) => !before.includes(descriptor)));
    const aio = start({ ioThreads: 0 });
    const server = await aio.listen({ key, cert }, () => ({ body: 'x' }));
    console.log(server.url);`,
    [],
    { LD_PRELOAD: preloaded(t, 'no-nested-epoll') },
  );
  t.is(await program.line(), 'ERR_VALK_AIO_START The engine could not be started: no space left on device');
  t.is(await program.line(), 'left: ');
  t.is((await ask(await open(t, await program.line()), '/')).status, 200);
  program.child.kill('SIGTERM');
  await program.ended;
});
