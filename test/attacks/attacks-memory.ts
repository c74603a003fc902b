import { END_HEADERS, END_STREAM, encode, FRAME, SETTING } from '../helpers/raw-client.js';
import type { Attack } from './attacks.js';
import { block, frame, headers, type Peer } from './peer.js';
import { flood, siege } from './strategy.js';

/** Asks for more than the engine holds for a connection: several answers begin, the others wait. */
async function askMuch(peer: Peer): Promise<void> {
  const large = block('/big?size=200000');
  await peer.send(Buffer.concat(Array.from({ length: 20 }, () => headers(peer.stream(), large))));
}

/** Asks for more than the system's buffers of a socket take, whole and in pieces. */
async function askEndlessly(peer: Peer): Promise<void> {
  const whole = block('/big?size=200000');
  const pieces = block('/flow?size=100000000');
  await peer.send(
    Buffer.concat(Array.from({ length: 20 }, (_, at) => headers(peer.stream(), at % 2 ? whole : pieces))),
  );
}

/** Asks for an answer of the engine's own on each stream that a connection may have. */
async function askStatic(peer: Peer): Promise<void> {
  const large = block('/static');
  await peer.send(Buffer.concat(Array.from({ length: 100 }, () => headers(peer.stream(), large))));
}

/** As many bytes as a stream may send at once, each in a frame of its own. */
async function crumble(peer: Peer): Promise<void> {
  const head = block('/hold', 'POST');
  for (let stream = 0; stream < 100 && !peer.closed; stream++) {
    const id = peer.stream();
    const crumbs = Array<Buffer>(8000).fill(frame(FRAME.data, 0, id, Buffer.of(1)));
    await peer.send(Buffer.concat([headers(id, head, false), ...crumbs]));
  }
}

const window = 2 ** 30;

/** A field that enters the dynamic table (RFC 7541, section 6.2.1), and blocks that name it |count| times (section 6.1). */
const ENTRY = 4000;
function bomb(count: number): Buffer {
  const name = 'x-bomb';
  const size = Buffer.from([0x7f, ENTRY - 127 - 0x80 * Math.floor((ENTRY - 127) / 0x80) + 0x80, (ENTRY - 127) >> 7]);
  const literal = Buffer.concat([Buffer.from([0x40, name.length]), Buffer.from(name), size, Buffer.alloc(ENTRY, 'b')]);
  return Buffer.concat([block('/never'), literal, Buffer.alloc(count, 0x80 | 62)]);
}

/** Requests that |fields| makes too large, answered 431 and asked again. */
function tooLarge(fields: Record<string, string>): Attack {
  const large = block('/never', 'GET', fields);
  const make = (peer: Peer): Buffer => {
    const stream = peer.stream();
    const parts: Buffer[] = [];
    for (let at = 0; at < large.length; at += 16_000) {
      const isLast = at + 16_000 >= large.length;
      const flags = (at === 0 ? END_STREAM : 0) | (isLast ? END_HEADERS : 0);
      parts.push(frame(at === 0 ? FRAME.headers : FRAME.continuation, flags, stream, large.subarray(at, at + 16_000)));
    }
    return Buffer.concat(parts);
  };
  return flood(make, { frames: 1, window, pace: (peer) => peer.when(() => peer.answers >= peer.streams) });
}

const many = (count: number, value: string): Record<string, string> =>
  Object.fromEntries(Array.from({ length: count }, (_, at) => [`x-${at}`, value]));

const SIZES = Buffer.concat([Buffer.alloc(8000, 0x20), encode({ ':path': '/never' })]);

export const memory: Record<string, Attack> = {
  'zero windows with a large answer on each stream': siege(askMuch, {
    settings: [[SETTING.initialWindowSize, 0]],
    window,
  }),
  'zero windows with a static answer on each stream': siege(askStatic, {
    settings: [[SETTING.initialWindowSize, 0]],
    window,
  }),
  'a window of one byte with a large answer on each stream': siege(askMuch, {
    settings: [[SETTING.initialWindowSize, 1]],
    window,
  }),
  'large answers that are not read from the socket (CVE-2019-9517)': siege(
    async (peer) => {
      peer.socket.pause();
      peer.tcp.pause();
      await askEndlessly(peer);
    },
    { settings: [[SETTING.initialWindowSize, window]], window },
  ),
  'bodies in frames of one byte that nobody reads': siege(crumble),
  'HPACK bomb: one field named 12,000 times': flood((peer) => headers(peer.stream(), bomb(12_000)), { frames: 1 }),
  'HPACK bombs that stay below 64 KiB': flood((peer) => headers(peer.stream(), bomb(10)), {
    frames: 1,
    window,
    pace: (peer) => peer.when(() => peer.answers >= peer.streams),
  }),
  'HPACK table sizes that go up and down': flood(
    (peer) => Buffer.concat(Array.from({ length: 20 }, () => headers(peer.stream(), SIZES))),
    { frames: 20, pace: (peer) => peer.when(() => peer.resets >= peer.streams) },
  ),
  'header lists of 48 KiB': tooLarge(many(48, 'v'.repeat(950))),
  'header lists of 80 KiB': tooLarge(many(80, 'v'.repeat(950))),
  'header lists of 300 fields': tooLarge(many(300, 'v')),
};
