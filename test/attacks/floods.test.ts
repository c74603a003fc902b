import test from 'ava';
import { type Battle, battle } from './battle.js';

const FLOW_CONTROL_ERROR = 3;
const ENHANCE_YOUR_CALM = 11;

/** Eight connections with the streams that each may have. */
const HANDLERS = 8 * 100;

const FLOOD: Battle = {
  counters: ['connection.closed.flood'],
  handlers: HANDLERS,
  check: (t, { report }) => t.true((report.goaways[ENHANCE_YOUR_CALM] ?? 0) > 0, 'GOAWAY says why'),
};

/** What RFC 9113 has a connection error for: the first one ends the connection. */
const PROTOCOL: Battle = { counters: ['connection.closed.protocol'], handlers: HANDLERS };

/** A stream's window overrun: nghttp2 resets the stream, since 1.70 it ends the connection (RFC 9113, section 6.9.1). */
const OVERRUN: Battle = {
  counters: [['connection.closed.flood', 'connection.closed.protocol']],
  handlers: HANDLERS,
  check: (t, { report: { goaways } }) =>
    t.true((goaways[ENHANCE_YOUR_CALM] ?? goaways[FLOW_CONTROL_ERROR] ?? 0) > 0, 'GOAWAY says why'),
};

const BATTLES: Record<string, Battle> = {
  'rapid reset (CVE-2023-44487)': { ...FLOOD, counters: ['connection.closed.flood', 'request.reset.client'] },
  'made to reset: WINDOW_UPDATE of 0 (CVE-2025-8671)': PROTOCOL,
  'made to reset: window overflow (CVE-2025-8671)': OVERRUN,
  'made to reset: DATA after END_STREAM (CVE-2025-8671)': PROTOCOL,
  'made to reset: HEADERS after END_STREAM (CVE-2025-8671)': PROTOCOL,
  'made to reset: PRIORITY on itself (CVE-2025-8671)': FLOOD,
  'made to reset: DATA over the window (CVE-2025-8671)': OVERRUN,
  'made to reset: content-length that lies (CVE-2025-8671)': FLOOD,
  'made to reset: RST_STREAM of a wrong length (CVE-2025-8671)': PROTOCOL,
  'made to reset: WINDOW_UPDATE of a wrong length (CVE-2025-8671)': PROTOCOL,
  'made to reset: PRIORITY of a wrong length (CVE-2025-8671)': PROTOCOL,
  'CONTINUATION without end (CVE-2024-27316)': { ...FLOOD, handlers: 0 },
  'CONTINUATION, many and empty (CVE-2024-28182)': { ...FLOOD, handlers: 0 },
  'CONTINUATION, blocks of seven frames each (CVE-2024-28182)': FLOOD,
  'one-byte windows with a large answer on each stream (CVE-2019-9511)': { ...FLOOD, connections: 4 },
  'PING (CVE-2019-9512)': { ...FLOOD, handlers: 0 },
  'PRIORITY (CVE-2019-9513)': { ...FLOOD, handlers: 0 },
  'streams that are refused, reset at once (CVE-2019-9514)': FLOOD,
  'streams that are malformed (CVE-2019-9514)': { ...FLOOD, handlers: 0 },
  'SETTINGS (CVE-2019-9515)': { ...FLOOD, handlers: 0 },
  // Its megabytes take longer than a flood lasts to spend the budget of resets.
  'fields without name and value (CVE-2019-9516)': { counters: ['request.reset.malformed'], handlers: 0 },
  'empty DATA (CVE-2019-9518)': FLOOD,
  'DATA of padding alone (CVE-2019-9518)': FLOOD,
  'WINDOW_UPDATE of one byte': { ...FLOOD, handlers: 0 },
  'frames of unknown types': { ...FLOOD, handlers: 0 },
};

for (const [name, how] of Object.entries(BATTLES)) {
  test.serial(name, (t) => battle(t, name, how));
}
