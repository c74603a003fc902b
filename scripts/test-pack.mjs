// Tests the package as its users get it: builds the addon to ship in a copy of the project, packs it, installs the
// tarball without scripts into an empty folder, and serves requests there with no compiler on the PATH. Prints TAP.
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { buildDeps, NoSource } from './build-deps.mjs';
import { root, tlsLibrary } from './support.mjs';

const temporary = fs.mkdtempSync(path.join(os.tmpdir(), 'valk-aio-pack-'));
const copy = path.join(temporary, 'copy');
const user = path.join(temporary, 'user');
const bin = path.join(temporary, 'bin');
process.on('exit', () => fs.rmSync(temporary, { recursive: true, force: true }));

let count = 0;
function test(title, body) {
  count += 1;
  try {
    body();
    console.log(`ok ${count} - ${title}`);
  } catch (error) {
    process.exitCode = 1;
    const text = [error.message, error.stdout, error.stderr].filter(Boolean).join('\n');
    console.log(`not ok ${count} - ${title}\n  ---\n${text.replace(/^/gm, '  ')}\n  ...`);
  }
}

function expect(condition, message) {
  if (!condition) throw new Error(message);
}

/** Runs a command and returns what it printed; throws with all its output when it fails. */
function sh(cwd, command, args, env = {}) {
  const result = spawnSync(command, args, {
    cwd,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 600_000,
  });
  if (result.status === 0) return result.stdout;
  const how = result.error?.message ?? `exit status ${result.status ?? result.signal}`;
  throw new Error(`${command} ${args.join(' ')}: ${how}\n${result.stdout}${result.stderr}`);
}

/** Runs a program where the package is installed and nothing but Node is on the PATH. */
const bare = (command, ...args) =>
  sh(user, path.join(bin, command), args, { PATH: bin, CC: '', CXX: '', NODE_PATH: '', LD_LIBRARY_PATH: '' });

// The copy holds what a clone of the present state would.
const listed = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '-z'], {
  cwd: root,
  encoding: 'utf8',
});
for (const file of listed.split('\0').filter((name) => name && fs.existsSync(path.join(root, name)))) {
  fs.mkdirSync(path.dirname(path.join(copy, file)), { recursive: true });
  fs.copyFileSync(path.join(root, file), path.join(copy, file));
}
fs.symlinkSync(path.join(root, 'node_modules'), path.join(copy, 'node_modules'));
fs.mkdirSync(user);
fs.writeFileSync(path.join(user, 'package.json'), '{ "name": "user", "version": "1.0.0", "private": true }\n');
fs.mkdirSync(bin);
for (const [name, target] of Object.entries({
  node: process.execPath,
  npx: execFileSync('sh', ['-c', 'command -v npx'], { encoding: 'utf8' }).trim(),
  sh: '/bin/sh',
  env: '/usr/bin/env',
})) {
  fs.symlinkSync(fs.realpathSync(target), path.join(bin, name));
}
execFileSync(
  'openssl',
  [
    ...[
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-days',
      '2',
      '-subj',
      '/CN=localhost',
    ],
    ...['-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', 'key.pem', '-out', 'cert.pem'],
  ],
  { cwd: user, stdio: 'ignore' },
);

// Serves one request to Node's own client, and looks at what the process has mapped by then.
const serve = `
const { readFileSync } = require('node:fs');
const { connect } = require('node:http2');
module.exports = async ({ start }) => {
  const [key, cert] = ['key.pem', 'cert.pem'].map((name) => readFileSync(name));
  const aio = start();
  const server = await aio.listen({ port: 0, key, cert }, () => new Response('served\\n'));
  const session = connect(server.url, { ca: cert, servername: 'localhost' });
  const request = session.request({ ':path': '/' });
  let status;
  let body = '';
  request.on('response', (headers) => { status = headers[':status']; });
  for await (const chunk of request) body += chunk;
  session.close();
  const maps = readFileSync('/proc/self/maps', 'utf8').split('\\n');
  const libraries = maps.filter((line) => /lib(ssl|crypto|nghttp2)[^/]*[.]so/.test(line));
  const addon = maps.find((line) => /[.]node$/.test(line)) ?? '';
  await aio.stop();
  console.log(JSON.stringify({ status, body, libraries, addon: addon.slice(addon.indexOf('/')) }));
};
`;
fs.writeFileSync(path.join(user, 'serve.cjs'), serve);
fs.writeFileSync(
  path.join(user, 'esm.mjs'),
  "import { start } from 'valk-aio';\nimport serve from './serve.cjs';\nawait serve({ start });\n",
);
fs.writeFileSync(path.join(user, 'commonjs.cjs'), "require('./serve.cjs')(require('valk-aio'));\n");

const home = path.join(user, 'node_modules/valk-aio');
let tarball;

// The libraries of the shipped addon are built here, where they stay, and not in the copy. Where their sources cannot be
// had, the package is tested with the system's, and the line below says so.
let prefix = process.env.VALK_DEPS_PREFIX ?? '';
let origin = 'those of VALK_DEPS_PREFIX';
let licensed = [];
try {
  if (!prefix) {
    prefix = await buildDeps();
    origin = 'built from their sources, as in a shipped addon';
    licensed = ['aws-lc', 'nghttp2', ...(process.arch === 'x64' ? ['ring'] : [])];
  }
} catch (error) {
  if (!(error instanceof NoSource)) throw error;
  origin = "THE SYSTEM'S, since the sources of the shipped ones cannot be had";
  console.log(`# ${error.message.replaceAll('\n', '\n# ')}`);
}

test('without the libraries of a shipped addon no prebuild is made unasked', () => {
  const env = { ...process.env, PATH: bin, CC: '/usr/bin/cc', VALK_DEPS_PREFIX: '' };
  const { status, stderr } = spawnSync(process.execPath, ['scripts/prebuild.mjs'], {
    cwd: copy,
    env,
    encoding: 'utf8',
  });
  expect(status === 1 && stderr.includes('-- --system-libraries'), `exit status ${status}\n${stderr}`);
  const made = fs.readdirSync(path.join(copy, 'prebuilds')).filter((name) => name !== 'README.md');
  expect(made.length === 0, `prebuilds: ${made.join(', ')}`);
});

test('the prebuild is made, and linked as it should be', () => {
  const flags = prefix ? [] : ['--system-libraries'];
  sh(copy, process.execPath, ['scripts/prebuild.mjs', ...flags], { VALK_DEPS_PREFIX: prefix });
  const folder = path.join(copy, 'prebuilds', `${process.platform}-${process.arch}`);
  const files = fs.readdirSync(folder).filter((name) => name !== 'licenses');
  expect(files.length === 1 && files[0].endsWith('.node'), `prebuilds: ${files.join(', ')}`);
  const addon = path.join(folder, files[0]);
  sh(copy, process.execPath, ['scripts/check-addon.mjs', addon]);
  const print = 'console.log(JSON.stringify(require(process.argv[1]).versions()))';
  const { opensslRuntime, nghttp2Runtime } = JSON.parse(sh(copy, process.execPath, ['-e', print, addon]));
  console.log(`# libraries: ${tlsLibrary(opensslRuntime)} and nghttp2 ${nghttp2Runtime}, ${origin}`);
});

test('the tarball holds the package and no build', () => {
  sh(copy, process.execPath, ['scripts/build.mjs', 'ts']);
  const [{ filename, files }] = JSON.parse(sh(copy, 'npm', ['pack', '--json', '--pack-destination', temporary]));
  tarball = path.join(temporary, filename);
  const names = files.map((file) => file.path);
  for (const wanted of [
    'dist/index.js',
    'dist/index.d.ts',
    'dist/globals.js',
    'dist/cli.js',
    'binding.gyp',
    'README.md',
    'LICENSE',
  ]) {
    expect(names.includes(wanted), `${wanted} is not in the tarball`);
  }
  expect(
    names.some((name) => /^prebuilds\/.*\.node$/.test(name)),
    'no prebuilt addon in the tarball',
  );
  for (const library of licensed) {
    const text = `prebuilds/${process.platform}-${process.arch}/licenses/${library}.txt`;
    expect(names.includes(text), `${text} is not in the tarball`);
  }
  const strange = names.filter((name) => /^(build|build-native|node_modules|test|native\/test)\//.test(name));
  expect(strange.length === 0, `in the tarball: ${strange.join(', ')}`);
});

test('it installs without scripts, and builds nothing', () => {
  sh(user, 'npm', ['install', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', tarball]);
  expect(!fs.existsSync(path.join(home, 'build')), 'the installed package has a build folder');
});

for (const [title, file] of [
  ['import', 'esm.mjs'],
  ['require()', 'commonjs.cjs'],
]) {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (file === 'commonjs.cjs' && (major < 20 || (major === 20 && minor < 19))) continue;
  test(`it serves a request, loaded by ${title}, on the prebuild and no library of the system`, () => {
    const { status, body, libraries, addon } = JSON.parse(bare('node', file));
    expect(status === 200 && body === 'served\n', `status ${status}, body ${JSON.stringify(body)}`);
    expect(libraries.length === 0, `mapped: ${libraries.join('\n')}`);
    expect(addon.startsWith(fs.realpathSync(path.join(home, 'prebuilds'))), `the addon is ${addon}`);
  });
}

test('its command runs', () => {
  const plan = bare('npx', '--no-install', 'valk-aio', 'plan');
  expect(/1450|1,450/.test(plan), `valk-aio plan printed:\n${plan}`);
});

test('it installs with scripts allowed, and builds nothing', () => {
  fs.rmSync(path.join(user, 'node_modules'), { recursive: true });
  sh(user, 'npm', ['install', '--no-ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', tarball]);
  expect(!fs.existsSync(path.join(home, 'build')), 'npm built the addon');
});

console.log(`1..${count}`);
