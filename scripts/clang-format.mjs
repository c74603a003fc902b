// Checks the layout of the C and C++ files, or with --write mends it.
import { spawnSync } from 'node:child_process';
import { listFiles, root } from './support.mjs';

const files = listFiles(['native', 'bench/load'], (file) => /\.(c|h|cc)$/.test(file));
const mode = process.argv.includes('--write') ? ['-i'] : ['--dry-run', '--Werror'];
const { status, error } = spawnSync('clang-format', [...mode, ...files], { cwd: root, stdio: 'inherit' });
if (error) console.error(`clang-format: ${error.message}`);
process.exitCode = status ?? 1;
