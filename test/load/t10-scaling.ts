// The seed's T10: does every request of 100, 500 and 600 connections with 100 streams each get its answer? Prints what
// h2load and the server's counters say: `npm run bench:t10 [-- requests]`.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { AioConfig } from 'valk-aio';
import { ServerProcess } from '../helpers/server-process.js';

const run = promisify(execFile);
const requests = process.argv[2] ?? '100000';

const CASES: readonly { readonly connections: number; readonly config: AioConfig }[] = [
  { connections: 100, config: {} },
  { connections: 500, config: { maxConnections: 500 } },
  // A hundred more than there are places: they wait in the backlog.
  { connections: 600, config: { maxConnections: 500 } },
];

for (const { connections, config } of CASES) {
  const endings: (() => unknown)[] = [];
  const server = await ServerProcess.start({ teardown: (end) => endings.push(end) }, config);
  const { stdout } = await run('h2load', [
    '-n',
    requests,
    '-c',
    String(connections),
    '-m',
    '100',
    `${server.url}hello`,
  ]);
  const lines = stdout.split('\n').filter((line) => /^(finished|requests:|status codes:|time for connect)/.test(line));
  const stats = await server.stats();
  console.log(`${connections} connections, ${JSON.stringify(config)}\n  ${lines.join('\n  ')}`);
  for (const name of ['connections', 'buffers', 'arenas', 'queue'] as const) {
    const { size, highWater, timesFull } = stats[name];
    console.log(`  ${name}: at most ${highWater} of ${size}, full ${timesFull} times`);
  }
  const { p50Us, p99Us } = stats.latency.waiting;
  console.log(`  waited for the handler: p50 ${p50Us} µs, p99 ${p99Us} µs`);
  for (const end of endings) await end();
}
