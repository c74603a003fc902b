// What binding.gyp asks for:
// `node scripts/gyp.cjs sources | includes | libraries | compiler-flags | linker-flags | uv-include <node root>`.
// VALK_DEPS_PREFIX names a folder with include/ and lib/ of an AWS-LC or OpenSSL, and of an nghttp2, other than the system's.
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const root = path.dirname(__dirname);
const prefix = process.env.VALK_DEPS_PREFIX;

/** The engine's C files; wrap_stderr.c belongs to the addon alone. */
function sources() {
  return ['native/core', 'native/binding'].flatMap((folder) =>
    fs
      .readdirSync(path.join(root, folder))
      .filter((name) => name.endsWith('.c') && name !== 'wrap_stderr.c')
      .map((name) => `${folder}/${name}`),
  );
}

function includes() {
  return prefix ? [path.join(prefix, 'include')] : [];
}

/** Absolute paths of the static libraries, in the order in which the linker needs them. */
function libraries() {
  return ['libssl.a', 'libcrypto.a', 'libnghttp2.a'].map((name) => {
    const found = prefix
      ? ['lib', 'lib64'].map((folder) => path.join(prefix, folder, name)).find((file) => fs.existsSync(file))
      : execFileSync(process.env.CC || 'cc', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();
    if (!found || !path.isAbsolute(found)) {
      throw new Error(`${name} was not found${prefix ? ` under ${prefix}` : ''}: npm run setup installs it`);
    }
    return path.normalize(found);
  });
}

/** Whether engine and nghttp2 are optimised as one: in the shipped addon, whose nghttp2 is built for it, and by gcc. */
function optimisesAtLinkTime() {
  if (!prefix) return false;
  const compiler = execFileSync(process.env.CC || 'cc', ['--version'], { encoding: 'utf8' });
  return !compiler.includes('clang');
}

/** A folder that shows uv.h of Node's headers and nothing else of them. */
function uvInclude(nodeRoot) {
  const from = [path.join(nodeRoot, 'include/node'), path.join(nodeRoot, 'deps/uv/include')].find((folder) =>
    fs.existsSync(path.join(folder, 'uv.h')),
  );
  if (!from) {
    throw new Error(`no uv.h under ${nodeRoot}: Node's own headers are needed`);
  }
  const folder = path.join(root, 'build/uv-include');
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(folder, { recursive: true });
  for (const name of ['uv.h', 'uv']) {
    fs.symlinkSync(path.join(from, name), path.join(folder, name));
  }
  return ['build/uv-include'];
}

module.exports = { libraries, sources };

if (require.main === module) {
  const [command, argument] = process.argv.slice(2);
  const commands = {
    sources,
    includes,
    libraries,
    'compiler-flags': () => (optimisesAtLinkTime() ? ['-flto', '-ffat-lto-objects'] : []),
    'linker-flags': () => (optimisesAtLinkTime() ? ['-flto=auto', '-O2'] : []),
    'uv-include': () => uvInclude(argument),
  };
  console.log(commands[command]().join('\n'));
}
