import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { createSite } from '../lib/site.js';
import { isServed } from '../lib/site-file.js';
import { BASE, get, openFiles, ROOT, textOf } from './helpers/site.js';

test.serial('the page shows nothing that is hidden, special or elsewhere', async (t) => {
  const html = await textOf(await get('/'));
  t.true(html.includes('>hello.txt<') && html.includes('>link-inside.txt<') && html.includes('>with-index/<'));
  t.notRegex(html, /dotfile|hidden|link-out|link-beside|fifo|loop|dangling|\.\.\//);
  t.is((await createSite(ROOT, { listing: false })(new Request('https://x/'))).status, 404);
  t.deepEqual(openFiles(), []);
});

test.serial('nothing outside the directory, hidden or special is served', async (t) => {
  const paths = `
    /../secret.txt /%2e%2e/secret.txt /..%2fsecret.txt /..%5csecret.txt /plain/%2e%2e/%2e%2e/secret.txt
    /%252e%252e/secret.txt //etc/passwd ///etc/passwd /link-out.txt /link-beside/secret.txt /link-beside/
    /link-beside /link-hidden.txt /.dotfile /.hidden/file.txt /.hidden/ /plain/../.dotfile /fifo /loop
    /dangling /nowhere/at/all /hello.txt/more /with-index// /${'a'.repeat(300)}`;
  for (const path of paths.trim().split(/\s+/)) {
    const answer = await get(path);
    t.is(answer.status, 404, path);
    t.false((await textOf(answer)).includes('secret'), path);
  }
  for (const path of ['/%', '/%zz', '/%ff', '/a%00b', '/%c0%ae%c0%ae/secret.txt']) {
    t.is((await get(path)).status, 400, path);
  }
  t.deepEqual(openFiles(), []);
});

test.serial('a link that stays inside is followed', async (t) => {
  t.is(await textOf(await get('/link-inside.txt')), 'Hello, world!\n');
});

test.serial('a socket and a device are not there', async (t) => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(join(ROOT, 'socket'), resolve));
  t.is((await get('/socket')).status, 404);
  await new Promise((resolve) => server.close(resolve));
  const devices = createSite('/dev');
  t.is((await devices(new Request('https://x/null'))).status, 404);
  t.is((await devices(new Request('https://x/zero'))).status, 404);
});

test.serial('a directory that is swapped for a link while requests run never leads out', async (t) => {
  const [real, link, away] = [join(ROOT, 'swap'), join(BASE, 'swap-link'), join(BASE, 'swap-away')];
  mkdirSync(real);
  writeFileSync(join(real, 'secret.txt'), 'public');
  symlinkSync(join(BASE, 'site-beside'), link);
  let swapping = true;
  const swapper = (async () => {
    while (swapping) {
      renameSync(real, away);
      renameSync(link, real);
      await new Promise((resolve) => setImmediate(resolve));
      renameSync(real, link);
      renameSync(away, real);
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  const seen = new Set<string>();
  for (let round = 0; round < 300; round += 1) {
    const answers = await Promise.all([get('/swap/secret.txt'), get('/swap/secret.txt'), get('/swap/')]);
    for (const answer of answers.slice(0, 2)) seen.add(await textOf(answer));
  }
  swapping = false;
  await swapper;
  t.false(seen.has('secret'));
  t.true([...seen].every((text) => text === 'public' || text === '404 Not Found\n'));
  rmSync(real, { recursive: true });
  t.deepEqual(openFiles(), []);
});

test('what lies below a root', (t) => {
  const cases: [string, string, boolean][] = [
    ['/a', '/a', true],
    ['/a', '/a/b', true],
    ['/a', '/ab', false],
    ['/a', '/', false],
    ['/a', '/a/.b/c', false],
    ['/a/.data', '/a/.data/b', true],
    ['/', '/a', true],
    ['/', '/', true],
    ['/a', 'pipe:[123]', false],
  ];
  for (const [root, path, expected] of cases) t.is(isServed(root, path), expected, `${root} ${path}`);
});

test('a root that is no directory is refused at once', (t) => {
  t.throws(() => createSite(join(BASE, 'missing')), { code: 'ENOENT' });
  t.throws(() => createSite(join(ROOT, 'hello.txt')), { code: 'ENOTDIR', message: /hello\.txt/ });
});

test('a root that is reached through a link, or is hidden itself, is served', async (t) => {
  symlinkSync(ROOT, join(BASE, 'root-link'));
  t.is((await createSite(join(BASE, 'root-link'))(new Request('https://x/hello.txt'))).status, 200);
  t.is((await createSite(join(ROOT, '.hidden'))(new Request('https://x/file.txt'))).status, 200);
});
