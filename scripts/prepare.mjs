// Does what is missing before another script: `node scripts/prepare.mjs [purpose]`. System packages, npm's packages, the
// addon, the compiled TypeScript; well under a second when all is there.
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { build, isStale } from './build.mjs';
import { setup } from './setup.mjs';
import { readLog, root, run } from './support.mjs';

/** For each purpose the system packages that it needs (a level of setup.mjs), and whether everything is built. */
const purposes = {
  start: { level: 'build', isBuilt: true },
  test: { level: 'test', isBuilt: true },
  build: { level: 'build', isBuilt: false },
  tools: { level: 'test', isBuilt: false },
  modules: { level: null, isBuilt: false },
};

/** True if node_modules holds just what the lock file says. */
export function areDependenciesInstalled(folder = root) {
  const read = (file) => JSON.parse(fs.readFileSync(path.join(folder, file), 'utf8')).packages;
  try {
    const wanted = read('package-lock.json');
    const installed = read('node_modules/.package-lock.json');
    return Object.entries(wanted).every(
      ([place, { version, integrity, optional }]) =>
        place === '' ||
        (installed[place]
          ? installed[place].version === version && installed[place].integrity === integrity
          : optional),
    );
  } catch {
    return false;
  }
}

/** Runs `npm ci` in a folder if its packages are not there. */
export async function installDependencies(folder = root, log = 'npm-ci') {
  if (areDependenciesInstalled(folder)) return;
  const result = await run(log, 'npm', ['ci', '--include=dev', '--no-audit', '--no-fund'], { cwd: folder });
  if (!result.ok) throw new Error(`npm ci failed\n${readLog(result.log)}`);
}

export async function prepare(purpose) {
  const { level, isBuilt } = purposes[purpose] ?? {};
  if (level === undefined) throw new Error(`no purpose is called ${purpose}: ${Object.keys(purposes).join(', ')}`);
  if (level !== null) await setup(level);
  if (!areDependenciesInstalled()) {
    console.log('prepare: installing packages');
    await installDependencies();
  }
  if (!isBuilt) return;
  for (const [name, what] of [
    ['native', 'the addon'],
    ['ts', 'the TypeScript'],
  ]) {
    if (!isStale(name)) continue;
    console.log(`prepare: building ${what}`);
    const result = await build(name);
    if (!result.ok) throw new Error(`${what} could not be built\n${readLog(result.log)}`);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    await prepare(process.argv[2] ?? 'test');
  } catch (error) {
    console.error(`prepare: ${error.message}`);
    process.exitCode = 1;
  }
}
