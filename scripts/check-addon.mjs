// Checks how an addon is linked: `node scripts/check-addon.mjs [file]` (default: the one that was built here).
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { addonFile, listFiles, root, tlsLibrary } from './support.mjs';

const file = process.argv[2] ?? addonFile;
const problems = [];
const readelf = (...flags) =>
  execFileSync('readelf', ['--wide', ...flags, file], { encoding: 'utf8', maxBuffer: 2 ** 26 }).split('\n');

const symbols = readelf('--dyn-syms')
  .map((line) => line.trim().split(/\s+/))
  .filter((fields) => /^\d+:$/.test(fields[0]));

const wanted = ['napi_register_module_v1', 'node_api_module_get_api_version_v1'];
const exported = symbols.filter((fields) => fields[6] !== 'UND').map((fields) => fields[7].replace(/@.*/, ''));
if (exported.sort().join() !== wanted.join()) {
  problems.push(`exports ${exported.join(', ')} instead of ${wanted.join(', ')}`);
}

const dynamic = readelf('--dynamic');
const needed = dynamic.flatMap((line) => line.match(/\(NEEDED\).*\[(.*)\]/)?.[1] ?? []);
const linked = needed.filter((name) => /^lib(ssl|crypto|nghttp2|uv)\b/.test(name));
if (linked.length > 0) {
  problems.push(`is linked with ${linked.join(', ')}`);
}

// A reference that is left open ends up in what Node exports, and so in Node's own OpenSSL or nghttp2: but for Node-API
// and libuv, which are meant to, all has to be of a library that the addon names, whose symbols have versions. Weak ones
// would do so too; the compiler's own are of no library.
const borrowed = symbols
  .filter((fields) => fields[6] === 'UND' && fields[7] && !fields[7].includes('@'))
  .map((fields) => fields[7])
  .filter((name) => !/^(napi|node_api|uv)_|^(_ITM_(de)?registerTMCloneTable|__gmon_start__)$/.test(name));
if (borrowed.length > 0) {
  problems.push(`takes from Node: ${borrowed.join(', ')}`);
}

for (const flag of ['NOW', 'NODELETE']) {
  if (!dynamic.some((line) => /\(FLAGS(_1)?\)/.test(line) && line.includes(flag)))
    problems.push(`lacks the flag ${flag}`);
}

/** The newest of the symbol versions of a kind that the file asks for. */
const floor = (kind) => {
  const versions = readelf('--version-info').flatMap(
    (line) => line.match(new RegExp(`\\b${kind}_([\\d.]+)`))?.[1] ?? [],
  );
  return versions.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1) ?? 'none';
};
const glibc = floor('GLIBC');
const newestGlibc = '2.34';
if (newestGlibc.localeCompare(glibc, 'en', { numeric: true }) < 0) {
  problems.push(`needs glibc ${glibc}, more than ${newestGlibc}`);
}

// The headers that the core saw have to be those of the archives it is linked with, and uv.h Node's.
if (file === addonFile) {
  const seen = listFiles(['build/Release/.deps/Release/obj.target/valk_core'], (name) => name.endsWith('.d')).flatMap(
    (name) => fs.readFileSync(path.join(root, name), 'utf8').split(/\s+/),
  );
  const include = process.env.VALK_DEPS_PREFIX ? path.join(process.env.VALK_DEPS_PREFIX, 'include') : '/usr/include';
  const foreign = seen
    .filter((name) => /\/(openssl|nghttp2)\/\w+\.h$/.test(name))
    .filter((name) => {
      const rest = path.relative(include, name);
      return rest.startsWith('..') || rest.startsWith('node/');
    });
  if (foreign.length > 0) problems.push(`was compiled with ${foreign.slice(0, 3).join(', ')}`);
  const uv = new Set(seen.filter((name) => /(^|\/)uv\.h$/.test(name)));
  if ([...uv].some((name) => name !== 'build/uv-include/uv.h' && name !== '../build/uv-include/uv.h')) {
    problems.push(`was compiled with ${[...uv].join(', ')}`);
  }
}

// What it was compiled with and what it runs with, as it says itself once it is loaded.
const script = 'process.stdout.write(JSON.stringify(require(process.argv[1]).versions()))';
let versions = {};
try {
  versions = JSON.parse(execFileSync(process.execPath, ['-e', script, path.resolve(file)], { encoding: 'utf8' }));
} catch (error) {
  problems.push(`cannot be loaded: ${error.message}`);
}
for (const name of ['openssl', 'nghttp2']) {
  const [compiled, runtime] = [versions[`${name}Compiled`], versions[`${name}Runtime`]];
  if (compiled !== runtime) problems.push(`was compiled with ${name} ${compiled} and runs with ${runtime}`);
}

const size = (fs.statSync(file).size / 1e6).toFixed(1);
console.log(
  `${path.relative(root, file)}: ${size} MB, ${tlsLibrary(versions.opensslRuntime)}, nghttp2 ${versions.nghttp2Runtime}, glibc ${glibc}, libstdc++ ${floor('GLIBCXX')}, needs ${needed.join(' ')}`,
);
for (const problem of problems) console.error(`${path.relative(root, file)} ${problem}`);
process.exitCode = problems.length > 0 ? 1 : 0;
