// Clients that are not Node's own, and those that this server has nothing for.
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import test from 'ava';
import type { Handler } from 'valk-aio';
import { cert } from './helpers/certificate.js';
import { ask, open, until } from './helpers/client.js';
import { serve } from './helpers/serve.js';

const folder = mkdtempSync(join(tmpdir(), 'valk-aio-clients-'));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end, and gives its status. */
function run(command: string, args: readonly string[]): Promise<Ran> {
  return new Promise((resolve, reject) => {
    execFile(command, args, { maxBuffer: 1 << 26, timeout: 60_000 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : (error.code as unknown);
      if (typeof code === 'number') resolve({ code, stdout, stderr });
      else reject(error);
    });
  });
}

const curl = (...args: string[]): Promise<Ran> => run('curl', ['-sSk', '--max-time', '30', ...args]);

const echo: Handler = async (request) => {
  const { pathname } = new URL(request.url);
  if (pathname === '/hello') return { body: 'Hello, world!\n' };
  if (pathname === '/nothing') return { status: 204 };
  return { headers: { 'x-method': request.method }, body: await request.bytes() };
};

test('curl: GET, HEAD, POST and 204 over h2', async (t) => {
  const { url } = await serve(t, echo);
  const format = ' %{http_version} %{http_code} %{size_download}';
  t.is((await curl('--http2', '-w', format, `${url}hello`)).stdout, 'Hello, world!\n 2 200 14');
  t.is((await curl('--http2', '-w', format, `${url}nothing`)).stdout, ' 2 204 0');
  const head = await curl('--http2', '-I', `${url}hello`);
  t.regex(head.stdout, /^HTTP\/2 200 \r\n/);
  t.regex(head.stdout, /^content-length: 14\r$/m);
  t.regex((await curl('-i', '-X', 'DELETE', url)).stdout, /^x-method: DELETE\r$/m);
});

test('curl: the certificate is the one that was given', async (t) => {
  const { url } = await serve(t, echo);
  const file = join(folder, 'ca.pem');
  writeFileSync(file, cert);
  const { stdout } = await run('curl', ['-sS', '--cacert', file, '--http2', `${url}hello`]);
  t.is(stdout, 'Hello, world!\n');
  t.is((await run('curl', ['-sS', '--http2', `${url}hello`])).code, 60);
});

test('curl: a binary upload comes back byte for byte, with and without a length', async (t) => {
  const { url } = await serve(t, echo);
  const [input, output] = [join(folder, 'upload'), join(folder, 'download')];
  const bytes = randomBytes(3_000_001);
  writeFileSync(input, bytes);
  for (const headers of [[], ['-H', 'Transfer-Encoding: chunked'], ['-H', 'Expect: 100-continue']]) {
    const { code } = await curl('--http2', ...headers, '--data-binary', `@${input}`, '-o', output, url);
    t.is(code, 0);
    t.true(readFileSync(output).equals(bytes));
  }
});

test('curl: many requests on one connection', async (t) => {
  const { aio, url } = await serve(t, echo);
  const { stdout } = await curl('--http2', '-Z', '--parallel-max', '20', `${url}hello?[1-100]`);
  t.is(stdout, 'Hello, world!\n'.repeat(100));
  t.is(aio.stats().request.success, 100);
  t.is(aio.stats().connection.accepted, 1);
});

test('nghttp: requests with priorities and a dependency tree, and an upload with trailers', async (t) => {
  const { aio, url } = await serve(t, async (request) => {
    const bytes = await request.bytes();
    return { body: bytes.length > 0 ? `${bytes.length} ${request.trailers.get('x-end')}` : 'x'.repeat(100_000) };
  });
  const many = await run('nghttp', ['-v', '-n', '-m', '20', url]);
  t.is(many.stdout.match(/:status: 200/g)?.length, 20);
  t.notRegex(many.stdout, /RST_STREAM/);
  t.is(aio.stats().request.success, 20);
  const file = join(folder, 'nghttp');
  writeFileSync(file, 'y'.repeat(300_000));
  const upload = await run('nghttp', ['-d', file, '--trailer', 'x-end: yes', url]);
  t.is(upload.stdout, '300000 yes');
  // Padded frames, and windows of their own.
  const padded = await run('nghttp', ['-v', '-b', '255', '-w', '20', '-W', '20', url]);
  t.regex(padded.stdout, /:status: 200/);
});

test.serial("h2load: every request is answered, on one engine thread, on two, and on JavaScript's", async (t) => {
  for (const ioThreads of [1, 2, 0]) {
    const { aio, url } = await serve(t, echo, {}, { ioThreads });
    const { stdout } = await run('h2load', ['-n', '5000', '-c', '20', '-m', '20', `${url}hello`]);
    t.regex(stdout, /requests: 5000 total, 5000 started, 5000 done, 5000 succeeded, 0 failed, 0 errored, 0 timeout/);
    t.regex(stdout, /status codes: 5000 2xx/);
    t.is(aio.stats().request.success, 5000);
    await until('h2load has left', () => aio.stats().connection.active === 0);
    t.deepEqual([aio.stats().arenas.inUse, aio.stats().buffers.inUse], [0, 0]);
  }
});

test.serial('h2load: small windows', async (t) => {
  const { url } = await serve(t, () => ({ body: 'z'.repeat(100_000) }));
  const { stdout } = await run('h2load', ['-n', '200', '-c', '4', '-m', '10', '-w', '10', '-W', '12', url]);
  t.regex(stdout, /status codes: 200 2xx/);
  t.regex(stdout, / 20000000\) data|\(20000000\) data/);
});

test('TLS 1.2 and 1.3 are spoken, with forward-secret AEAD suites only; nothing older', async (t) => {
  const { aio, url } = await serve(t, (_, { tls }) => ({ body: `${tls.version} ${tls.cipher}` }));
  t.regex((await curl('--tls-max', '1.2', url)).stdout, /^TLSv1\.2 \S*ECDHE\S+(GCM|POLY1305)/);
  t.regex((await curl('--tlsv1.3', url)).stdout, /^TLSv1\.3 TLS_/);
  for (const args of [
    ['--tls-max', '1.1', '--ciphers', 'DEFAULT@SECLEVEL=0'],
    ['--tls-max', '1.2', '--ciphers', 'ECDHE-ECDSA-AES128-SHA'],
    ['--tls-max', '1.2', '--ciphers', 'AES128-GCM-SHA256'],
  ]) {
    t.is((await curl(...args, url)).code, 35, args.join(' '));
  }
  await until('they are counted', () => aio.stats().connection.closed.tls === 3);
  t.is((await curl(url)).code, 0);
});

test('a client without h2 is refused cleanly, and others are served', async (t) => {
  const { aio, server, url } = await serve(t, echo);
  const session = await open(t, url);
  // curl offers http/1.1 alone; the handshake fails with no_application_protocol (RFC 7301, section 3.2).
  const http1 = await curl('--http1.1', url);
  t.is(http1.code, 35);
  t.regex(http1.stderr, /no application protocol/i);
  // Without ALPN there is no h2 either (RFC 9113, section 3.2).
  const none = await curl('--no-alpn', '--http1.1', url);
  t.not(none.code, 0);
  t.is(none.stdout, '');
  await t.throwsAsync(fetch(url));
  const plain = await curl(`http://127.0.0.1:${server.port}/`);
  t.not(plain.code, 0);
  t.not(plain.code, 28, 'it does not have to wait');
  t.is(plain.stdout, '');
  const prior = await curl('--http2-prior-knowledge', `http://127.0.0.1:${server.port}/`);
  t.not(prior.code, 0);
  t.is((await ask(session, '/hello')).status, 200);
  await until('they are gone', () => aio.stats().connection.active === 1);
  const { closed } = aio.stats().connection;
  t.true((closed.tls ?? 0) + (closed.noHttp2 ?? 0) >= 5, JSON.stringify(closed));
  t.is(aio.stats().request.total, 1);
});

/** Sends |bytes| over TLS and waits until the server closes. */
async function sendOverTls(port: number, options: ConnectionOptions, bytes: string | Uint8Array): Promise<Buffer> {
  const socket = connectTls({ port, host: '127.0.0.1', ca: cert, ...options });
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => {});
  const closed = once(socket, 'close');
  socket.write(bytes);
  await closed;
  return Buffer.concat(chunks);
}

test('what is no HTTP/2 behind ALPN h2 ends that connection alone', async (t) => {
  const { aio, server, url } = await serve(t, echo);
  const session = await open(t, url);
  const options = { ALPNProtocols: ['h2'] };
  const request = 'GET / HTTP/1.1\r\nhost: x\r\n\r\n';
  t.notRegex((await sendOverTls(server.port, options, request)).toString('latin1'), /HTTP\/1\.1 200/);
  await sendOverTls(server.port, options, randomBytes(4096));
  await sendOverTls(server.port, options, `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${'\xff'.repeat(100)}`);
  t.is((await ask(session, '/hello')).status, 200);
  await until('they are gone', () => aio.stats().connection.active === 1);
});

test('a client that sends noise, leaves in its handshake or with its request unread does no harm', async (t) => {
  const { aio, server, url } = await serve(t, echo);
  const session = await open(t, url);
  const hello = (bytes: Uint8Array): Promise<unknown> => {
    const socket = connectTcp(server.port, '127.0.0.1').on('error', () => {});
    const closed = once(socket, 'close');
    socket.resume().end(bytes);
    return closed;
  };
  await Promise.all([randomBytes(10_000), Buffer.alloc(0), Buffer.from('160301', 'hex'), Buffer.alloc(5)].map(hello));
  const leaving = connectTls({ port: server.port, host: '127.0.0.1', ca: cert, ALPNProtocols: ['h2'] });
  leaving.on('error', () => {});
  await once(leaving, 'connect');
  leaving.destroy();
  t.is((await ask(session, '/hello')).status, 200);
  await until('they are gone', () => aio.stats().connection.active === 1);
});
