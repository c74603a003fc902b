// Runs h2load with a number of requests (its timed mode can hang) and reads what it prints.
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { runProgram } from './children.mjs';
import { percentile } from './statistics.mjs';

export const CIPHER = 'TLS_AES_128_GCM_SHA256';
export const GROUP = 'P-256';

const latencyUs = (log) =>
  readFileSync(log, 'latin1')
    .trimEnd()
    .split('\n')
    .map((line) => Number(line.split('\t')[2]))
    .sort((a, b) => a - b);

/** Reads h2load's summary. */
export function parseSummary(text) {
  const find = (pattern) => Number(pattern.exec(text)?.[1] ?? Number.NaN);
  return {
    perSecond: find(/finished in [^,]+, ([\d.]+) req\/s/),
    succeeded: find(/(\d+) succeeded/),
    ok: find(/status codes: (\d+) 2xx/),
  };
}

/**
 * One run. |file| is a body to POST; |latencies| has each request's time written, which costs the client a system call.
 */
export async function h2load(server, { path, connections, streams, requests, file, latencies, folder, core }) {
  const log = join(folder, 'h2load.tsv');
  const n = Math.max(requests, connections);
  const args = [
    ...['-n', String(n), '-c', String(connections), '-m', String(streams)],
    ...[`--tls13-ciphers=${CIPHER}`, `--groups=${GROUP}`, '-w', '20', '-W', '24'],
    ...(file ? ['-d', file] : []),
    ...(latencies ? [`--log-file=${log}`] : []),
    `${server.origin}${path}`,
  ];
  rmSync(log, { force: true });
  const { code, late, stdout, stderr, cpuSeconds } = await runProgram('h2load', args, { core });
  const summary = parseSummary(stdout);
  if (late) return { ...summary, n, failure: 'did not end' };
  if (code !== 0) throw new Error(`h2load ${args.join(' ')}\n${stdout}${stderr}`);
  const result = { ...summary, n, seconds: n / summary.perSecond, clientCpuSeconds: cpuSeconds };
  if (summary.ok !== n) result.failure = `${n - summary.ok} of ${n} failed`;
  if (latencies && !result.failure) {
    const sorted = latencyUs(log);
    result.p50Us = percentile(sorted, 0.5);
    result.p99Us = percentile(sorted, 0.99);
  }
  return result;
}
