import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type ClientHttp2Stream, connect } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { AioConfigError, AioError, start } from 'valk-aio';

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), 'valk-aio-engine-'));
const keyFile = join(folder, 'key.pem');
const certFile = join(folder, 'cert.pem');
execFileSync('openssl', [
  ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
  ...['-subj', '/CN=localhost', '-keyout', keyFile, '-out', certFile],
]);
const key = readFileSync(keyFile);
const cert = readFileSync(certFile);
test.after.always(() => rmSync(folder, { recursive: true }));

const curl = async (...args: string[]): Promise<string> =>
  (await run('curl', ['-sk', '--http2', '--max-time', '20', ...args], { maxBuffer: 1 << 26 })).stdout;

test('T6, T8: a system starts with a configuration and shows it', async (t) => {
  const aio = start({ maxConnections: 50, maxConcurrentStreams: 50 });
  t.is(aio.config.maxConnections, 50);
  t.is(aio.config.tcpBufferPoolSize, 412);
  t.is(aio.stats().buffers.size, 412);
  await aio.stop();
});

test('T12, T13: a system starts without arguments, serves, and stops', async (t) => {
  const aio = start();
  t.is(aio.config.maxConnections, 100);
  const server = await aio.listen({ key, cert }, () => ({ body: 'Hello, world!\n' }));
  t.is(await curl('-w', ' %{http_version} %{http_code}', server.url), 'Hello, world!\n 2 200');
  const stopped = aio.stop();
  t.is(aio.stop(), stopped);
  await stopped;
  await t.throwsAsync(
    aio.listen({ key, cert }, () => ({})),
    { code: 'ERR_VALK_AIO_STOPPED' },
  );
  t.is(aio.stats().request.success, 1);
});

test('what listen() cannot do is an error with a code, and the system stays usable', async (t) => {
  const aio = start();
  const server = await aio.listen({ key, cert }, () => ({}));
  await t.throwsAsync(
    aio.listen({ key, cert, port: server.port }, () => ({})),
    { code: 'EADDRINUSE' },
  );
  const tls = await t.throwsAsync(
    aio.listen({ key: 'no key', cert }, () => ({})),
    { instanceOf: AioError },
  );
  t.is(tls?.code, 'ERR_VALK_AIO_TLS');
  await t.throwsAsync(
    aio.listen({ key, cert, port: -1 }, () => ({})),
    { instanceOf: AioConfigError },
  );
  t.is(await curl('-o', '/dev/null', '-w', '%{http_code}', server.url), '200');
  await server.close();
  await aio.stop();
});

test('bodies of all sizes go both ways', async (t) => {
  const aio = start();
  const server = await aio.listen({ key, cert }, async (request) => ({ body: await request.bytes() }));
  for (const size of [1, 8191, 8192, 8193, 100_000, 3_000_000]) {
    const body = 'é'.repeat(size / 2) + (size % 2 ? 'a' : '');
    const file = join(folder, `body-${size}`);
    await import('node:fs/promises').then((fs) => fs.writeFile(file, body));
    t.is(await curl('--data-binary', `@${file}`, server.url), body);
  }
  await aio.stop();
});

test('a stream of a handler arrives whole, and a body streams in', async (t) => {
  const aio = start();
  const server = await aio.listen({ key, cert, bodyMode: 'stream' }, async (request) => {
    let length = 0;
    for await (const chunk of request.body ?? []) length += (chunk as Uint8Array).length;
    return {
      body: (async function* () {
        for (let i = 0; i < 50; i++) yield `${length} ${'x'.repeat(20_000)}\n`;
      })(),
    };
  });
  const file = join(folder, 'upload');
  await import('node:fs/promises').then((fs) => fs.writeFile(file, 'y'.repeat(2_000_000)));
  const text = await curl('--data-binary', `@${file}`, server.url);
  t.is(text, `2000000 ${'x'.repeat(20_000)}\n`.repeat(50));
  await aio.stop();
});

test('a handler that throws is answered 500 and reported', async (t) => {
  const errors: unknown[] = [];
  const aio = start();
  const server = await aio.listen({ key, cert, onError: (error) => errors.push(error) }, () => {
    throw new Error('no');
  });
  t.is(await curl('-o', '/dev/null', '-w', '%{http_code}', server.url), '500');
  t.is((errors[0] as Error).message, 'no');
  await aio.stop();
});

test('an answer that breaks HTTP is answered 500 and reported', async (t) => {
  const errors: unknown[] = [];
  const aio = start();
  const server = await aio.listen({ key, cert, onError: (error) => errors.push(error) }, () => ({
    headers: { 'x-bad': 'a\r\nb: c' },
  }));
  t.is(await curl('-o', '/dev/null', '-w', '%{http_code}', server.url), '500');
  t.is(errors.length, 1);
  await aio.stop();
});

test('a burst of 100 connections with 100 streams each is answered 200, again and again', async (t) => {
  // On a slow machine the last ones wait for longer than the default allows.
  const aio = start({ queueTimeoutMs: 60_000 });
  const server = await aio.listen({ key, cert }, () => ({ body: 'Hello, world!\n' }));
  for (let round = 0; round < 3; round++) {
    const { stdout } = await run('h2load', ['-n', '10000', '-c', '100', '-m', '100', server.url]);
    t.regex(stdout, /status codes: 10000 2xx, 0 3xx, 0 4xx, 0 5xx/);
  }
  const { connections, buffers, arenas, queue, request } = aio.stats();
  for (const pool of [connections, buffers, arenas, queue]) t.true(pool.highWater <= pool.size);
  t.is(request.success, 30_000);
  await aio.stop();
});

test('T10: 500 connections at maxConnections 500, and 600 that share them', async (t) => {
  // Half of the requests wait at a time.
  const aio = start({ maxConnections: 500, queueTimeoutMs: 60_000 });
  const server = await aio.listen({ key, cert }, () => ({ body: 'Hello, world!\n' }));
  for (const clients of ['500', '600']) {
    // A client that gets no processor for a second leaves its handshake pending, which then makes room for one that waits.
    for (let attempt = 1, evicted = 1; evicted > 0; attempt++) {
      const before = aio.stats().connection.closed.evicted;
      const { stdout } = await run('h2load', ['-n', '60000', '-c', clients, '-m', '100', server.url]);
      evicted = attempt < 3 ? aio.stats().connection.closed.evicted - before : 0;
      if (evicted === 0) t.regex(stdout, /status codes: 60000 2xx/);
    }
  }
  t.true(aio.stats().connections.highWater <= 500);
  await aio.stop();
});

test('a static route and health are answered by the engine', async (t) => {
  const aio = start();
  const server = await aio.listen(
    { key, cert, staticRoutes: { '/robots.txt': { body: 'none\n' } }, health: {} },
    () => ({ status: 404 }),
  );
  t.is(await curl(`${server.url}robots.txt`), 'none\n');
  t.is(JSON.parse(await curl(`${server.url}livez`)).status, 'ok');
  t.is(JSON.parse(await curl(`${server.url}readyz`)).status, 'ok');
  t.is(aio.stats().request.dispatched, 0);
  await aio.stop();
});

test('signal aborts when the client resets the stream', async (t) => {
  const aio = start();
  let abort: (reason: unknown) => void = () => {};
  const aborted = new Promise((resolve) => {
    abort = resolve;
  });
  let stream: ClientHttp2Stream | undefined;
  const server = await aio.listen({ key, cert }, async (request) => {
    await new Promise<void>((resolve) => {
      request.signal.addEventListener('abort', () => resolve());
      stream?.close(8);
    });
    abort(request.signal.reason);
    return { body: 'too late' };
  });
  const client = connect(server.url, { rejectUnauthorized: false });
  stream = client.request({ ':path': '/' });
  stream.on('error', () => {});
  t.is(((await aborted) as Error).name, 'AbortError');
  client.destroy();
  await aio.stop();
});
