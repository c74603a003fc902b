// Holds the layering of docs/architecture.md: who may include or import whom. Fails with one line for each breach.
import fs from 'node:fs';
import { builtinModules } from 'node:module';
import path from 'node:path';
import { listFiles, root } from './support.mjs';

/*
 * C. `files` may not reach what matches `never`, neither themselves nor through the project's headers. Names are
 * relative to native/ for the project's files, and as written for the rest.
 */
const core = (...modules) => new RegExp(`^core/(${modules.join('|')})(_\\w+)?\\.[ch]$`);
const machines = ['tls', 'h2', 'slab', 'arena'];
const nodeHeaders = /^(node|node_api|node_api_types|js_native_api|js_native_api_types|napi|napi-inl|v8[\w-]*)\.h$/;
const nativeRules = [
  { files: /^(core|include)\//, never: nodeHeaders, why: 'the core knows no Node' },
  { files: /^(core|include)\//, never: /^binding\//, why: 'the core does not know the binding' },
  {
    files: /^binding\/(?!addon(\.cc|_\w+\.h)$)/,
    never: nodeHeaders,
    why: 'addon.cc and its headers alone know Node-API',
  },
  { files: /^include\//, never: /^core\/|^uv\.h$|^openssl\/|^nghttp2\//, why: 'the public header stands alone' },
  { files: core(...machines), never: /^core\/internal\.h$/, why: 'the lower half does not know the upper' },
  ...machines.map((name) => ({
    files: core(name),
    never: core(...machines.filter((other) => other !== name)),
    why: `${machines.join(', ')} do not know one another`,
  })),
  { files: core('h2'), never: /^uv\.h$|^openssl\//, why: 'h2 turns bytes into events: no libuv, no OpenSSL' },
  { files: core('tls'), never: /^uv\.h$|^nghttp2\//, why: 'tls turns bytes into bytes: no libuv, no nghttp2' },
  { files: core('slab', 'arena'), never: /^openssl\/|^nghttp2\//, why: 'the pools know no protocol' },
  { files: /^binding\//, never: /^core\/internal\.h$|^openssl\/|^nghttp2\//, why: 'the binding uses valk.h' },
];

/*
 * TypeScript, from the ground up: a module of lib/ imports from its own layer and from those below it. A module
 * that no layer names is a breach.
 */
const layers = [
  ['contracts', /^(types|config-types|errors|format)$/],
  ['config', /^(config|limits|options|listen-options|secure-context|static-routes|plan)$/],
  ['native', /^native$/],
  ['exchange', /^(exchange|request|response)(-\w+)*$/],
  ['server', /^server(-\w+)*$/],
  ['system', /^system(-\w+)*$/],
  ['package', /^(index|globals)$/],
  ['command', /^(cli|site|dev-certificate)(-\w+)*$/],
];

const breaches = [];
const read = (file) => fs.readFileSync(path.join(root, file), 'utf8');

function checkNative() {
  const files = listFiles(['native/include', 'native/core', 'native/binding'], (file) => /\.(c|h|cc)$/.test(file));
  const known = new Set(files.map((file) => file.slice('native/'.length)));
  const includes = new Map();
  for (const file of known) {
    const names = [...read(`native/${file}`).matchAll(/^[ \t]*#[ \t]*include[ \t]+["<]([^">]+)[">]/gm)].map(
      (match) => match[1],
    );
    const places = (name) => [path.posix.join(path.posix.dirname(file), name), name, `include/${name}`];
    includes.set(
      file,
      names.map((name) => places(name).find((place) => known.has(place)) ?? name),
    );
  }
  for (const file of known) {
    // Each thing that the file reaches, with the way to it.
    const ways = new Map([[file, [file]]]);
    for (const [name, way] of ways) {
      for (const next of includes.get(name) ?? []) {
        if (!ways.has(next)) ways.set(next, [...way, next]);
      }
    }
    ways.delete(file);
    for (const { files: whose, never, why } of nativeRules) {
      if (!whose.test(file)) continue;
      for (const [name, way] of ways) {
        if (never.test(name)) breaches.push(`native/${way.join(' → ')}: ${why}`);
      }
    }
  }
  return known.size;
}

function checkTypeScript() {
  const files = listFiles(['lib'], (file) => file.endsWith('.ts'));
  const layerOf = (module) => layers.findIndex(([, names]) => names.test(module));
  for (const file of files) {
    const module = path.basename(file, '.ts');
    const own = layerOf(module);
    if (own < 0) {
      breaches.push(`${file}: give it a layer in scripts/check-layers.mjs`);
      continue;
    }
    // Doc comments show how the package is imported.
    const code = read(file).replace(/\/\*[\s\S]*?\*\//g, '');
    const specifiers = [...code.matchAll(/(?:\bfrom|\bimport|\bimport\(|\brequire\()\s*'([^']+)'/g)].map(
      (match) => match[1],
    );
    for (const specifier of specifiers) {
      const other = specifier.startsWith('./') ? layerOf(path.basename(specifier, '.js')) : -1;
      if (other > own) {
        breaches.push(`${file} imports ${specifier}: ${layers[own][0]} is below ${layers[other][0]}`);
      }
      if (/^\.\.|^node-gyp-build$/.test(specifier) && module !== 'native') {
        breaches.push(`${file} imports ${specifier}: native.ts alone loads the addon`);
      }
      const isPackage =
        !specifier.startsWith('.') && !specifier.startsWith('node:') && !builtinModules.includes(specifier);
      if (isPackage && own < layers.length - 1 && module !== 'native') {
        breaches.push(`${file} imports ${specifier}: packages are for native.ts and the command`);
      }
    }
  }
  return files.length;
}

const count = checkNative() + checkTypeScript();
for (const breach of breaches) console.error(breach);
if (count === 0) console.error('no file was found to check');
else if (breaches.length === 0) console.log(`${count} files, each within its layer`);
process.exitCode = breaches.length > 0 || count === 0 ? 1 : 0;
