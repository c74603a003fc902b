// What the scripts share. Nothing here needs an installed package: `npm start` runs it in a bare clone.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
export const logFolder = path.join(root, 'build-native/log');
export const addonFile = path.join(root, 'build/Release/valk_aio.node');

/** True if a command of this name is on the PATH. */
export function hasCommand(name) {
  return (process.env.PATH ?? '').split(path.delimiter).some((folder) => {
    try {
      fs.accessSync(path.join(folder, name), fs.constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** The files below some folders or files of the project, relative to its root. */
export function listFiles(places, wanted = () => true) {
  const files = [];
  const visit = (place) => {
    const stat = fs.statSync(path.join(root, place), { throwIfNoEntry: false });
    if (stat?.isDirectory()) {
      for (const name of fs.readdirSync(path.join(root, place)).sort()) {
        if (name !== 'node_modules') visit(`${place}/${name}`);
      }
    } else if (stat && wanted(place)) {
      files.push(place);
    }
  };
  places.forEach(visit);
  return files;
}

const running = new Set();

function killGroup(child) {
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // It has ended.
  }
}

for (const [signal, number] of [
  ['SIGINT', 2],
  ['SIGTERM', 15],
  ['SIGHUP', 1],
]) {
  process.once(signal, () => {
    running.forEach(killGroup);
    process.exit(128 + number);
  });
}

/**
 * Runs a command in a process group of its own, with all its output in a log file. Resolves to
 * `{ ok, code, log }`; whatever the command started and left behind is ended with it.
 */
export function run(log, command, args, { env, cwd = root, timeoutMs = 900_000 } = {}) {
  const file = path.join(logFolder, `${log}.log`);
  fs.mkdirSync(logFolder, { recursive: true });
  const output = fs.openSync(file, 'w');
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ['ignore', output, output],
      detached: true,
    });
    running.add(child);
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      killGroup(child);
    }, timeoutMs);
    const settle = (code, message) => {
      clearTimeout(timer);
      running.delete(child);
      if (child.pid) killGroup(child);
      if (message) fs.writeSync(output, `${message}\n`);
      fs.closeSync(output);
      resolve({ ok: code === 0, code, log: file });
    };
    child.once('error', (error) => settle(-1, error.message));
    child.once('exit', (code, signal) => {
      const reason = late ? `no end after ${timeoutMs / 1000} s` : signal && `ended by ${signal}`;
      settle(code ?? -1, reason && `${command}: ${reason}`);
    });
  });
}

/** A log's text, or its two ends where it is very long; indented, so that no line of it passes for one of ours. */
export function readLog(file, maxLines = 600) {
  const lines = fs.readFileSync(file, 'utf8').trimEnd().split('\n');
  const half = maxLines / 2;
  const kept =
    lines.length <= maxLines
      ? lines
      : [...lines.slice(0, half), `… ${lines.length - maxLines} lines …`, ...lines.slice(-half)];
  return kept.map((line) => `  | ${line}`).join('\n');
}

/** The library of TLS by name and version; of OpenSSL's own the addon gives the bare number. */
export const tlsLibrary = (version) => (/^\d/.test(version) ? `OpenSSL ${version}` : version);

/** Where Node's headers lie beside Node itself: then nothing has to be fetched. */
export function nodeGypFlags() {
  const prefix = path.dirname(path.dirname(process.execPath));
  return fs.existsSync(path.join(prefix, 'include/node/node_api.h')) ? [`--nodedir=${prefix}`] : [];
}

export const cores = os.availableParallelism?.() ?? os.cpus().length;
