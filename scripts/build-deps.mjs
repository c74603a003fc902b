// Builds what the shipped addon has in place of the system's OpenSSL and nghttp2, static: AWS-LC, whose handshakes take
// less, and a newer nghttp2. `npm run build:deps`, into build-native/deps, which VALK_DEPS_PREFIX takes. The sources are
// the original archives that Debian keeps; they come from the mirror that apt is configured with, and have to have the
// checksums below. What is built stays built, and an interrupted build goes on where it was.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { cores, hasCommand, readLog, root, run } from './support.mjs';

export const depsPrefix = path.join(root, 'build-native/deps');
const sourceFolder = path.join(root, 'build-native/deps-source');
const aptHelper = '/usr/lib/apt/apt-helper';
// Hidden, in sections of their own: the addon exports nothing of them and keeps only what it uses.
const flags = ['-fPIC', '-fvisibility=hidden', '-ffunction-sections', '-fdata-sections'];

// BoringSSL's AES-GCM for 256-bit registers, which AWS-LC does not have: one file of assembly, as ring has it. What the
// patch says of it is why.
const wideAes = {
  name: 'ring',
  version: '0.17.14',
  archive: 'pool/main/r/rust-ring/rust-ring_0.17.14.orig.tar.gz',
  sha256: 'a4689e6c2294d81e88dc6261c768b63bc4fcdb852be6d1352498b114f61383b7',
  member: 'ring-0.17.14',
  licenses: ['LICENSE', 'LICENSE-BoringSSL', 'LICENSE-other-bits'],
  file: 'pregenerated/aes-gcm-avx2-x86_64-elf.S',
  becomes: 'generated-src/linux-x86_64/crypto/fipsmodule/aes-gcm-avx2-x86_64.S',
  patch: fs.readFileSync(path.join(root, 'scripts/aws-lc.patch'), 'utf8'),
};

const libraries = [
  {
    name: 'nghttp2',
    version: '1.70.0',
    archive: 'pool/main/n/nghttp2/nghttp2_1.70.0.orig.tar.gz',
    sha256: 'aa317e2cf9dca6afa0aed68f8fad6ff303ec6982e25a78c75c0b65e2b9b3ded5',
    include: 'nghttp2',
    archives: ['libnghttp2'],
    licenses: ['COPYING'],
    configuration: [
      '-DNGHTTP2_STATICLIB',
      '-DHAVE_ARPA_INET_H',
      '-DHAVE_NETINET_IN_H',
      '-DHAVE_TIME_H',
      '-DHAVE_CLOCK_GETTIME',
      '-DHAVE_DECL_CLOCK_MONOTONIC',
    ],
    // Beside the usual code, what gcc needs to optimise it together with the engine (scripts/gyp.cjs).
    linkTime: ['-flto', '-ffat-lto-objects'],
    build: buildNghttp2,
  },
  {
    name: 'aws-lc',
    version: '5.1.0',
    // Debian keeps it within a package of Rust's, with the assembly and tables that Perl and Go would make.
    archive: 'pool/main/r/rust-aws-lc-sys/rust-aws-lc-sys_0.42.0+dfsg.orig.tar.gz',
    sha256: '620e70a494cb11290e5a9665a739d97bef57971faf902da969a2b636cdd4bf1c',
    member: 'aws-lc-sys-0.42.0/aws-lc',
    include: 'openssl',
    archives: ['libssl', 'libcrypto'],
    licenses: ['LICENSE', 'third_party/fiat/LICENSE'],
    configuration: [
      // Without assertions.
      '-DCMAKE_BUILD_TYPE=Release',
      ...['-DDISABLE_GO=ON', '-DDISABLE_PERL=ON', '-DBUILD_TESTING=OFF', '-DBUILD_TOOL=OFF'],
      // Random numbers are seeded by the kernel, as OpenSSL's are. Otherwise AWS-LC times the processor for it, 30 ms of a
      // start, and asks it for random bits at each call, 3 % of a handshake.
      '-DDISABLE_CPU_JITTER_ENTROPY=ON',
    ],
    // It makes its functions visible even in an archive; no other copy of them takes their place.
    compilerFlags: ['-fno-semantic-interposition'],
    build: buildAwsLc,
    // Elsewhere the processor's own instructions are in use as they are.
    ...(os.arch() === 'x64' ? { addition: wideAes } : {}),
  },
];

async function must(log, command, args, options) {
  const result = await run(`deps-${log}`, command, args, options);
  if (!result.ok) throw new Error(`${command} ${args.slice(0, 3).join(' ')} … failed\n${readLog(result.log, 40)}`);
}

/** The roots of the archives that apt knows; those that call themselves Debian's main archive first. */
function mirrors() {
  const format = '$(REPO_URI)|$(ORIGIN)|$(LABEL)';
  const lines = execFileSync('apt-get', ['indextargets', '--format', format], { encoding: 'utf8' }).split('\n');
  const found = lines.filter(Boolean).map((line) => line.split('|'));
  const isMain = ([, origin, label]) => origin === 'Debian' && label === 'Debian';
  const known = [...found.filter(isMain), ...found].map(([uri]) => uri.replace(/\/*$/, '/'));
  if (known.length > 0) return [...new Set(known)];
  // Without lists, as in an image that threw them away, apt still tells what it would fetch.
  const uris = execFileSync('apt-get', ['update', '--print-uris'], { encoding: 'utf8' });
  return [...new Set([...uris.matchAll(/^'(\S+?\/)dists\//gm)].map(([, uri]) => uri))];
}

/** The sources cannot be had here; every other error is a build that failed. */
export class NoSource extends Error {}

async function download({ name, version, archive, sha256 }) {
  const file = path.join(sourceFolder, path.basename(archive));
  if (fs.existsSync(file)) return file;
  if (!hasCommand('apt-get') || !fs.existsSync(aptHelper))
    throw new NoSource('the sources come by apt, which is not here');
  const failures = [];
  for (const mirror of mirrors()) {
    const args = ['download-file', `${mirror}${archive}`, `${file}.part`, `SHA256:${sha256}`];
    const { ok, log } = await run(`deps-download-${name}`, aptHelper, args, { timeoutMs: 300_000 });
    if (ok) {
      fs.renameSync(`${file}.part`, file);
      return file;
    }
    const errors = readLog(log).split('\n');
    failures.push(errors.filter((line) => /\b(E:|Err:)/.test(line)).join('\n') || errors.at(-1));
    for (const left of ['.part', '.part.FAILED']) fs.rmSync(file + left, { force: true });
  }
  throw new NoSource(
    `the source of ${name} ${version} could not be fetched from any archive that apt is configured with\n` +
      `${failures.join('\n') || '  apt names no archive'}\n` +
      '  (an archive that no longer keeps this version needs a newer one, with its checksum, in scripts/build-deps.mjs)',
  );
}

/** The unpacked source; what an interrupted build left there is kept when it was built in the same way. */
async function unpack(library, recipe) {
  const folder = path.join(sourceFolder, library.name);
  const mark = path.join(folder, 'recipe');
  if (fs.existsSync(mark) && fs.readFileSync(mark, 'utf8') === recipe) return folder;
  const { addition } = library;
  await extract(library, folder);
  if (addition) await add(addition, folder, await extract(addition, path.join(sourceFolder, addition.name)));
  fs.writeFileSync(mark, recipe);
  return folder;
}

async function extract({ name, member, ...archive }, folder) {
  const file = await download({ name, ...archive });
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(folder, { recursive: true });
  const members = member ? [member] : [];
  const depth = member?.split('/').length ?? 1;
  await must(`unpack-${name}`, 'tar', ['-xzf', file, `--strip-components=${depth}`, '-C', folder, ...members]);
  return folder;
}

/** A file of another library's among a library's own, and the patch that makes use of it. */
async function add({ name, file, becomes, patch }, folder, from) {
  const text = fs.readFileSync(path.join(from, file), 'utf8');
  fs.writeFileSync(path.join(folder, becomes), text.replace('<ring-core/asm_base.h>', '<openssl/asm_base.h>'));
  const input = path.join(from, `${name}.patch`);
  fs.writeFileSync(input, patch);
  await must(`patch-${name}`, 'patch', ['-p1', '--forward', '--fuzz=0', '-d', folder, '-i', input]);
}

function install(library, folder, built, headers) {
  const include = path.join(depsPrefix, 'include', library.include);
  const lib = path.join(depsPrefix, 'lib');
  fs.rmSync(include, { recursive: true, force: true });
  fs.mkdirSync(include, { recursive: true });
  fs.mkdirSync(path.join(lib, 'pkgconfig'), { recursive: true });
  for (const name of fs.readdirSync(headers).filter((file) => file.endsWith('.h'))) {
    fs.copyFileSync(path.join(headers, name), path.join(include, name));
  }
  for (const name of library.archives) {
    fs.copyFileSync(path.join(built, `${name}.a`), path.join(lib, `${name}.a`));
    const lines = [
      `prefix=\${pcfiledir}/../..`,
      `Name: ${name}`,
      `Description: ${library.name}, static`,
      `Version: ${library.version}`,
      ...(name === 'libssl' ? ['Requires.private: libcrypto'] : []),
      `Libs: -L\${prefix}/lib -l${name.slice(3)}`,
      `Cflags: -I\${prefix}/include`,
    ];
    fs.writeFileSync(path.join(lib, 'pkgconfig', `${name}.pc`), `${lines.join('\n')}\n`);
  }
  installLicenses(library, folder);
  if (library.addition) installLicenses(library.addition, path.join(sourceFolder, library.addition.name));
}

function installLicenses({ name, licenses }, folder) {
  const texts = licenses.map((license) => fs.readFileSync(path.join(folder, license), 'utf8'));
  fs.mkdirSync(path.join(depsPrefix, 'licenses'), { recursive: true });
  fs.writeFileSync(path.join(depsPrefix, 'licenses', `${name}.txt`), texts.join('\n'));
}

/** Its configure script would find out what every Linux has: the C files are compiled as they are. */
async function buildNghttp2(library, folder, linkTime) {
  const lib = path.join(folder, 'lib');
  const headers = path.join(lib, 'includes/nghttp2');
  const [major, minor, patch] = library.version.split('.').map(Number);
  const number = `0x${((major << 16) | (minor << 8) | patch).toString(16).padStart(6, '0')}`;
  const template = fs.readFileSync(path.join(headers, 'nghttp2ver.h.in'), 'utf8');
  fs.writeFileSync(
    path.join(headers, 'nghttp2ver.h'),
    template.replaceAll('@PACKAGE_VERSION@', library.version).replaceAll('@PACKAGE_VERSION_NUM@', number),
  );
  const makefile = [
    'objects := $(patsubst %.c,%.o,$(wildcard *.c))',
    'libnghttp2.a: $(objects)',
    '\trm -f $@ && ar rcs $@ $^',
    '%.o: %.c',
    `\t$(CC) -std=gnu11 -O2 ${[...flags, ...linkTime, ...library.configuration].join(' ')} -Iincludes -I. -c $< -o $@`,
  ];
  fs.writeFileSync(path.join(lib, 'Makefile'), `${makefile.join('\n')}\n`);
  await must('make-nghttp2', 'make', ['-C', lib, `-j${cores}`]);
  install(library, folder, lib, headers);
}

async function buildAwsLc(library, folder) {
  if (!hasCommand('cmake')) throw new Error('cmake is missing, with which AWS-LC is built: npm run setup');
  const header = fs.readFileSync(path.join(folder, 'include/openssl/base.h'), 'utf8');
  if (!header.includes(`#define AWSLC_VERSION_NUMBER_STRING "${library.version}"`)) {
    throw new Error(`${path.basename(library.archive)} does not hold AWS-LC ${library.version}`);
  }
  const build = path.join(folder, 'build');
  // Errors name the source file that they come from: from its own root on, not from this machine's.
  const allFlags = [...flags, ...library.compilerFlags, `-ffile-prefix-map=${folder}/=`].join(' ');
  const settings = [
    ...library.configuration,
    ...['C', 'CXX', 'ASM'].map((language) => `-DCMAKE_${language}_FLAGS=${allFlags}`),
    `-DCMAKE_ARCHIVE_OUTPUT_DIRECTORY=${path.join(build, 'lib')}`,
  ];
  await must('configure-aws-lc', 'cmake', ['-G', 'Unix Makefiles', '-S', folder, '-B', build, ...settings]);
  await must('make-aws-lc', 'make', ['-C', build, `-j${cores}`, 'crypto', 'ssl'], { timeoutMs: 1_800_000 });
  install(library, folder, path.join(build, 'lib'), path.join(folder, 'include/openssl'));
}

/** Removes a prefix in which something else was built, as an earlier state of this file did: it would lie among ours. */
function clearForeign() {
  const marks = fs.existsSync(depsPrefix) ? fs.readdirSync(depsPrefix).filter((name) => name.endsWith('.built')) : [];
  const isOurs = (mark) => libraries.some(({ name }) => mark === `${name}.built`);
  if (!marks.every(isOurs)) fs.rmSync(depsPrefix, { recursive: true, force: true });
}

/** Builds what is not built yet; resolves to the prefix. */
export async function buildDeps() {
  const compiler = execFileSync(process.env.CC || 'cc', ['--version'], { encoding: 'utf8' }).split('\n')[0];
  clearForeign();
  for (const library of libraries) {
    const { name, version } = library;
    const linkTime = compiler.includes('clang') ? undefined : library.linkTime;
    const recipe = JSON.stringify({ ...library, flags, linkTime, compiler, arch: os.arch() });
    const stamp = path.join(depsPrefix, `${name}.built`);
    if (fs.existsSync(stamp) && fs.readFileSync(stamp, 'utf8') === recipe) {
      console.log(`build:deps: ${name} ${version} is built`);
      continue;
    }
    const begin = performance.now();
    console.log(`build:deps: building ${name} ${version}`);
    fs.rmSync(stamp, { force: true });
    fs.mkdirSync(sourceFolder, { recursive: true });
    await library.build(library, await unpack(library, recipe), linkTime ?? []);
    fs.writeFileSync(stamp, recipe);
    fs.rmSync(path.join(sourceFolder, name), { recursive: true, force: true });
    fs.rmSync(path.join(sourceFolder, path.basename(library.archive)), { force: true });
    console.log(`build:deps: ${name} ${version} took ${((performance.now() - begin) / 1000).toFixed(1)} s`);
  }
  fs.rmSync(sourceFolder, { recursive: true, force: true });
  return depsPrefix;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    console.log(`build:deps: VALK_DEPS_PREFIX=${await buildDeps()}`);
  } catch (error) {
    console.error(`build:deps: ${error.message}`);
    process.exitCode = 1;
  }
}
