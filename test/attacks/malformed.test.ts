import test from 'ava';
import { type Battle, battle } from './battle.js';

const MALFORMED: Battle = {
  counters: ['request.reset.malformed'],
  handlers: 0,
  connections: 2,
  check: (t, { report }) => {
    t.false(200 in report.statuses);
    t.is(report.ended, 0, 'the connection lives on');
  },
};

const BATTLES: Record<string, Battle> = {
  'names in upper case and connection-specific fields': MALFORMED,
  'CR, LF and NUL in names and values': MALFORMED,
  'pseudo-fields that are missing, double, unknown or late': {
    ...MALFORMED,
    counters: ['request.reset.malformed', 'request.bad400'],
  },
  'content-length that lies': { ...MALFORMED, counters: ['request.reset.malformed', 'request.reset.other'] },
};

for (const [name, how] of Object.entries(BATTLES)) {
  test.serial(name, (t) => battle(t, name, how));
}
