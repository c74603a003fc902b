// Specification, section 2: starting and listening. Stopping: lifecycle-stop.test.ts.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import test from 'ava';
import { type Aio, AioConfigError, AioError, resolveConfig, type Server, start } from 'valk-aio';
import { cert, key } from './helpers/certificate.js';
import { ask, open } from './helpers/client.js';
import { runHelper, runSource } from './helpers/program.js';
import type { Growth } from './helpers/restarts.js';
import { descriptorCount, knock, serve, threadCount } from './helpers/serve.js';

const hello = (): { body: string } => ({ body: 'Hello, world!\n' });

/** A key that goes with no certificate of these tests. */
const otherKey = execFileSync('openssl', ['genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256']);

test('T6: a system starts with a configuration, and its pools have that size', async (t) => {
  await using aio = start({ maxConnections: 50, maxConcurrentStreams: 50 });
  t.is(aio.config.maxConnections, 50);
  t.is(aio.config.tcpBufferPoolSize, 412);
  const { connections, buffers, arenas, queue } = aio.stats();
  t.deepEqual([connections.size, buffers.size, arenas.size, queue.size], [50, 412, 100, 100]);
  t.throws(() => Object.assign(aio.config, { maxConnections: 1 }), { instanceOf: TypeError });
});

test('T8: a system starts with the defaults, and with a configuration of its own; both serve', async (t) => {
  for (const [config, streams, buffers] of [
    [{}, 100, 1450],
    [{ maxConnections: 200, maxConcurrentStreams: 50 }, 50, 1650],
  ] as const) {
    const { aio, url } = await serve(t, hello, {}, config);
    const session = await open(t, url);
    t.is(session.remoteSettings.maxConcurrentStreams, streams);
    t.is((await ask(session, '/')).body.toString(), 'Hello, world!\n');
    t.is(aio.stats().buffers.size, buffers);
  }
});

test('T12: start() without arguments is the defaults, and serves', async (t) => {
  const aio = start();
  t.deepEqual(aio.config, resolveConfig());
  const server = await aio.listen({ key, cert }, hello);
  t.is((await ask(await open(t, server.url), '/')).status, 200);
  await aio.stop();
});

test('T13: a system that never listened stops', async (t) => {
  const aio = start();
  t.is(await aio.stop(), undefined);
  t.is(aio.stats().connection.accepted, 0);
});

test.serial('a bad configuration starts nothing', (t) => {
  const before = [threadCount(), descriptorCount()];
  for (const config of [{ maxConnections: 0 }, { arenaSize: 1 }, { maxConnection: 5 }, { ioThreads: 1e6 }]) {
    t.throws(() => start(config), { instanceOf: AioConfigError });
  }
  t.deepEqual([threadCount(), descriptorCount()], before);
});

test('two systems at once share nothing', async (t) => {
  const first = await serve(t, () => ({ body: 'first' }), {}, { maxConnections: 10 });
  const second = await serve(t, () => ({ body: 'second' }), {}, { maxConnections: 20, ioThreads: 2 });
  const sessions = [await open(t, first.url), await open(t, second.url)] as const;
  t.is((await ask(sessions[0], '/')).body.toString(), 'first');
  t.is((await ask(sessions[1], '/')).body.toString(), 'second');
  t.is((await ask(sessions[1], '/')).body.toString(), 'second');
  t.deepEqual([first.aio.stats().request.success, second.aio.stats().request.success], [1, 2]);
  t.deepEqual([first.aio.stats().connections.size, second.aio.stats().connections.size], [10, 20]);
  await first.aio.stop();
  t.is((await ask(sessions[1], '/')).body.toString(), 'second');
  t.is(await knock(first.server.port), 'ECONNREFUSED');
});

test('servers of one system share its pools; one closes, the other goes on', async (t) => {
  const { aio, server, url } = await serve(t, () => ({ body: 'one' }));
  const other = await aio.listen({ key, cert }, () => ({ body: 'two' }));
  t.not(other.port, server.port);
  const sessions = [await open(t, url), await open(t, other.url)] as const;
  t.is((await ask(sessions[0], '/')).body.toString(), 'one');
  t.is((await ask(sessions[1], '/')).body.toString(), 'two');
  t.is(aio.stats().connection.active, 2);
  const closing = server.close();
  t.is(server.close(), closing);
  await closing;
  t.is(await knock(server.port), 'ECONNREFUSED');
  t.is((await ask(sessions[1], '/')).body.toString(), 'two');
  t.is(aio.stats().connection.active, 1);
  const again = await aio.listen({ key, cert, port: server.port }, () => ({ body: 'again' }));
  t.is((await ask(await open(t, again.url), '/')).body.toString(), 'again');
});

test('url, host and port are those of the server', async (t) => {
  await using aio = start();
  const first = await aio.listen({ key, cert }, hello);
  t.true(Number.isInteger(first.port) && first.port > 0);
  t.is(first.host, '127.0.0.1');
  t.is(first.url, `https://127.0.0.1:${first.port}/`);
  t.is(first.healthPort, undefined);
  const named = await aio.listen({ key, cert, host: 'localhost', health: { port: 0 } }, hello);
  t.is(named.host, 'localhost');
  t.is(named.url, `https://localhost:${named.port}/`);
  t.true((named.healthPort ?? 0) > 0 && named.healthPort !== named.port);
  t.is((await ask(await open(t, named.url), '/')).status, 200);
  const { port } = first;
  await first.close();
  const chosen = await aio.listen({ key, cert, port }, hello);
  t.is(chosen.port, port);
});

test('an IPv6 address is served, or rejected by name where the machine has none', async (t) => {
  await using aio = start();
  const hasIPv6 = Object.values(networkInterfaces()).some((list) => list?.some(({ address }) => address === '::1'));
  const listening = aio.listen({ key, cert, host: '::1' }, hello);
  if (hasIPv6) {
    const server = await listening;
    t.is(server.url, `https://[::1]:${server.port}/`);
    // Of an IPv6 address, node:http2 makes an authority without brackets.
    const headers = { ':authority': `[::1]:${server.port}` };
    t.is((await ask(await open(t, server.url), '/', { headers })).status, 200);
  } else {
    await t.throwsAsync(listening, { code: /^(EADDRNOTAVAIL|EAFNOSUPPORT)$/ as unknown as string });
  }
});

test('an address in use, or of no interface, is the error of the system; it stays usable', async (t) => {
  const { aio, server, url } = await serve(t, hello);
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  t.teardown(() => taken.close());
  const { port } = taken.address() as { port: number };
  for (const busy of [server.port, port]) {
    const error = await t.throwsAsync<NodeJS.ErrnoException>(aio.listen({ key, cert, port: busy }, hello));
    t.like(error, { code: 'EADDRINUSE', syscall: 'listen', port: busy, address: '127.0.0.1' });
    t.regex(error?.message ?? '', /EADDRINUSE/);
  }
  // RFC 5737: an address for documentation, which no machine has.
  await t.throwsAsync(aio.listen({ key, cert, host: '203.0.113.1' }, hello), { code: 'EADDRNOTAVAIL' });
  t.is((await ask(await open(t, url), '/')).status, 200);
  const another = await aio.listen({ key, cert }, hello);
  t.is((await ask(await open(t, another.url), '/')).status, 200);
});

test('a key and a certificate that are unreadable or do not match are ERR_VALK_AIO_TLS', async (t) => {
  const { aio, url } = await serve(t, hello);
  const encrypted = execFileSync('openssl', ['pkey', '-aes256', '-passout', 'pass:secret'], { input: key });
  const broken = key.replace(/\n.{10}/, '\n');
  const pairs: [string, string | Uint8Array, string | Uint8Array][] = [
    ['no key', 'no key', cert],
    ['no certificate', key, 'no certificate'],
    ['broken key', broken, cert],
    ['cut certificate', key, cert.slice(0, cert.length / 2)],
    ['exchanged', cert, key],
    ['mismatched', otherKey, cert],
    ['encrypted key', encrypted, cert],
  ];
  const before = descriptorCount();
  for (const [name, badKey, badCert] of pairs) {
    const error = await t.throwsAsync<AioError>(aio.listen({ key: badKey, cert: badCert }, hello), undefined, name);
    t.true(error instanceof AioError, name);
    t.is(error?.code, 'ERR_VALK_AIO_TLS', name);
    t.regex(error?.message ?? '', /key|certificate/i, name);
    t.notRegex(error?.message ?? '', /BEGIN|secret/, name);
  }
  t.true(descriptorCount() <= before + 4, 'no listener stays open');
  t.is((await ask(await open(t, url), '/')).status, 200);
  const bytes = await aio.listen({ key: Buffer.from(key), cert: Buffer.from(cert) }, hello);
  t.is((await ask(await open(t, bytes.url), '/')).status, 200);
});

test('a bad option of listen() is an AioConfigError', async (t) => {
  const { aio, url } = await serve(t, hello);
  for (const options of [{ key, cert, port: -1 }, { key }, { key, cert, prot: 1 }, { key, cert, bodyMode: 'none' }]) {
    const error = await t.throwsAsync<AioConfigError>(aio.listen(options as never, hello));
    t.is(error?.code, 'ERR_VALK_AIO_CONFIG');
  }
  await t.throwsAsync(aio.listen({ key, cert }, undefined as never), { instanceOf: TypeError });
  t.is((await ask(await open(t, url), '/')).status, 200);
});

test('await using stops a system, and closes a server', async (t) => {
  let system: Aio;
  let server: Server;
  {
    await using aio = start();
    {
      await using inner = await aio.listen({ key, cert }, hello);
      server = inner;
      t.is((await ask(await open(t, inner.url), '/')).status, 200);
    }
    t.is(await knock(server.port), 'ECONNREFUSED');
    server = await aio.listen({ key, cert }, hello);
    system = aio;
  }
  t.is(await knock(server.port), 'ECONNREFUSED');
  await t.throwsAsync(system.listen({ key, cert }, hello), { code: 'ERR_VALK_AIO_STOPPED' });
});

test('a system without a server does not keep the process alive, nor does one that was stopped', async (t) => {
  const idle = runSource(t, `start(); console.log('started');`);
  t.like(await idle.ended, { code: 0, stdout: 'started\n', stderr: '' });
  const stopped = runSource(
    t,
    `const aio = start();
    const server = await aio.listen({ key, cert }, () => ({}));
    process.on('exit', () => console.log('over'));
    await server.close();`,
  );
  t.like(await stopped.ended, { code: 0, stdout: 'over\n', stderr: '' });
});

test('a running server keeps the process alive, unless unref() says otherwise', async (t) => {
  const serving = (then: string): string => `const aio = start();
    const server = await aio.listen({ key, cert }, () => ({}));
    ${then};
    // The event loop is left alone for a while: whatever does not keep it alive lets it end.
    const timer = setTimeout(() => console.log(server.url), 300);
    timer.unref();`;
  for (const then of [
    '',
    'server.ref()',
    'server.unref().ref()',
    'server.unref(); await aio.listen({ key, cert }, () => ({}))',
  ]) {
    const program = runSource(t, serving(then));
    const url = await program.line();
    t.is((await ask(await open(t, url), '/')).status, 200, then);
    program.child.kill('SIGKILL');
  }
  for (const then of ['server.unref()', 'server.ref().unref()', 'server.unref(); server.unref()']) {
    t.like(await runSource(t, serving(then)).ended, { code: 0, stdout: '', stderr: '' }, then);
  }
});

test('stop() keeps the process alive until it has settled, also after unref()', async (t) => {
  const program = runSource(
    t,
    `const aio = start();
    const server = await aio.listen({ key, cert }, () => ({}));
    server.unref();
    await aio.stop();
    console.log('stopped');`,
  );
  t.like(await program.ended, { code: 0, stdout: 'stopped\n', stderr: '' });
});

for (const [times, traffic, mebibytes] of [
  [1000, false, 8],
  // What traffic leaves in V8's heap comes and goes by some mebibytes.
  [100, true, 24],
] as const) {
  const title = traffic ? 'a hundred times with traffic' : 'a thousand times';
  test.serial(`started and stopped ${title}: no memory, descriptor or thread is left`, async (t) => {
    const { code, stdout, stderr } = await runHelper(
      t,
      'restarts.ts',
      [`${times}`, traffic ? '1' : '0'],
      ['--expose-gc'],
    ).ended;
    t.is(code, 0, stderr);
    const growth = JSON.parse(stdout) as Growth;
    t.log(growth);
    t.deepEqual([growth.descriptors, growth.threads], [0, 0]);
    t.true(growth.rssBytes < mebibytes << 20, `${growth.rssBytes} bytes`);
  });
}
