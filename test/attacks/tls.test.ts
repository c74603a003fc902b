import test from 'ava';
import { type Battle, battle } from './battle.js';

const PENDING: Battle = {
  config: { handshakeTimeoutMs: 1500 },
  connections: 3000,
  durationMs: 4000,
  counters: [['connection.closed.handshakeTimeout', 'connection.closed.evicted']],
  handlers: 0,
};
const NOISE: Battle = { counters: ['connection.closed.tls'], handlers: 0 };
const REKEY: Battle = { counters: ['connection.closed.flood'], handlers: 0 };

const BATTLES: Record<string, Battle> = {
  'silent connections, thousands': PENDING,
  'slow handshakes, thousands': PENDING,
  'plain HTTP/1.1 on the port': NOISE,
  'plain HTTP/2 on the port': NOISE,
  'random bytes on the port': NOISE,
  'HTTP/1.1 inside TLS': { counters: ['connection.closed.noHttp2'], handlers: 0 },
  'random bytes inside TLS': { counters: [['connection.closed.protocol', 'connection.closed.peer']], handlers: 0 },
  'connections beyond the limit': {
    connections: 300,
    durationMs: 3000,
    counters: ['connections.timesFull'],
    handlers: 64,
    check: (t, { after }) => t.is(after.connections.highWater, after.connections.size),
  },
  'TLS 1.3 key updates': REKEY,
  // Warnings that find no room end it first.
  'TLS 1.2 renegotiation': { ...REKEY, counters: [['connection.closed.tls', 'connection.closed.flood']] },
};
for (const stage of ['before the handshake', 'in the handshake', 'before they answer our handshake']) {
  for (const how of ['FIN', 'RST']) {
    BATTLES[`peers that vanish ${stage}, by ${how}`] = {
      durationMs: 1000,
      counters: ['connection.closed.peer'],
      handlers: 0,
    };
  }
}

for (const [name, how] of Object.entries(BATTLES)) {
  test.serial(name, (t) => battle(t, name, how));
}
