// W8: the cost of a request as connections and threads grow.
import { availableParallelism } from 'node:os';
import { cpuStopwatch } from '../lib/cpu.mjs';
import { steadyLoad } from '../lib/load.mjs';

const REQUESTS = 50_000;

function growth(name, what, connections, streams, more = {}) {
  return {
    name,
    what,
    route: 'hello',
    settings: { connections, streams },
    unit: 'request',
    bars: 'CPU µs/request',
    ...more,

    warmUp: () => ({}),

    async measure(server, _plan, { clientCore, isQuick }) {
      const requests = Math.max(2 * connections, isQuick ? REQUESTS / 10 : REQUESTS);
      let cpu = () => Number.NaN;
      let cpuNs = Number.NaN;
      const result = await steadyLoad(
        { port: server.port, connections, streams, requests, path: '/' },
        {
          core: more.isUnpinned ? undefined : clientCore,
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
    },
  };
}

const byConnections = [10, 100, 500, 1000, 2000, 5000].map((connections) =>
  growth(`w8-${connections}`, `13-byte GET, ${connections} connections × 2 streams`, connections, 2),
);

const threads = [1, 2].filter((count) => count <= availableParallelism());

export const workloads = [
  ...byConnections,
  growth('w8-threads', '13-byte GET, 100 connections × 10 streams, nothing pinned, by ioThreads', 100, 10, {
    isUnpinned: true,
    only: (peer) => peer.isOurs,
    variants: threads.map((ioThreads) => ({ name: `ioThreads ${ioThreads}`, settings: { ioThreads } })),
  }),
];
