// Server CPU (user + system, all threads) a request: each server in a process of its own, h2load as the client, all runs
// interleaved, medians of the rounds. usage: node bench/cpu-per-request.mjs [connections] [streams] [requests] [rounds]
import { execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const directory = dirname(fileURLToPath(import.meta.url));
const run = promisify(execFile);
const [connections = 100, streams = 10, requests = 100_000, rounds = 5] = process.argv.slice(2).map(Number);
const TICKS_PER_SECOND = 100; // sysconf(_SC_CLK_TCK) on every Linux that Node runs on

const folder = mkdtempSync(join(tmpdir(), 'valk-aio-bench-'));
const key = join(folder, 'key.pem');
const cert = join(folder, 'cert.pem');
await run('openssl', [
  ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1'],
  ...['-subj', '/CN=localhost', '-keyout', key, '-out', cert],
]);

/** CPU seconds of a process so far. */
function cpuSeconds(pid) {
  // After the command's name, which is in brackets and may hold anything: fields 3 onward.
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

async function measure(server) {
  const before = cpuSeconds(server.child.pid);
  const { stdout } = await run('taskset', [
    ...['-c', '1', 'h2load', '-n', String(requests), '-c', String(connections), '-m', String(streams)],
    `https://127.0.0.1:${server.port}/`,
  ]);
  const succeeded = Number(/(\d+) succeeded/.exec(stdout)?.[1]);
  if (succeeded !== requests) throw new Error(`${server.name}: ${succeeded} of ${requests} succeeded\n${stdout}`);
  return {
    cpuUs: ((cpuSeconds(server.child.pid) - before) / requests) * 1e6,
    perSecond: Number(/finished in [^,]+, ([\d.]+) req\/s/.exec(stdout)?.[1]),
  };
}

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

const servers = [];
try {
  for (const file of readdirSync(join(directory, 'servers')).sort()) {
    const child = fork(join(directory, 'servers', file), [key, cert, String(Math.max(100, connections))], {
      execPath: 'taskset',
      execArgv: ['-c', '0', process.execPath],
    });
    const [port] = await once(child, 'message');
    servers.push({ name: file.replace('.mjs', ''), child, port, runs: [] });
  }
  for (const server of servers) await measure(server);
  for (let round = 0; round < rounds; round++) {
    for (const server of servers) server.runs.push(await measure(server));
    process.stderr.write(`round ${round + 1} of ${rounds}\n`);
  }
  const base = median(servers.find((server) => server.name === 'node-http2').runs.map((r) => r.cpuUs));
  console.log(
    `${connections} connections x ${streams} streams, ${requests} requests, ${rounds} rounds, Node ${process.version}`,
  );
  console.log('server               CPU us/request (min..max)     requests/s   CPU relative to node-http2');
  for (const { name, runs } of servers) {
    const cpu = runs.map((r) => r.cpuUs);
    const range = `${median(cpu).toFixed(2)} (${Math.min(...cpu).toFixed(2)}..${Math.max(...cpu).toFixed(2)})`;
    const speed = median(runs.map((r) => r.perSecond)).toFixed(0);
    console.log(`${name.padEnd(21)}${range.padEnd(30)}${speed.padStart(10)}   ${(median(cpu) / base).toFixed(3)}`);
  }
} finally {
  for (const { child } of servers) child.kill();
  rmSync(folder, { recursive: true });
}
