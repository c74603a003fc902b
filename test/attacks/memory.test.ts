import test from 'ava';
import { type Battle, battle } from './battle.js';

const STALL: Battle = {
  config: { writeTimeoutMs: 700 },
  durationMs: 3000,
  counters: ['request.reset.writeTimeout'],
  handlers: 8 * 100,
};
const REFUSED: Battle = {
  counters: ['request.headers431'],
  handlers: 0,
  check: (t, { report }) => t.true((report.statuses[431] ?? 0) > 0, 'a 431 says why'),
};
const ENDED: Battle = { counters: ['connection.closed.flood'], handlers: 0 };

const BATTLES: Record<string, Battle> = {
  'zero windows with a large answer on each stream': STALL,
  'zero windows with a static answer on each stream': {
    ...STALL,
    options: { staticRoutes: { '/static': { body: 'x'.repeat(100_000) } } },
    handlers: 0,
  },
  'a window of one byte with a large answer on each stream': STALL,
  'large answers that are not read from the socket (CVE-2019-9517)': {
    ...STALL,
    counters: [['request.reset.writeTimeout', 'connection.closed.writeTimeout']],
  },
  'bodies in frames of one byte that nobody reads': {
    options: { bodyMode: 'stream' },
    durationMs: 4000,
    connections: 24,
    counters: ['request.dispatched'],
    handlers: 24 * 100,
    check: (t, { log, report }) => {
      t.true(log.calls.filter((path) => path === '/hold').length >= 2000, 'the bodies have handlers');
      t.is(report.ended, 0, 'and their connections stay');
    },
  },
  'HPACK bomb: one field named 12,000 times': ENDED,
  'HPACK bombs that stay below 64 KiB': REFUSED,
  'HPACK table sizes that go up and down': ENDED,
  'header lists of 48 KiB': REFUSED,
  'header lists of 80 KiB': ENDED,
  'header lists of 300 fields': REFUSED,
};

for (const [name, how] of Object.entries(BATTLES)) {
  test.serial(name, (t) => battle(t, name, how));
}
