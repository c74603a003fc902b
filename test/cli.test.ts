import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { renderPlan } from '../lib/cli-plan.js';
import { devCertificate } from '../lib/dev-certificate.js';
import { configWarnings, planMemory, resolveConfig } from '../lib/index.js';
import { type Ended, PACKAGE, request, runNode, startServer } from './helpers/command.js';

const CLI = join(PACKAGE, 'dist', 'cli.js');
const BASE = realpathSync(mkdtempSync(join(tmpdir(), 'valk-aio-cli-')));
const SITE = join(BASE, 'site');
const ENV = { XDG_DATA_HOME: join(BASE, 'data') };
const MIB = 2 ** 20;
const LARGE = Buffer.alloc(300_000, 'abcdefghijklmnopqrstuvwxyz');

mkdirSync(SITE);
writeFileSync(join(SITE, 'page.html'), '<p>page</p>');
writeFileSync(join(SITE, 'large.bin'), LARGE);
writeFileSync(join(BASE, 'secret.txt'), 'secret');
test.after.always(() => rmSync(BASE, { recursive: true, force: true }));

async function valk(...args: string[]): Promise<Ended> {
  return runNode([CLI, ...args], ENV);
}

function isNarrow(text: string): boolean {
  return text.split('\n').every((line) => line.length <= 80);
}

test('plan: the derived values and the memory of the defaults', async (t) => {
  const { code, stdout, stderr } = await valk('plan');
  t.deepEqual([code, stderr], [0, '']);
  t.true(isNarrow(stdout));
  for (const line of [
    /^ {2}maxConnections +100$/m,
    /^ {2}maxConcurrentStreams +100$/m,
    /^ {2}tcpBufferPoolSize +1,450$/m,
    /^ {2}arenaPoolSize +200$/m,
    /^ {2}queueCapacity +200$/m,
    /^ {2}arenaSize +64 MiB$/m,
    /^ {2}maxRequestBodySize +8 MiB$/m,
    /^ {2}handshakeTimeoutMs +10 s$/m,
    /^ {2}minBodyRate +240 B\/s$/m,
    /^ {2}arenas +200 +64 MiB +12\.5 GiB$/m,
    /^ {2}total +[\d.]+ GiB$/m,
    /^ {2}committed at start +[\d.]+ [KM]iB$/m,
  ]) {
    t.regex(stdout, line);
  }
});

test('plan --json: the same for programs', async (t) => {
  const { code, stdout } = await valk('plan', '--max-connections', '500', '--max-concurrent-streams', '50', '--json');
  t.is(code, 0);
  const config = resolveConfig({ maxConnections: 500, maxConcurrentStreams: 50 });
  t.is(config.tcpBufferPoolSize, 4125);
  t.deepEqual(JSON.parse(stdout), { config, memory: planMemory(config), warnings: [] });
});

test('plan --memory: the configuration that fits', async (t) => {
  const { code, stdout } = await valk('plan', '--memory', '512MiB', '--json');
  t.is(code, 0);
  const { config, memory } = JSON.parse(stdout);
  t.true(memory.totalBytes <= 512 * MIB);
  t.true(config.maxConnections >= 1);
  const kept = JSON.parse((await valk('plan', '--memory', '1GiB', '--max-connections', '7', '--json')).stdout);
  t.is(kept.config.maxConnections, 7);
});

test('plan: warnings come with the table, and every line stays readable', async (t) => {
  const { code, stdout } = await valk('plan', '--max-connections', '100000', '--max-concurrent-streams', '1000');
  t.is(code, 0);
  t.true(isNarrow(stdout));
  t.true(stdout.includes('\nwarning: '));
  t.regex(stdout, /tcpBufferPoolSize +1,000,000\n/);
});

test('the widest values still fit into 80 columns', (t) => {
  const config = resolveConfig({
    maxConnections: 100_000,
    maxConcurrentStreams: 1000,
    arenaSize: 256 * MIB - 1,
    handlerTimeoutMs: 86_399_999,
    maxOverflowArenas: 9999,
    connectionHeapSize: 2 ** 30 - 1,
  });
  const text = renderPlan(config, planMemory(config), configWarnings(config));
  t.true(isNarrow(text));
  t.regex(text, /handlerTimeoutMs +86,399,999 ms\n/);
});

const MISTAKES: readonly [readonly string[], RegExp][] = [
  [['plan', '--max-connections', '0'], /--max-connections.*maxConnections must be between 1 and 100,000/],
  [['plan', '--max-connections', '100001'], /--max-connections.*between 1 and 100,000/],
  [['plan', '--max-connections', '-5'], /--max-connections.*whole number/],
  [['plan', '--max-connections', '1.5'], /--max-connections.*whole number/],
  [['plan', '--max-connections', 'many'], /--max-connections.*whole number/],
  [['plan', '--max-connections'], /--max-connections.*argument missing/],
  [['plan', '--max-concurrent-streams', '1001'], /--max-concurrent-streams.*between 1 and 1,000/],
  [['plan', '--memory', 'lots'], /--memory.*size/],
  [['plan', '--memory', '1KiB'], /--memory/],
  [['plan', '--no-such'], /--no-such/],
  [['plan', 'surplus'], /too many arguments/],
  [['nonsense'], /nonsense/],
  [['serve', SITE, '--port', '65536'], /--port.*between 0 and 65,535/],
  [['serve', SITE, '--max-connections', '0'], /--max-connections.*between 1 and 100,000/],
  [['serve', join(BASE, 'missing')], /missing/],
  [['serve', join(SITE, 'page.html')], /not a directory.*page\.html/],
  [['serve', SITE, '--key', 'x'], /--key.*--cert/],
  [['serve', SITE, '--cert', 'x'], /--cert.*--key/],
  [['serve', SITE, '--key', join(BASE, 'none.pem'), '--cert', CLI], /--key.*none\.pem/],
  [['serve', SITE, '--key', CLI, '--cert', CLI, '--port', '0'], /key|certificate/i],
];

for (const [args, message] of MISTAKES) {
  test(`a mistake is explained: ${args.map((arg) => arg.replace(BASE, '…')).join(' ')}`, async (t) => {
    const { code, stdout, stderr } = await valk(...args);
    t.deepEqual([code, stdout], [1, '']);
    t.regex(stderr, message);
    t.notRegex(stderr, /^ +at /m);
  });
}

test('--version and --help', async (t) => {
  const { version } = JSON.parse(readFileSync(join(PACKAGE, 'package.json'), 'utf8'));
  t.is((await valk('--version')).stdout, `${version}\n`);
  for (const args of [['--help'], ['serve', '--help'], ['plan', '--help']]) {
    const { code, stdout } = await valk(...args);
    t.is(code, 0);
    t.true(isNarrow(stdout), stdout);
  }
});

test.serial('serve: a site over HTTP/2, the configuration, the memory, and an end at SIGTERM and SIGINT', async (t) => {
  const server = await startServer([CLI, 'serve', SITE, '--port', '0', '--max-connections', '20'], ENV);
  const { cert: ca } = await devCertificate({ directory: join(ENV.XDG_DATA_HOME, 'valk-aio') });
  const get = async (path: string, headers = {}, method = 'GET') =>
    request(new URL(path, server.url).href, { ca, headers, method });

  const page = await get('/page.html');
  t.deepEqual([page.status, page.headers['content-type']], [200, 'text/html; charset=utf-8']);
  t.deepEqual([page.headers['content-length'], page.body.toString()], ['11', '<p>page</p>']);
  t.regex(page.headers.date ?? '', / GMT$/);

  const head = await get('/large.bin', {}, 'HEAD');
  t.deepEqual([head.status, head.headers['content-length'], head.body.length], [200, '300000', 0]);
  const whole = await get('/large.bin');
  t.true(whole.body.equals(LARGE));
  const part = await get('/large.bin', { range: 'bytes=100000-299998' });
  t.deepEqual([part.status, part.headers['content-range']], [206, 'bytes 100000-299998/300000']);
  t.true(part.body.equals(LARGE.subarray(100_000, 299_999)));
  const beyond = await get('/large.bin', { range: 'bytes=300000-' });
  t.deepEqual([beyond.status, beyond.headers['content-range']], [416, 'bytes */300000']);
  const same = await get('/page.html', { 'if-none-match': page.headers.etag });
  t.deepEqual([same.status, same.body.length], [304, 0]);
  t.true((await get('/')).body.toString().includes('page.html'));
  for (const path of ['/../secret.txt', '/%2e%2e/secret.txt', '/..%2fsecret.txt']) {
    const outside = await get(path);
    t.is(outside.status, 404, path);
  }
  t.is((await get('/page.html', {}, 'POST')).status, 405);

  const { code, stdout, stderr } = await server.end('SIGTERM');
  t.deepEqual([code, stderr], [0, '']);
  t.regex(stdout, /^https:\/\/127\.0\.0\.1:\d+\/\n/);
  t.regex(stdout, /^ {2}maxConnections +20$/m);
  t.regex(stdout, /^ {2}total +[\d.]+ [MG]iB$/m);
  t.is(statSync(join(ENV.XDG_DATA_HOME, 'valk-aio', 'development.pem')).mode & 0o777, 0o600);

  const again = await startServer([CLI, 'serve', SITE, '--port', '0'], ENV);
  t.is((await request(again.url, { ca })).status, 200);
  t.is((await again.end('SIGINT')).code, 0);
});

test.serial('serve: without a directory, the documentation', async (t) => {
  const server = await startServer([CLI, 'serve', '--port', '0'], ENV);
  const { cert: ca } = await devCertificate({ directory: join(ENV.XDG_DATA_HOME, 'valk-aio') });
  const page = await request(server.url, { ca });
  t.is(page.status, 200);
  t.true(page.body.toString().includes('architecture.md'));
  t.is((await server.end('SIGTERM')).code, 0);
});

test.serial('serve: a key and certificate of its own, and a pair that does not match', async (t) => {
  const [one, two] = [
    await devCertificate({ directory: join(BASE, 'one') }),
    await devCertificate({ directory: join(BASE, 'two') }),
  ];
  // The file holds both, so that it serves for either option.
  const server = await startServer([CLI, 'serve', SITE, '--port', '0', '--key', one.path, '--cert', one.path], ENV);
  t.is((await request(server.url, { ca: one.cert })).status, 200);
  t.is((await server.end('SIGTERM')).code, 0);
  const { code, stdout, stderr } = await valk('serve', SITE, '--port', '0', '--key', one.path, '--cert', two.path);
  t.deepEqual([code, stdout], [1, '']);
  t.regex(stderr, /^error: .*(key|certificate)/i);
});

test.serial('serve: a taken port is a clear message', async (t) => {
  const taken = createServer();
  const port = await new Promise<number>((resolve) => {
    taken.listen(0, '127.0.0.1', () => resolve((taken.address() as { port: number }).port));
  });
  const { code, stdout, stderr } = await valk('serve', SITE, '--port', String(port));
  taken.close();
  t.deepEqual([code, stdout], [1, '']);
  t.regex(stderr, new RegExp(`^error: 127\\.0\\.0\\.1:${port} is taken`));
  t.notRegex(stderr, /^ +at /m);
});

test('serve: without openssl, the message says what to do', async (t) => {
  const env = { XDG_DATA_HOME: join(BASE, 'no-openssl'), PATH: BASE };
  const { code, stdout, stderr } = await runNode([CLI, 'serve', SITE, '--port', '0'], env);
  t.deepEqual([code, stdout], [1, '']);
  t.regex(stderr, /openssl.*--key.*--cert/s);
});
