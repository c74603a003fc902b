// Runs h2load with a number of requests (its timed mode can hang) and reads what it prints.
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { runProgram } from './children.mjs';
import { percentile } from './statistics.mjs';

export const CIPHER = 'TLS_AES_128_GCM_SHA256';
export const GROUP = 'P-256';

/** Sorted times in microseconds of the requests in a log of h2load's, but for the |first| that were begun. */
export function latenciesUs(log, first) {
  const requests = log
    .trimEnd()
    .split('\n')
    .map((line) => line.split('\t').map(Number))
    .sort(([a], [b]) => a - b);
  return requests
    .slice(first)
    .map(([, , us]) => us)
    .sort((a, b) => a - b);
}

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
 * One run. |file| is a body to POST, |fields| are lines of more header fields. |latencies| has each request's time
 * written, which costs the client a system call; those that begin first, while connections open, do not count.
 */
export async function h2load(server, options) {
  const { path, connections, streams, requests, file, fields = [], latencies, folder, core } = options;
  const log = join(folder, 'h2load.tsv');
  const n = Math.max(requests, connections);
  const args = [
    ...['-n', String(n), '-c', String(connections), '-m', String(streams)],
    ...[`--tls13-ciphers=${CIPHER}`, `--groups=${GROUP}`, '-w', '20', '-W', '24'],
    ...(file ? ['-d', file] : []),
    ...fields.flatMap((line) => ['-H', line]),
    ...(latencies ? [`--log-file=${log}`] : []),
    `${server.origin}${path}`,
  ];
  rmSync(log, { force: true });
  const { code, late, stdout, stderr, cpuSeconds } = await runProgram('h2load', args, { core });
  const summary = parseSummary(stdout);
  if (late) return { ...summary, n, failure: 'did not end' };
  if (code !== 0) throw new Error(`h2load ${args.join(' ')}\n${stdout}${stderr}`);
  const result = { ...summary, n, seconds: n / summary.perSecond, clientCpuSeconds: cpuSeconds };
  // It counts a status when its head comes, and a success when the whole answer has.
  const good = Math.min(summary.ok, summary.succeeded);
  if (good !== n) result.failure = `${n - good} of ${n} failed`;
  if (latencies && !result.failure) {
    const sorted = latenciesUs(readFileSync(log, 'latin1'), connections * streams);
    result.p50Us = percentile(sorted, 0.5);
    result.p99Us = percentile(sorted, 0.99);
  }
  return result;
}
