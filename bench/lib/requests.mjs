// The workloads that are a number of requests: one measured run of h2load, with the connections' own cost taken off.
import { cpuStopwatch } from './cpu.mjs';
import { h2load } from './h2load.mjs';

const FIRST_REQUESTS = 200;

/**
 * The workload `{ name, what, route, path, connections, streams, unit, perUnit, columns }`.
 *
 * @param post - a file to send with each request
 * @param bytes - bytes of body of each request, for the workloads that count them
 */
export function requestWorkload({ name, what, route, path, connections, streams, post, bytes, listen, share = 1 }) {
  const load = { path, connections, streams };
  return {
    name,
    what,
    route,
    settings: { connections, streams, listen },
    unit: bytes ? 'MB' : 'request',
    bars: bytes ? 'CPU µs/MB' : 'CPU µs/request',

    /** The number of requests that a server answers in about |seconds|. */
    async warmUp(server, { seconds, folder, files, clientCore }) {
      const file = post && `${files}/${post}`;
      const target = seconds * share;
      let requests = Math.max(bytes > 2 ** 20 ? 20 : FIRST_REQUESTS, connections);
      for (let round = 0; round < 6; round++) {
        const result = await h2load(server, { ...load, requests, file, folder, core: clientCore });
        if (result.failure) return { requests, failure: result.failure };
        const took = result.n / result.perSecond;
        if (took > target * 0.7) break;
        requests = Math.max(connections, Math.ceil(requests * Math.min(20, target / took)));
      }
      return { requests };
    },

    async measure(server, { requests }, { folder, files, clientCore }) {
      const file = post && `${files}/${post}`;
      const options = { ...load, file, folder, core: clientCore };
      // What connecting costs, with one request on each connection.
      const connecting = cpuStopwatch(server.pid);
      const few = await h2load(server, { ...options, requests: connections, streams: 1 });
      const connectNs = connecting();
      const running = cpuStopwatch(server.pid);
      const many = await h2load(server, { ...options, requests: requests + connections });
      const cpuNs = running() - connectNs;
      const timed = await h2load(server, {
        ...options,
        requests: Math.max(connections, Math.ceil(requests / 5)),
        latencies: true,
      });
      const failure = few.failure ?? many.failure ?? timed.failure;
      if (failure) return { failure };
      const units = bytes ? (requests * bytes) / 1e6 : requests;
      return {
        [bytes ? 'MB/s' : 'requests/s']: bytes ? (many.perSecond * bytes) / 1e6 : many.perSecond,
        'p50 µs': timed.p50Us,
        'p99 µs': timed.p99Us,
        [bytes ? 'CPU µs/MB' : 'CPU µs/request']: cpuNs / 1000 / units,
        'client CPU µs': ((many.clientCpuSeconds - few.clientCpuSeconds) * 1e6) / units,
      };
    },
  };
}
