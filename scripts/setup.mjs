// Installs the system packages that the project needs: `npm run setup [-- --for build | test | model | fuzz]` (default: test).
// Where it may not install them it says which are missing, and exits with 1.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import { pathToFileURL } from 'node:url';
import { hasCommand, readLog, run } from './support.mjs';

const machine = os.machine();
const multiarch = `/usr/lib/${machine}-linux-gnu`;
const command = (name, debian = name) => ({ what: name, debian, isThere: () => hasCommand(name) });
const file = (what, debian, ...paths) => ({ what, debian, isThere: () => paths.some((path) => fs.existsSync(path)) });

/** The library's static archive and header; another prefix than the system's is the caller's own matter. */
const library = (name, header, debian) => ({
  what: `${name} and ${header}`,
  debian,
  isThere: () =>
    Boolean(process.env.VALK_DEPS_PREFIX) ||
    (fs.existsSync(`/usr/include/${header}`) &&
      [multiarch, '/usr/lib64', '/usr/lib'].some((folder) => fs.existsSync(`${folder}/${name}`))),
});

const needs = {
  build: [
    command('g++'),
    command('make'),
    command('python3'),
    library('libssl.a', 'openssl/ssl.h', 'libssl-dev'),
    library('libnghttp2.a', 'nghttp2/nghttp2.h', 'libnghttp2-dev'),
    // The development certificate of `valk-aio serve`.
    command('openssl'),
  ],
  test: [
    command('pkg-config'),
    // For the AWS-LC of a shipped addon.
    command('cmake'),
    command('patch'),
    library('libuv.so', 'uv.h', 'libuv1-dev'),
    command('h2load', 'nghttp2-client'),
    command('nghttp', 'nghttp2-client'),
    command('curl'),
    command('readelf', 'binutils'),
    command('valgrind'),
    command('clang-format'),
    file('the Python module h2', 'python3-h2', '/usr/lib/python3/dist-packages/h2/__init__.py'),
  ],
  // These two come on top of `test`, and only for the steps that use them.
  model: [command('spin')],
  fuzz: [
    command('clang-14'),
    file(
      'libFuzzer',
      'libclang-rt-14-dev',
      `/usr/lib/llvm-14/lib/clang/14.0.6/lib/linux/libclang_rt.fuzzer-${machine}.a`,
    ),
  ],
};

const levels = {
  build: ['build'],
  test: ['build', 'test'],
  model: ['build', 'model'],
  fuzz: ['build', 'test', 'fuzz'],
};
const missingFor = (level) => levels[level].flatMap((name) => needs[name]).filter((need) => !need.isThere());

/** The words that run a command as root without a question, or null. */
function asRoot() {
  if (process.getuid() === 0) return [];
  try {
    execFileSync('sudo', ['-n', 'true'], { stdio: 'ignore' });
    return ['sudo', '-n'];
  } catch {
    return null;
  }
}

async function apt(...args) {
  const [program, ...rest] = [...asRoot(), 'apt-get', '-o', 'DPkg::Lock::Timeout=300', ...args];
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  return run('setup', program, rest, { env, timeoutMs: 1_200_000 });
}

/** Installs Debian packages. Resolves to what run() does, or to null where it may not. */
export async function installPackages(packages) {
  if (!hasCommand('apt-get') || asRoot() === null) return null;
  console.log(`setup: installing ${packages.join(' ')}`);
  const install = () => apt('install', '-y', '--no-install-recommends', ...packages);
  // Lists that are missing or out of date are the usual reason for a failure: fetch them and try again.
  const result = await install();
  return !result.ok && (await apt('update')).ok ? install() : result;
}

/** Installs what is missing for a level; throws where that cannot be done. */
export async function setup(level = 'test') {
  if (process.platform !== 'linux') {
    throw new Error(`valk-aio is built and run on Linux; this is ${process.platform}`);
  }
  let missing = missingFor(level);
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((need) => need.debian))];
  const names = missing.map((need) => need.what).join(', ');
  const result = await installPackages(packages);
  if (result === null) {
    throw new Error(`missing: ${names}\non Debian: apt-get install ${packages.join(' ')}`);
  }
  missing = missingFor(level);
  if (missing.length > 0) {
    const left = missing.map((need) => `${need.what} (${need.debian})`).join(', ');
    throw new Error(`${readLog(result.log)}\nstill missing: ${left}`);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const at = process.argv.indexOf('--for');
  const level = at < 0 ? 'test' : process.argv[at + 1];
  try {
    if (!(level in needs)) throw new Error('usage: npm run setup [-- --for build | test | model | fuzz]');
    await setup(level);
    console.log(`setup: all that ${level} needs is there`);
  } catch (error) {
    console.error(`setup: ${error.message}`);
    process.exitCode = 1;
  }
}
