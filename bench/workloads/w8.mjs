// W8: the cost of a request as connections and threads grow.
import { availableParallelism } from 'node:os';
import { cpuStopwatch } from '../lib/cpu.mjs';
import { steadyLoad } from '../lib/load.mjs';

const SIZES = [10, 100, 500, 1000, 2000, 5000];
const MOST = SIZES.at(-1);
/** What the cost on |MOST| connections is related to. */
const FEW = 100;
const WARM_UP_REQUESTS = 20_000;

/** Requests on open connections that have had an answer each: the CPU of one, and what the client saw. */
async function steady(server, core, { connections, streams, requests }) {
  let cpu = () => Number.NaN;
  let cpuNs = Number.NaN;
  const result = await steadyLoad(
    { port: server.port, connections, streams, requests, path: '/' },
    {
      core,
      onReady: () => {
        cpu = cpuStopwatch(server.pid);
      },
      onDone: () => {
        cpuNs = cpu();
      },
    },
  );
  if (result.failure) return result;
  if (result.failed + result.lost > 0) return { failure: `${result.failed + result.lost} of ${requests} failed` };
  return {
    'requests/s': requests / result.seconds,
    'p50 µs': result.p50Us,
    'p99 µs': result.p99Us,
    'CPU µs/request': cpuNs / 1000 / requests,
  };
}

/** The number of requests that take about |seconds|, after as many as a compiler needs. */
async function warmUp(server, core, seconds, isQuick) {
  const load = { connections: 100, streams: 10, requests: isQuick ? WARM_UP_REQUESTS / 10 : WARM_UP_REQUESTS };
  let perSecond = 0;
  for (let round = 0; round < 3; round++) {
    const result = await steady(server, core, load);
    if (result.failure) return result;
    perSecond = result['requests/s'];
  }
  return { requests: Math.ceil(perSecond * seconds) };
}

const byConnections = {
  name: 'w8-connections',
  what: `13-byte GET, 2 streams on each of ${FEW} and of up to ${MOST} connections, CPU µs a request`,
  route: 'hello',
  settings: { connections: MOST, streams: 10 },
  unit: 'request',
  bars: `${MOST} / ${FEW}`,

  warmUp: (server, { clientCore, seconds, isQuick }) => warmUp(server, clientCore, seconds, isQuick),

  // All sizes in one run, so that the machine is the same for what is compared.
  async measure(server, { requests }, { clientCore }) {
    const row = {};
    for (const connections of SIZES) {
      const load = { connections, streams: 2, requests: Math.max(2 * connections, requests) };
      const result = await steady(server, clientCore, load);
      if (result.failure) return result;
      row[String(connections)] = result['CPU µs/request'];
    }
    return { ...row, [this.bars]: row[MOST] / row[FEW] };
  },
};

const threads = [1, 2].filter((count) => count <= availableParallelism());

const byThreads = {
  name: 'w8-threads',
  what: '13-byte GET, 100 connections × 10 streams, nothing pinned, by ioThreads',
  route: 'hello',
  settings: { connections: 100, streams: 10 },
  unit: 'request',
  bars: 'CPU µs/request',
  isUnpinned: true,
  only: (peer) => peer.isOurs && peer.ioThreads === undefined,
  variants: threads.map((ioThreads) => ({ name: `ioThreads ${ioThreads}`, settings: { ioThreads } })),

  warmUp: (server, { seconds, isQuick }) => warmUp(server, undefined, seconds, isQuick),
  measure: (server, { requests }) => steady(server, undefined, { connections: 100, streams: 10, requests }),
};

export const workloads = [byConnections, byThreads];
