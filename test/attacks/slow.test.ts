import test from 'ava';
import { type Battle, battle } from './battle.js';

const BATTLES: Record<string, Battle> = {
  'slow headers': {
    config: { headersTimeoutMs: 500 },
    connections: 40,
    counters: ['connection.closed.headersTimeout'],
    handlers: 0,
  },
  'header blocks that are begun and left': {
    config: { headersTimeoutMs: 500 },
    connections: 60,
    counters: ['connection.closed.headersTimeout'],
    handlers: 0,
  },
  'bodies that stop': {
    config: { bodyTimeoutMs: 500 },
    connections: 40,
    counters: ['request.reset.bodyTimeout', 'request.timeouts408'],
    handlers: 0,
    check: (t, { report }) => t.true((report.statuses[408] ?? 0) > 0, 'a 408 says why'),
  },
  'bodies of a byte at a time': {
    // The rate is looked at after 10 s.
    durationMs: 11_500,
    connections: 20,
    counters: ['request.reset.bodyRate', 'request.timeouts408'],
    handlers: 0,
  },
};
for (const stage of ['after the handshake', 'in its headers', 'in a body', 'in an answer']) {
  for (const how of ['FIN', 'RST']) {
    BATTLES[`peers that vanish ${stage}, by ${how}`] = {
      durationMs: 1000,
      counters: ['connection.closed.peer'],
      handlers: stage === 'in an answer' ? 100 : 0,
    };
  }
}

for (const [name, how] of Object.entries(BATTLES)) {
  test.serial(name, (t) => battle(t, name, how));
}
