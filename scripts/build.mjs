// Builds what is asked for: `node scripts/build.mjs [native] [ts] [--debug]` (default: both).
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { addonFile, listFiles, nodeGypFlags, readLog, root, run } from './support.mjs';

const { libraries } = createRequire(import.meta.url)('./gyp.cjs');

const parts = {
  native: {
    product: addonFile,
    inputs: () => ['binding.gyp', 'scripts/gyp.cjs', ...listFiles(['native/include', 'native/core', 'native/binding'])],
    build: async (rebuild) => {
      const gyp = path.join(root, 'node_modules/node-gyp/bin/node-gyp.js');
      const steps = rebuild ? ['rebuild'] : ['configure', 'build'];
      const flags = [...nodeGypFlags(), '--jobs=max', ...(process.argv.includes('--debug') ? ['--debug'] : [])];
      return run('build-native', process.execPath, [gyp, ...steps, ...flags]);
    },
    // The archives are part of the product: after an update of theirs it has to be linked again.
    libraries,
  },
  ts: {
    product: path.join(root, 'dist/index.js'),
    inputs: () => ['tsconfig.json', 'tsconfig.build.json', ...listFiles(['lib'])],
    build: async () => {
      fs.rmSync(path.join(root, 'dist'), { recursive: true, force: true });
      const tsc = path.join(root, 'node_modules/typescript/bin/tsc');
      const result = await run('build-ts', process.execPath, [tsc, '-p', 'tsconfig.build.json', '--noEmitOnError']);
      const cli = path.join(root, 'dist/cli.js');
      if (result.ok && fs.existsSync(cli)) fs.chmodSync(cli, 0o755);
      return result;
    },
    libraries: () => [],
  },
};

const stampFile = (name) => path.join(root, 'build-native/stamp', name);
const describe = (file) => {
  const stat = fs.statSync(file, { throwIfNoEntry: false });
  return stat ? `${file} ${stat.size} ${stat.ctimeMs}` : file;
};

/** What the product was built from, but for the contents of its inputs. */
function circumstances(name, usedLibraries) {
  return {
    node: process.version,
    root,
    prefix: process.env.VALK_DEPS_PREFIX ?? '',
    libraries: usedLibraries.map(describe),
    inputs: parts[name].inputs(),
  };
}

function readStamp(name) {
  try {
    return JSON.parse(fs.readFileSync(stampFile(name), 'utf8'));
  } catch {
    return null;
  }
}

/** True if the product is missing, or anything it is made from is newer or another. */
export function isStale(name) {
  const stamp = readStamp(name);
  if (!stamp || !fs.existsSync(parts[name].product)) return true;
  const used = stamp.libraries.map((line) => line.split(' ')[0]);
  const now = circumstances(name, used);
  if (JSON.stringify(now) !== JSON.stringify(stamp)) return true;
  const { mtimeMs } = fs.statSync(stampFile(name));
  return now.inputs.some((file) => fs.statSync(path.join(root, file)).mtimeMs > mtimeMs);
}

/** Builds a part. Resolves to what run() does. */
export async function build(name) {
  const stamp = readStamp(name);
  const now = circumstances(name, parts[name].libraries());
  // An edit made while the build runs has to leave the product stale, so that the stamp is as old as its start.
  const begin = new Date();
  const rebuild = !stamp || JSON.stringify({ ...stamp, inputs: [] }) !== JSON.stringify({ ...now, inputs: [] });
  fs.rmSync(stampFile(name), { force: true });
  const result = await parts[name].build(rebuild);
  if (result.ok) {
    fs.mkdirSync(path.dirname(stampFile(name)), { recursive: true });
    fs.writeFileSync(stampFile(name), JSON.stringify(now));
    fs.utimesSync(stampFile(name), begin, begin);
  }
  return result;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const asked = process.argv.slice(2).filter((name) => name in parts);
  for (const name of asked.length > 0 ? asked : Object.keys(parts)) {
    try {
      const result = await build(name);
      console.log(readLog(result.log));
      if (!result.ok) process.exitCode = 1;
    } catch (error) {
      console.error(`build: ${error.message}`);
      process.exitCode = 1;
    }
  }
}
