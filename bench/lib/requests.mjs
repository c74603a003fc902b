// The workloads that are a number of requests: one measured run of h2load, with the connections' own cost taken off.
import { cpuStopwatch } from './cpu.mjs';
import { h2load } from './h2load.mjs';

const FIRST_REQUESTS = 200;

/**
 * The workload that sends GETs of |path| on so many connections with so many streams each.
 *
 * @param post - a file to send with each request
 * @param fields - lines of header fields to send with each
 * @param bars - the figure that decides, if it is not the CPU
 * @param bytes - bytes of body of each request, for the workloads that count them
 */
export function requestWorkload({
  name,
  what,
  route,
  path,
  connections,
  streams,
  post,
  fields,
  bytes,
  bars,
  settings,
}) {
  const load = { path, connections, streams, fields };
  return {
    name,
    what,
    route,
    settings: { connections, streams, ...settings },
    unit: bytes ? 'MB' : 'request',
    bars: bars ?? (bytes ? 'CPU µs/MB' : 'CPU µs/request'),

    /** The number of requests that a server answers in about |seconds|. */
    async warmUp(server, { seconds, folder, files, clientCore }) {
      const file = post && `${files}/${post}`;
      const options = { ...load, file, folder, core: clientCore };
      let requests = Math.max(bytes > 2 ** 20 ? 10 : FIRST_REQUESTS, connections);
      let secondsOf = 0;
      // A compiler that is warming up, or a busy machine, makes the first runs slow: two are never enough.
      for (let round = 0; round < 8 && (round < 3 || secondsOf < seconds * 0.7); round++) {
        const few = await h2load(server, { ...options, requests: connections, streams: 1 });
        const many = await h2load(server, { ...options, requests: requests + connections });
        const failure = few.failure ?? many.failure;
        if (failure) return { requests, failure };
        secondsOf = Math.max(many.seconds - few.seconds, seconds / 100);
        requests = Math.max(connections, Math.ceil(requests * Math.min(20, seconds / secondsOf)));
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
        requests: Math.max(3 * connections * streams, Math.ceil(requests / 5)),
        latencies: true,
      });
      const failure = few.failure ?? many.failure ?? timed.failure;
      if (failure) return { failure };
      const seconds = many.seconds - few.seconds;
      const units = bytes ? (requests * bytes) / 1e6 : requests;
      return {
        [bytes ? 'MB/s' : 'requests/s']: seconds > 0 ? units / seconds : Number.NaN,
        'p50 µs': timed.p50Us,
        'p99 µs': timed.p99Us,
        [bytes ? 'CPU µs/MB' : 'CPU µs/request']: cpuNs / 1000 / units,
        'client CPU µs': ((many.clientCpuSeconds - few.clientCpuSeconds) * 1e6) / units,
      };
    },
  };
}
