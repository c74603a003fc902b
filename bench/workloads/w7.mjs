// W7: ten times more load than the handler can do.
import { load } from '../lib/load.mjs';
import { restart } from '../lib/servers.mjs';

const CONNECTIONS = 500;
const STREAMS = 10;

export const workloads = [
  {
    name: 'w7',
    what: `overload: 5 ms of work a request, closed loop of ${CONNECTIONS} connections × ${STREAMS} streams`,
    route: 'busy',
    settings: { connections: CONNECTIONS, streams: STREAMS, queueTimeoutMs: 500 },
    unit: 'request',
    bars: 'in time/s',

    warmUp: () => ({}),

    async measure(used, _plan, { clientCore, isQuick }) {
      const server = await restart(used);
      try {
        const words = ['overload', server.port, CONNECTIONS, STREAMS, isQuick ? 3 : 10, '/busy', '/livez'];
        const result = await load(words, { core: clientCore, timeoutMs: 90_000 });
        if (result.failure) return result;
        const ms = (us) => (us < 0 ? Number.NaN : us / 1000);
        return {
          'in time/s': result.inTimePerSecond,
          'late/s': result.latePerSecond,
          '503/s': result.refusedPerSecond,
          connected: result.connected,
          'p99 ms of 200s': ms(result.acceptedP99Us),
          'health p99 ms, open': ms(result.openP99Us),
          'health p99 ms, new': ms(result.newP99Us),
          'normal after ms': result.recoveryMs < 0 ? Number.NaN : result.recoveryMs,
          'client CPU s': result.clientCpuSeconds,
        };
      } finally {
        await server.end();
      }
    },
  },
];
