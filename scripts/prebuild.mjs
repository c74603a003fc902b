// Makes the shipped addon of this platform: prebuilds/linux-x64/, with the libraries that `npm run build:deps` builds and
// their licenses.
// VALK_DEPS_PREFIX chooses others, `-- --system-libraries` the system's; neither is done unasked.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { buildDeps } from './build-deps.mjs';
import { nodeGypFlags, root } from './support.mjs';

const flag = '--system-libraries';
const options = process.argv.slice(2);
let prefix = process.env.VALK_DEPS_PREFIX;
if (options.some((option) => option !== flag)) {
  console.error(`usage: npm run prebuild [-- ${flag}]`);
  process.exit(2);
}
if (options.includes(flag)) {
  if (prefix) {
    console.error(`prebuild: VALK_DEPS_PREFIX names other libraries than ${flag} asks for: give one of the two`);
    process.exit(2);
  }
  console.log("prebuild: the addon gets the system's OpenSSL and nghttp2");
} else if (!prefix) {
  try {
    prefix = await buildDeps();
  } catch (error) {
    console.error(`prebuild: ${error.message}`);
    console.error(
      'prebuild: the AWS-LC and nghttp2 that a shipped addon has cannot be built, so none is made.\n' +
        `prebuild: npm run prebuild -- ${flag} makes one with the system's OpenSSL and nghttp2`,
    );
    process.exit(1);
  }
}
const folder = path.join(root, `prebuilds/${process.platform}-${process.arch}`);
fs.rmSync(folder, { recursive: true, force: true });
// It is built where an addon for this machine lies: that one has to be built again before it is used.
fs.rmSync(path.join(root, 'build-native/stamp/native'), { force: true });
const prebuildify = path.join(root, 'node_modules/prebuildify/bin.js');
const args = ['--napi', '--strip', '--tag-libc', '-t', process.versions.node];
// prebuildify hands node-gyp no flags, but node-gyp reads npm's settings.
const env = { ...process.env, PREBUILD_NODE_GYP: path.join(root, 'node_modules/.bin/node-gyp') };
if (prefix) env.VALK_DEPS_PREFIX = prefix;
for (const setting of nodeGypFlags()) env.npm_config_nodedir = setting.split('=')[1];
const { status } = spawnSync(process.execPath, [prebuildify, ...args], { cwd: root, env, stdio: 'inherit' });
const licenses = path.join(prefix ?? '', 'licenses');
if (status === 0 && prefix && fs.existsSync(licenses)) {
  fs.cpSync(licenses, path.join(folder, 'licenses'), { recursive: true });
}
process.exitCode = status ?? 1;
