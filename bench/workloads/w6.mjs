// W6: resident memory of idle connections, each of which has had one answer.
import { setTimeout as sleep } from 'node:timers/promises';
import { residentBytes } from '../lib/cpu.mjs';
import { steadyLoad } from '../lib/load.mjs';
import { restart } from '../lib/servers.mjs';

const SETTLE_MS = 500;

export const workloads = [500, 2000, 5000].map((connections) => ({
  name: `w6-${connections}`,
  what: `memory of ${connections} idle connections`,
  route: 'hello',
  settings: { connections, streams: 1 },
  unit: 'connection',
  bars: 'KB/connection',

  warmUp: () => ({}),

  // A process keeps pages that it has once touched: each measurement has one of its own.
  async measure(used, _plan, { clientCore }) {
    const server = await restart(used);
    try {
      const before = residentBytes(server.pid);
      let after = Number.NaN;
      const onReady = async () => {
        await sleep(SETTLE_MS);
        after = residentBytes(server.pid);
      };
      const target = { port: server.port, connections, streams: 1, requests: 0, path: '/' };
      const { failure } = await steadyLoad(target, { core: clientCore, onReady, timeoutMs: 60_000 });
      if (failure) return { failure };
      return {
        'KB/connection': (after - before) / 1000 / connections,
        'MB idle': before / 1e6,
        'MB full': after / 1e6,
      };
    } finally {
      await server.end();
    }
  },
}));
