// W7: ten times more load than the handler can do.
import { load } from '../lib/load.mjs';
import { restart } from '../lib/servers.mjs';

const CONNECTIONS = 500;
const STREAMS = 10;
/** Fifty requests open: the handler is always busy, and nothing else is. What is answered then is what it can do. */
const QUIET_CONNECTIONS = 5;
const TIMEOUT_MS = 90_000;

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
        const run = (connections, seconds) => {
          const words = ['overload', server.port, connections, STREAMS, seconds, '/busy', '/livez'];
          return load(words, { core: clientCore, timeoutMs: TIMEOUT_MS });
        };
        const quiet = await run(QUIET_CONNECTIONS, isQuick ? 2 : 5);
        if (quiet.failure) return quiet;
        const result = await run(CONNECTIONS, isQuick ? 3 : 10);
        if (result.failure) return result;
        const ms = (us) => (us < 0 ? Number.NaN : us / 1000);
        return {
          'in time/s': result.inTimePerSecond,
          '50 open: in time/s': quiet.inTimePerSecond,
          'by 50 open': result.inTimePerSecond / quiet.inTimePerSecond,
          'late/s': result.latePerSecond,
          '503/s': result.refusedPerSecond,
          connected: result.connected,
          'p99 ms of 200s': ms(result.acceptedP99Us),
          'health p99 ms, open': ms(result.openP99Us),
          'health p99 ms, new': ms(result.newP99Us),
          'health unanswered': result.unanswered,
          'normal after ms': result.recoveryMs < 0 ? Number.POSITIVE_INFINITY : result.recoveryMs,
          'client CPU s': result.clientCpuSeconds,
        };
      } finally {
        await server.end();
      }
    },
  },
];
