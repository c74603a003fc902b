// Makes the shipped addon of this platform: prebuilds/linux-x64/, with the libraries that `npm run build:deps` builds.
// VALK_DEPS_PREFIX chooses others; where the sources cannot be had, it takes the system's and says so.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { buildDeps } from './build-deps.mjs';
import { nodeGypFlags, root } from './support.mjs';

let prefix = process.env.VALK_DEPS_PREFIX;
if (!prefix) {
  try {
    prefix = await buildDeps();
  } catch (error) {
    console.error(`prebuild: ${error.message}`);
    console.error("prebuild: WITHOUT THE NEWER LIBRARIES: the addon gets the system's OpenSSL and nghttp2");
  }
}
fs.rmSync(path.join(root, `prebuilds/${process.platform}-${process.arch}`), { recursive: true, force: true });
// It is built where an addon for this machine lies: that one has to be built again before it is used.
fs.rmSync(path.join(root, 'build-native/stamp/native'), { force: true });
const prebuildify = path.join(root, 'node_modules/prebuildify/bin.js');
const args = ['--napi', '--strip', '--tag-libc', '-t', process.versions.node];
// prebuildify hands node-gyp no flags, but node-gyp reads npm's settings.
const env = { ...process.env, PREBUILD_NODE_GYP: path.join(root, 'node_modules/.bin/node-gyp') };
if (prefix) env.VALK_DEPS_PREFIX = prefix;
for (const flag of nodeGypFlags()) env.npm_config_nodedir = flag.split('=')[1];
const { status } = spawnSync(process.execPath, [prebuildify, ...args], { cwd: root, env, stdio: 'inherit' });
process.exitCode = status ?? 1;
