// The load generator of bench/load/: built when it is missing or older than its source.
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { installPackages } from '../../scripts/setup.mjs';
import { listFiles, readLog, root, run } from '../../scripts/support.mjs';
import { runProgram } from './children.mjs';

const binary = join(root, 'build-native', 'bench', 'load');

export async function buildLoad() {
  const sources = listFiles(['bench/load']).map((file) => join(root, file));
  const newest = Math.max(...sources.map((file) => statSync(file).mtimeMs));
  if (existsSync(binary) && statSync(binary).mtimeMs > newest) return;
  mkdirSync(dirname(binary), { recursive: true });
  const flags = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Wshadow', '-Werror'];
  const files = sources.filter((file) => file.endsWith('.c'));
  const compile = () => run('bench-load', 'cc', [...flags, '-o', binary, ...files, '-lssl', '-lcrypto', '-lnghttp2']);
  let result = await compile();
  if (!result.ok && (await installPackages(['gcc', 'libc6-dev', 'libssl-dev', 'libnghttp2-dev']))?.ok) {
    result = await compile();
  }
  if (!result.ok) throw new Error(`the load generator could not be built\n${readLog(result.log)}`);
}

/** Runs it: what it prints last, with its own CPU time, or `{ failure }`. */
export async function load(words, options) {
  const { code, late, stdout, stderr, cpuSeconds } = await runProgram(binary, words.map(String), options);
  if (late) return { failure: 'no end' };
  const last = stdout.trimEnd().split('\n').at(-1);
  if (code !== 0 || !last.startsWith('{')) return { failure: stderr.split('\n')[0] || `ended with ${code}` };
  return { ...JSON.parse(last), clientCpuSeconds: cpuSeconds };
}

/**
 * Opens connections, calls |onReady| when all are there and have had one answer, then sends the requests, and calls
 * |onDone| while the connections are still open. Without requests it closes after |onReady|.
 */
export async function steadyLoad({ port, connections, streams, requests, path }, { onReady, onDone, core, timeoutMs }) {
  let work = Promise.resolve();
  let isReady = false;
  const onLine = (line, input) => {
    if (line === 'ready') {
      isReady = true;
      work = work.then(onReady).then(() => input.write('\n'));
    } else if (line.startsWith('{')) {
      work = work.then(onDone).then(() => input.end());
    }
  };
  const words = ['steady', port, connections, streams, requests, path];
  const result = await load(words, { core, timeoutMs, onLine });
  await work;
  return requests === 0 && isReady ? {} : result;
}
