// Makes the shipped addon of this platform: prebuilds/linux-x64/. VALK_DEPS_PREFIX chooses the libraries in it.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { nodeGypFlags, root } from './support.mjs';

fs.rmSync(path.join(root, `prebuilds/${process.platform}-${process.arch}`), { recursive: true, force: true });
const prebuildify = path.join(root, 'node_modules/prebuildify/bin.js');
const args = ['--napi', '--strip', '--tag-libc', '-t', process.versions.node];
// prebuildify hands node-gyp no flags, but node-gyp reads npm's settings.
const env = { ...process.env, PREBUILD_NODE_GYP: path.join(root, 'node_modules/.bin/node-gyp') };
for (const flag of nodeGypFlags()) env.npm_config_nodedir = flag.split('=')[1];
const { status } = spawnSync(process.execPath, [prebuildify, ...args], { cwd: root, env, stdio: 'inherit' });
process.exitCode = status ?? 1;
