import { appendFileSync, mkdirSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { FileChunks, openBelow } from '../lib/site-file.js';
import { bytesOf, get, header, LARGE, openFiles, put, ROOT, textOf } from './helpers/site.js';

test.serial('a small file comes whole, with its type, size and validators', async (t) => {
  const answer = await get('/hello.txt?version=1');
  t.is(answer.status, 200);
  t.is(header(answer, 'content-type'), 'text/plain; charset=utf-8');
  t.is(header(answer, 'content-length'), '14');
  t.is(header(answer, 'last-modified'), 'Sat, 03 Feb 2024 04:05:06 GMT');
  t.regex(header(answer, 'etag') ?? '', /^"[!#-~]+"$/);
  t.is(header(answer, 'accept-ranges'), 'bytes');
  t.is(header(answer, 'x-content-type-options'), 'nosniff');
  t.true(answer.body instanceof Uint8Array);
  t.is(await textOf(answer), 'Hello, world!\n');
  t.deepEqual(openFiles(), []);
});

test.serial('a large file is streamed in chunks of at most 64 KiB, and closed', async (t) => {
  const answer = await get('/large.bin');
  t.is(header(answer, 'content-length'), String(LARGE.length));
  t.is(header(answer, 'content-type'), 'application/octet-stream');
  const chunks: Uint8Array[] = [];
  for await (const chunk of answer.body as AsyncIterable<Uint8Array>) chunks.push(chunk);
  t.true(chunks.every((chunk) => chunk.byteLength <= 65_536));
  t.true(new Set(chunks.map((chunk) => chunk.buffer)).size === chunks.length);
  t.true(Buffer.concat(chunks).equals(LARGE));
  t.deepEqual(openFiles(), []);
});

test.serial('a body that is cancelled closes its file, before the first chunk too', async (t) => {
  for (const reads of [0, 1]) {
    const { body } = await get('/large.bin');
    const iterator = (body as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
    for (let read = 0; read < reads; read += 1) await iterator.next();
    t.deepEqual(openFiles(), [join(ROOT, 'large.bin')]);
    await iterator.return?.();
    t.deepEqual(openFiles(), []);
    t.deepEqual(await iterator.next(), { done: true, value: undefined });
  }
});

test.serial('a file that shrinks while it is sent is an error, one that grows is cut', async (t) => {
  put('changing.bin', LARGE);
  const shrinking = (await get('/changing.bin')).body as AsyncIterable<Uint8Array>;
  const iterator = shrinking[Symbol.asyncIterator]();
  await iterator.next();
  truncateSync(join(ROOT, 'changing.bin'), 70_000);
  await iterator.next();
  await t.throwsAsync(async () => iterator.next(), { message: /shorter/ });
  t.deepEqual(openFiles(), []);

  put('changing.bin', LARGE);
  const growing = await get('/changing.bin');
  appendFileSync(join(ROOT, 'changing.bin'), LARGE);
  t.true((await bytesOf(growing)).equals(LARGE));
  rmSync(join(ROOT, 'changing.bin'));
});

test.serial('a read that fails closes the file and says so', async (t) => {
  const opened = await openBelow(ROOT, ['plain']);
  if (opened === null) return t.fail();
  await t.throwsAsync(async () => new FileChunks(opened.handle, 0, 10).next(), { code: 'EISDIR' });
  t.deepEqual(openFiles(), []);
});

test.serial('HEAD has the head of GET and no body', async (t) => {
  for (const path of ['/hello.txt', '/large.bin', '/plain/', '/nowhere', '/plain']) {
    const [head, whole] = [await get(path, {}, 'HEAD'), await get(path)];
    t.is(head.body, null, path);
    t.deepEqual([head.status, head.headers], [whole.status, whole.headers], path);
    await bytesOf(whole);
  }
  t.deepEqual(openFiles(), []);
});

test.serial('other methods get 405 with allow', async (t) => {
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']) {
    const answer = await get('/hello.txt', {}, method);
    t.deepEqual([answer.status, header(answer, 'allow')], [405, 'GET, HEAD'], method);
  }
});

test.serial('an empty file', async (t) => {
  const answer = await get('/empty.txt');
  t.deepEqual([answer.status, header(answer, 'content-length'), await textOf(answer)], [200, '0', '']);
  t.is((await get('/empty.txt', { range: 'bytes=0-' })).status, 416);
});

test.serial('if-none-match: weak comparison, lists, *; it goes before if-modified-since', async (t) => {
  const etag = header(await get('/hello.txt'), 'etag') ?? '';
  for (const value of [etag, `W/${etag}`, `"other", ${etag}`, '*']) {
    const answer = await get('/hello.txt', { 'if-none-match': value });
    t.is(answer.status, 304, value);
    t.is(answer.body, null);
    t.is(header(answer, 'etag'), etag);
    t.is(header(answer, 'content-length'), undefined);
  }
  for (const value of ['"other"', etag.replaceAll('"', ''), `${etag}x`]) {
    const answer = await get('/hello.txt', {
      'if-none-match': value,
      'if-modified-since': new Date().toUTCString(),
    });
    t.is(answer.status, 200, value);
  }
  t.is((await get('/large.bin', { 'if-none-match': '*' }, 'HEAD')).status, 304);
  t.deepEqual(openFiles(), []);
});

test.serial('if-modified-since', async (t) => {
  const since = async (value: string) => (await get('/hello.txt', { 'if-modified-since': value })).status;
  t.is(await since('Sat, 03 Feb 2024 04:05:06 GMT'), 304);
  t.is(await since('Sat, 03 Feb 2024 04:05:07 GMT'), 304);
  t.is(await since('Sat, 03 Feb 2024 04:05:05 GMT'), 200);
  t.is(await since('yesterday'), 200);
});

test.serial('if-match and if-unmodified-since', async (t) => {
  const etag = header(await get('/hello.txt'), 'etag') ?? '';
  const status = async (headers: Record<string, string>) => (await get('/hello.txt', headers)).status;
  t.is(await status({ 'if-match': etag }), 200);
  t.is(await status({ 'if-match': '*' }), 200);
  t.is(await status({ 'if-match': `W/${etag}` }), 412);
  t.is(await status({ 'if-match': '"other"' }), 412);
  t.is(await status({ 'if-unmodified-since': 'Sat, 03 Feb 2024 04:05:06 GMT' }), 200);
  t.is(await status({ 'if-unmodified-since': 'Sat, 03 Feb 2024 04:05:05 GMT' }), 412);
});

test.serial('byte ranges', async (t) => {
  const range = async (value: string, more: Record<string, string> = {}) => {
    const answer = await get('/large.bin', { range: value, ...more });
    return [answer.status, header(answer, 'content-range'), header(answer, 'content-length'), await bytesOf(answer)];
  };
  t.deepEqual(await range('bytes=0-9'), [206, 'bytes 0-9/200000', '10', LARGE.subarray(0, 10)]);
  t.deepEqual(await range('bytes=-7'), [206, 'bytes 199993-199999/200000', '7', LARGE.subarray(-7)]);
  t.deepEqual(await range('bytes=65000-'), [206, 'bytes 65000-199999/200000', '135000', LARGE.subarray(65_000)]);
  t.deepEqual((await range('bytes=200000-')).slice(0, 2), [416, 'bytes */200000']);
  t.deepEqual((await range('bytes=0-1,5-6')).slice(0, 3), [200, undefined, '200000']);
  t.deepEqual((await range('bytes=x')).slice(0, 3), [200, undefined, '200000']);

  const head = await get('/large.bin', { range: 'bytes=0-9' }, 'HEAD');
  t.deepEqual([head.status, header(head, 'content-length')], [200, '200000']);

  const etag = header(await get('/large.bin', {}, 'HEAD'), 'etag') ?? '';
  const ifRange = async (value: string) => (await range('bytes=0-9', { 'if-range': value }))[0];
  t.is(await ifRange(etag), 206);
  t.is(await ifRange(`W/${etag}`), 200);
  t.is(await ifRange('"other"'), 200);
  t.is(await ifRange(`${etag}, ${etag}`), 200);
  t.is(await ifRange('*'), 200);
  t.is(await ifRange('Sat, 03 Feb 2024 04:05:06 GMT'), 206);
  t.is(await ifRange('Sat, 03 Feb 2024 04:05:07 GMT'), 200);
  t.deepEqual(openFiles(), []);
});

test.serial('the etag follows size and time, and is weak where the time says nothing yet', async (t) => {
  put('tagged.txt', 'one');
  const first = header(await get('/tagged.txt'), 'etag');
  put('tagged.txt', 'three');
  const second = header(await get('/tagged.txt'), 'etag');
  t.not(first, second);
  const ahead = new Date(Date.now() + 86_400_000);
  utimesSync(join(ROOT, 'tagged.txt'), ahead, ahead);
  const future = await get('/tagged.txt');
  t.true(Date.parse(header(future, 'last-modified') ?? '') <= Date.now());
  t.regex(header(future, 'etag') ?? '', /^W\/"/);
  rmSync(join(ROOT, 'tagged.txt'));
});

test.serial('a directory: index.html, or a redirect to the path with a slash', async (t) => {
  const index = await get('/with-index/');
  t.is(header(index, 'content-type'), 'text/html; charset=utf-8');
  t.is(await textOf(index), '<p>index</p>');
  const redirect = await get('/with-index?a=%20b&c');
  t.deepEqual([redirect.status, header(redirect, 'location')], [308, '/with-index/?a=%20b&c']);
  t.is((await get('/hello.txt/')).status, 404);
  t.deepEqual(openFiles(), []);
});

test.serial('a directory without index: a page with escaped names that link to what is served', async (t) => {
  const page = await get('/plain/');
  t.is(header(page, 'content-type'), 'text/html; charset=utf-8');
  const html = await textOf(page);
  t.is(header(page, 'content-length'), String(Buffer.byteLength(html)));
  t.true(html.includes('a&amp;b &lt;i&gt;&quot;c&#39;.txt'));
  t.false(html.includes('<i>'));
  const links = [...html.matchAll(/href="([^"]+)"/g)].map(([, href]) => (href ?? '').replaceAll('&#39;', "'"));
  t.deepEqual(links, ['../', './inner/', './9.txt', './10.txt', "./a%26b%20%3Ci%3E%22c'.txt"]);
  for (const href of links) {
    const { pathname } = new URL(href, 'https://x/plain/');
    t.is((await get(pathname)).status, 200, href);
  }
  t.true(html.includes('2 KiB'));
  t.true(html.includes('2024-02-03 04:05'));
});

test.serial('a page of a large directory ends at a thousand entries', async (t) => {
  const directory = join(ROOT, 'many');
  mkdirSync(directory);
  for (let index = 0; index < 1001; index += 1) writeFileSync(join(directory, `${index}`), '');
  const html = await textOf(await get('/many/'));
  t.is(html.match(/<tr><td><a href="\.\/\d+"/g)?.length, 1000);
  t.true(html.includes('Only the first 1000 entries are shown.'));
  rmSync(directory, { recursive: true });
});

test.serial('names outside ASCII', async (t) => {
  t.is(await textOf(await get(`/${encodeURIComponent('köln 100%.txt')}`)), 'Dom\n');
});
