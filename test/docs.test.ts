import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import test from 'ava';
import ts from 'typescript';
import type { ConfigField } from '../lib/config-types.js';
import { devCertificate } from '../lib/dev-certificate.js';
import { formatSize } from '../lib/format.js';
import * as api from '../lib/index.js';
import { CONFIG_FIELDS, CONFIG_LIMITS, LISTEN_FIELDS } from '../lib/limits.js';
import { TCP_BUFFER_SIZE, TCP_BUFFER_STRIDE } from '../lib/plan.js';
import { PACKAGE, request, runNode, startServer } from './helpers/command.js';
import { anchors, blocks, number, part, rows, withoutBlocks, withoutCode } from './helpers/markdown.js';

const TOP = ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md'];
const DOCS = readdirSync(join(PACKAGE, 'docs'))
  .filter((name) => name.endsWith('.md'))
  .map((name) => `docs/${name}`);
const PAGES = [...TOP, ...DOCS];

const read = (file: string): string => readFileSync(join(PACKAGE, file), 'utf8');

const configuration = read('docs/configuration.md');

for (const page of PAGES) {
  test(`${page}: its links lead somewhere`, (t) => {
    const markdown = read(page);
    const links = [...withoutCode(markdown).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = '']) => link);
    t.notThrows(() => links.map((link) => new URL(link, 'https://example.org/')));
    for (const link of links.filter((target) => !target.startsWith('https://'))) {
      const [path = '', fragment] = link.split('#');
      const file = path === '' ? page : relative(PACKAGE, resolve(PACKAGE, dirname(page), path));
      t.true(existsSync(join(PACKAGE, file)), link);
      t.false(file.startsWith('..'), link);
      if (fragment !== undefined) t.true(anchors(read(file)).includes(fragment), link);
    }
  });
}

test('the code on the pages can be parsed, and imports what there is', (t) => {
  const all = PAGES.flatMap((page) => blocks(read(page)));
  for (const { language, code } of all) {
    if (language === 'json') t.notThrows(() => JSON.parse(code), code);
    if (language !== 'js' && language !== 'ts') continue;
    const { diagnostics = [] } = ts.transpileModule(code, {
      fileName: `block.m${language}`,
      reportDiagnostics: true,
      compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, allowJs: true },
    });
    t.deepEqual(
      diagnostics.map(({ messageText }) => messageText),
      [],
      code,
    );
    for (const [, names = ''] of code.matchAll(/import \{([^}]*)\} from 'valk-aio'/g)) {
      for (const name of names.split(',')) t.true(name.trim() in api, name);
    }
  }
});

test('the commands that the pages name are there', (t) => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  for (const page of PAGES) {
    for (const [, name = ''] of read(page).matchAll(/npm run ([\w:]+)/g)) t.true(name in scripts, name);
  }
});

test('CONTRIBUTING.md names the steps of npm test', async (t) => {
  const { code, stderr } = await runNode(['scripts/test.mjs', 'no-such-step']);
  t.is(code, 2);
  const steps = /there are (.+)/.exec(stderr)?.[1]?.split(', ');
  const row = /^\| `npm test -- ava` \|.*$/m.exec(read('CONTRIBUTING.md'))?.[0] ?? '';
  const named = [...(row.split(':')[1] ?? '').matchAll(/`([\w-]+)`/g)].map(([, name]) => name);
  t.deepEqual(named.sort(), steps?.sort());
});

test('every error code that the library throws is on the pages', (t) => {
  const text = PAGES.map(read).join('');
  const sources = readdirSync(join(PACKAGE, 'lib')).map((name) => read(`lib/${name}`));
  // Two are of the command alone, which prints a sentence.
  const codes = new Set(sources.join('').match(/ERR_VALK_AIO_[A-Z\d_]*[A-Z\d]/g));
  for (const code of codes) {
    if (!/_(COMMAND|DEV_CERTIFICATE)$/.test(code))
      t.true(text.includes(`\`${code}\``) || text.includes(`'${code}'`), code);
  }
});

test.serial('docs/full-pools.md: the counters that it names are in stats()', async (t) => {
  const text = withoutBlocks(read('docs/full-pools.md'));
  const names = [...text.matchAll(/`((?:connections?|buffers|arenas|queue|requests?|overflowArenas)(?:\.\w+)*)`/g)];
  t.true(names.length > 20);
  const aio = api.start({ maxConnections: 1, maxConcurrentStreams: 1 });
  try {
    for (const [, name = ''] of names) {
      let value: unknown = aio.stats();
      for (const key of name.split('.')) value = (value as Record<string, unknown> | undefined)?.[key];
      t.not(value, undefined, name);
    }
  } finally {
    await aio.stop({ timeoutMs: 0 });
  }
});

test('docs/index.html links to every page, to nothing outside, and loads nothing', (t) => {
  const html = read('docs/index.html');
  const links = [...html.matchAll(/\bhref="([^"]*)"/g)].map(([, link = '']) => link);
  t.deepEqual(links.map((link) => `docs/${link}`).sort(), DOCS.toSorted());
  t.notRegex(html, /\b(src|srcset|action)=|@import|url\(|<(script|link|iframe)\b/);
  const open: string[] = [];
  for (const [, slash, tag = ''] of html.matchAll(/<(\/?)([a-z][a-z0-9]*)\b[^>]*>/g)) {
    if (tag === 'meta') continue;
    if (slash === '') open.push(tag);
    else t.is(open.pop(), tag);
  }
  t.deepEqual(open, []);
});

test('README.md: the server in ten lines is examples/hello.mjs with a certificate of its own', (t) => {
  const code = blocks(part(read('README.md'), '## A server in ten lines'))[0]?.code ?? '';
  const lines = (text: string, own: RegExp): string[] =>
    text.split('\n').filter((line) => line !== '' && !line.startsWith('//') && !own.test(line));
  t.is(code.trimEnd().split('\n').length, 10);
  t.deepEqual(lines(code, /readFileSync|process\.once/), lines(read('examples/hello.mjs'), /common\.mjs|stopOnSignal/));
});

test.serial('README.md: the server in ten lines serves, and ends at SIGTERM', async (t) => {
  const base = mkdtempSync(join(tmpdir(), 'valk-aio-docs-'));
  try {
    const { key, cert } = await devCertificate({ directory: join(base, 'data') });
    mkdirSync(join(base, 'node_modules'));
    symlinkSync(PACKAGE, join(base, 'node_modules', 'valk-aio'));
    writeFileSync(join(base, 'key.pem'), key);
    writeFileSync(join(base, 'cert.pem'), cert);
    const code = blocks(part(read('README.md'), '## A server in ten lines'))[0]?.code ?? '';
    writeFileSync(join(base, 'server.mjs'), code.replace('port: 8443', 'port: 0'));
    const url = pathToFileURL(join(base, 'server.mjs')).href;
    const program = `process.chdir(${JSON.stringify(base)}); await import(${JSON.stringify(url)});`;
    const server = await startServer(['--input-type=module', '--eval', program]);
    const { status, body } = await request(server.url, { ca: cert });
    t.deepEqual([status, body.toString()], [200, 'Hello, world!\n']);
    t.is((await server.end('SIGTERM')).code, 0);
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
});

test('README.md: the three usage examples are those of examples/', (t) => {
  const usage = part(read('README.md'), '## Usage');
  for (const name of ['development', 'high-concurrency', 'little-memory']) {
    const start = /^const aio = start\([\s\S]*?\);$/m.exec(read(`examples/${name}.mjs`))?.[0] ?? name;
    t.true(usage.includes(start), start);
  }
});

test('README.md: the numbers', (t) => {
  const text = read('README.md');
  const config = api.resolveConfig();
  for (const [name = '', , value] of rows(part(text, '## Two numbers').split('The rest follows')[1] ?? '')) {
    t.is(number(value), config[name.replaceAll('`', '') as ConfigField], name);
  }
  const little = api.resolveConfig({
    maxConnections: 50,
    maxConcurrentStreams: 20,
    arenaSize: 16 * 2 ** 20,
    arenaPoolSize: 50,
  });
  t.true(text.includes(`${formatSize(api.planMemory(little).totalBytes)} at most`));
});

test('docs/configuration.md: the options of start() are those of lib/limits.ts', (t) => {
  const table = rows(part(configuration, '## Options of `start()`'));
  t.deepEqual(
    table.map(([name]) => name),
    CONFIG_FIELDS.map((field) => `\`${field}\``),
  );
  const pairs = [
    [1, 1],
    [50, 50],
    [100, 100],
    [500, 51],
    [1000, 999],
  ] as const;
  for (const [index, field] of CONFIG_FIELDS.entries()) {
    const { min, max, derive } = CONFIG_LIMITS[field];
    const [, initial = '', least, most] = table[index] ?? [];
    t.is(number(least), min, field);
    if (field === 'ioThreads') t.is(most, 'cores');
    else t.is(number(most), max, field);
    const formula = /^`(.+)`$/.exec(initial)?.[1]?.replaceAll('×', '*').replaceAll('KiB', '* 1024');
    const documented =
      formula === undefined
        ? () => number(initial)
        : new Function('maxConnections', 'maxConcurrentStreams', 'floor', `return ${formula};`);
    for (const [connections, streams] of pairs) {
      t.is(documented(connections, streams, Math.floor), derive(connections, streams), field);
    }
  }
});

test('docs/configuration.md: where 0 means "derive"', (t) => {
  const sentence = /^- 0 means the same[\s\S]*?\n- /m.exec(configuration)?.[0].split('Elsewhere')[0] ?? '';
  const named = [...sentence.matchAll(/`(\w+)`/g)].map(([, name]) => name);
  t.deepEqual(named.sort(), CONFIG_FIELDS.filter((field) => CONFIG_LIMITS[field].zeroDerives).sort());
});

test('docs/configuration.md: the tables of derived values and of memory', (t) => {
  for (const [connections, streams, buffers, arenas, queue] of rows(part(configuration, '### Derived values'))) {
    const config = api.resolveConfig({
      maxConnections: number(connections),
      maxConcurrentStreams: number(streams),
    });
    t.deepEqual(
      [number(buffers), number(arenas), number(queue)],
      [config.tcpBufferPoolSize, config.arenaPoolSize, config.queueCapacity],
    );
  }
  const [, plans = '', fits = ''] = part(configuration, '## Memory').split(/^(?=\| `(?:maxConnections|bytes)` )/m);
  for (const [connections, streams, arenaSize, arenas, total, committed] of rows(plans)) {
    const config = api.resolveConfig({
      maxConnections: number(connections),
      maxConcurrentStreams: number(streams),
      arenaSize: number(arenaSize),
      arenaPoolSize: number(arenas),
    });
    const { totalBytes, committedBytes } = api.planMemory(config);
    t.deepEqual([total, committed], [formatSize(totalBytes), formatSize(committedBytes)]);
  }
  for (const [bytes, connections, arenaSize, arenas, buffers] of rows(fits)) {
    const config = api.configForMemory(number(bytes));
    t.deepEqual(
      [number(connections), arenaSize, number(arenas), number(buffers)],
      [config.maxConnections, formatSize(config.arenaSize), config.arenaPoolSize, config.tcpBufferPoolSize],
      bytes,
    );
  }
  t.true(configuration.includes(`${TCP_BUFFER_STRIDE.toLocaleString('en')} bytes each`));
  t.true(configuration.includes(`${TCP_BUFFER_SIZE.toLocaleString('en')} bytes: twice`));
});

test('docs/configuration.md: the options of listen(), the errors and the warnings', (t) => {
  const names = rows(part(configuration, '## Options of `listen()`')).map(([name]) => name?.replaceAll('`', ''));
  t.deepEqual(names.sort(), [...LISTEN_FIELDS].sort());

  const codes = rows(part(configuration, '## Warnings')).map(([code]) => code?.replaceAll('`', "'"));
  t.deepEqual(
    codes.sort(),
    read('lib/config-types.ts')
      .match(/'VALK_AIO_\w+'/g)
      ?.sort(),
  );

  const provoke: readonly object[] = [
    { maxConnections: 0 },
    { arenaSize: 1 },
    { tcpBufferPoolSize: 50 },
    { maxConnection: 1 },
  ];
  const messages = blocks(part(configuration, '## Errors'))[0]?.code.trimEnd().split('\n') ?? [];
  t.is(messages.length, provoke.length);
  for (const [index, config] of provoke.entries()) {
    t.throws(() => api.resolveConfig(config), { code: 'ERR_VALK_AIO_CONFIG', message: messages[index] });
  }
});

/** What the table of modules names: `folder/name` each, a name may end with `*`. A row's first name has its folder. */
function modules(): string[] {
  return rows(part(read('docs/architecture.md'), '## Parts')).flatMap((cells) => {
    const names = [...cells.join(' ').matchAll(/`([\w./*-]+)`/g)].map(([, name = '']) => name.replace(/\.[ch]$/, ''));
    const folder = /^(lib|binding)\//.exec(names[0] ?? '')?.[1];
    const place = folder === undefined ? 'native/core/' : folder === 'lib' ? 'lib/' : 'native/binding/';
    return names.map((name) => place + name.replace(/^(lib|binding)\//, ''));
  });
}

test('docs/architecture.md: every file of the engine, the binding and lib is in the table of modules', (t) => {
  const named = modules();
  const isNamed = (file: string): boolean =>
    named.some((name) => name === file || (name.endsWith('*') && file.startsWith(name.slice(0, -1))));
  for (const folder of ['native/core/', 'native/binding/', 'lib/']) {
    const files = readdirSync(join(PACKAGE, folder)).filter((name) => /\.(c|cc|h|ts)$/.test(name));
    t.true(files.length > 5, folder);
    for (const file of files) t.true(isNamed(folder + file.replace(/\.\w+$/, '')), folder + file);
  }
});
