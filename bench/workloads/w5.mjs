// W5: new connections, each with a handshake, one request and an end.
import { cpuStopwatch } from '../lib/cpu.mjs';
import { load } from '../lib/load.mjs';

const PARALLEL = 20;

/**
 * Connections before each measured run, however long that is. These are few requests for a compiler: V8 takes some 2,000
 * until it has compiled what they run, and throws that away while other servers have their turns.
 */
const WARM_UP = 2000;
const QUICK_WARM_UP = 200;

const handshakes = (mode, what) => ({
  name: `w5-${mode}`,
  what: `new connections with ${what}, one request on each, ${PARALLEL} at one time`,
  route: 'hello',
  settings: { connections: 200, streams: 1 },
  unit: 'connection',
  bars: 'CPU µs/connection',

  async warmUp(server, { seconds, clientCore }) {
    const { seconds: took, failure } = await load([mode, server.port, 200, PARALLEL], { core: clientCore });
    return { count: Math.ceil((200 / took) * seconds), failure };
  },

  async measure(server, { count }, { clientCore, isQuick }) {
    const warmUp = isQuick ? QUICK_WARM_UP : WARM_UP;
    const { failure } = await load([mode, server.port, warmUp, PARALLEL], { core: clientCore });
    if (failure) return { failure };
    const cpu = cpuStopwatch(server.pid);
    const result = await load([mode, server.port, count, PARALLEL], { core: clientCore });
    if (result.failure) return result;
    if (result.lost > 0) return { failure: `${result.lost} of ${count} connections were lost` };
    return {
      'connections/s': count / result.seconds,
      'p50 µs': result.p50Us,
      'p99 µs': result.p99Us,
      'CPU µs/connection': cpu() / 1000 / count,
      'client CPU µs': (result.clientCpuSeconds * 1e6) / count,
      'resumed %': (100 * result.resumed) / count,
    };
  },
});

export const workloads = [handshakes('full', 'full handshakes'), handshakes('resumed', 'resumed handshakes')];
