// The processes that a run starts, each ended by its own id.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { processTree } from './cpu.mjs';

const running = new Set();

function kill(pid, signal) {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended.
  }
}

// However this process ends, nothing that it started stays.
process.once('exit', () => {
  for (const child of running) for (const pid of processTree(child.pid)) kill(pid, 'SIGKILL');
});

/** |command| with its words, on one core if |core| is given, with as many descriptors as the machine lets it have. */
function words(command, args, core) {
  const pinned = core === undefined ? [command, ...args] : ['taskset', '-c', String(core), command, ...args];
  return ['-c', 'ulimit -n "$(ulimit -Hn)"; exec "$@"', 'bash', ...pinned];
}

/** Starts a server as in production. What it writes goes into the file |log|. */
export function startProcess({ command, args = [], core, cwd, env, log }) {
  const output = openSync(log, 'w');
  const child = spawn('bash', words(command, args, core), {
    cwd,
    env: { ...process.env, NODE_ENV: 'production', ...env },
    stdio: ['ignore', output, output],
  });
  closeSync(output);
  running.add(child);
  child.once('exit', () => running.delete(child));
  return child;
}

/** Ends a process and what it has started. */
export async function endProcess(child, signal = 'SIGTERM') {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const tree = processTree(child.pid);
  const ended = once(child, 'exit');
  kill(child.pid, signal);
  const late = new AbortController();
  const killer = sleep(3000, undefined, { signal: late.signal }).then(
    () => {
      for (const pid of tree) kill(pid, 'SIGKILL');
    },
    () => {},
  );
  await ended;
  late.abort();
  await killer;
  for (const pid of tree.slice(1)) kill(pid, signal);
}

/** Runs a program to its end: `{ code, stdout, stderr, cpuSeconds }`. |onLine| gets each line of its output. */
export async function runProgram(command, args, { core, timeoutMs = 120_000, onLine } = {}) {
  const timed = ['-c', `TIMEFORMAT='cpu %U %S'; time "$@"`, 'bash', 'bash', ...words(command, args, core)];
  const child = spawn('bash', timed, { stdio: ['pipe', 'pipe', 'pipe'] });
  running.add(child);
  const output = { stdout: '', stderr: '' };
  let rest = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    output.stdout += text;
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    if (onLine) for (const line of lines) onLine(line, child.stdin);
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    output.stderr += text;
  });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    for (const pid of processTree(child.pid)) kill(pid, 'SIGKILL');
  }, timeoutMs);
  const [code] = await once(child, 'close');
  clearTimeout(timer);
  running.delete(child);
  const cpu = /cpu ([\d.]+) ([\d.]+)\s*$/.exec(output.stderr);
  return { code, late, ...output, cpuSeconds: cpu ? Number(cpu[1]) + Number(cpu[2]) : Number.NaN };
}

/** Ends everything that runs. */
export async function endAll() {
  await Promise.all([...running].map((child) => endProcess(child)));
}
