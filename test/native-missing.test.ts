import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test from 'ava';

test('without an addon start() says so, and names only scripts that there are', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'valk-aio-native-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  // The package without prebuilds and without a build.
  for (const name of ['dist', 'package.json']) cpSync(name, join(folder, name), { recursive: true });
  symlinkSync(join(process.cwd(), 'node_modules'), join(folder, 'node_modules'));
  const { start, resolveConfig } = await import(pathToFileURL(join(folder, 'dist/index.js')).href);
  t.is(resolveConfig().maxConnections, 100, 'what needs no addon works');
  const error = t.throws(() => start(), { code: 'ERR_VALK_AIO_NATIVE', message: /Node\.js v\d+/ });
  const { scripts } = JSON.parse(readFileSync('package.json', 'utf8'));
  const named = [...(error?.message ?? '').matchAll(/npm run (\S+?)[`\s]/g)].map(([, name]) => name as string);
  t.true(named.length > 0, error?.message);
  for (const name of named) t.true(name in scripts, name);
  t.regex(error?.message ?? '', /clone of the repository/);
});
