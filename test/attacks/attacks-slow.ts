import { setTimeout as sleep } from 'node:timers/promises';
import { FRAME } from '../helpers/raw-client.js';
import type { Attack } from './attacks.js';
import { block, frame, headers, Peer } from './peer.js';
import { isOver, keepAttacking, siege } from './strategy.js';

/** Sends |piece| every |everyMs|, as long as the server lets it. */
function drip(begin: (peer: Peer) => Buffer, piece: (at: number) => Buffer, everyMs: number): Attack {
  return (arena) =>
    keepAttacking(arena, async () => {
      const peer = await Peer.open(arena.port, arena.report);
      if (peer === undefined) {
        await sleep(20);
        return;
      }
      await peer.send(begin(peer));
      for (let at = 0; !peer.closed && !peer.goaway && !isOver(arena); at++) {
        if (peer.resets + peer.answers > 0) break;
        await peer.send(piece(at));
        arena.report.sent++;
        await sleep(everyMs);
      }
      peer.leave();
    });
}

/** Where a peer is when it vanishes. */
const STAGES: Record<string, (peer: Peer) => Promise<void>> = {
  'after the handshake': async () => {},
  'in its headers': (peer) => peer.send(headers(peer.stream(), block('/never')).subarray(0, 20)),
  'in a body': async (peer) => {
    await peer.send(headers(peer.stream(), block('/never', 'POST', { 'content-length': '1000' }), false));
    await peer.send(frame(FRAME.data, 0, 1, Buffer.alloc(100)));
  },
  'in an answer': async (peer) => {
    await peer.send(headers(peer.stream(), block('/pieces?size=1000000&piece=16384')));
    await peer.when(() => peer.answers > 0);
  },
};

const vanishing = Object.fromEntries(
  Object.entries(STAGES).flatMap(([stage, reach]) =>
    (['fin', 'rst'] as const).map((how): [string, Attack] => [
      `peers that vanish ${stage}, by ${how.toUpperCase()}`,
      (arena) =>
        keepAttacking(arena, async () => {
          const peer = await Peer.open(arena.port, arena.report);
          if (peer === undefined) return;
          await reach(peer);
          peer.leave(how);
          arena.report.sent++;
        }),
    ]),
  ),
);

export const slow: Record<string, Attack> = {
  'slow headers': drip(
    (peer) => frame(FRAME.headers, 0, peer.stream(), block('/never')),
    () => frame(FRAME.continuation, 0, 1, Buffer.alloc(0)),
    200,
  ),
  'header blocks that are begun and left': siege(async (peer) => {
    await peer.send(frame(FRAME.headers, 0, peer.stream(), block('/never')));
  }),
  'bodies that stop': siege(async (peer) => {
    const head = block('/never', 'POST', { 'content-length': '1000' });
    await peer.send(Buffer.concat(Array.from({ length: 50 }, () => headers(peer.stream(), head, false))));
  }),
  'bodies of a byte at a time': drip(
    (peer) => headers(peer.stream(), block('/never', 'POST', { 'content-length': '100000' }), false),
    () => frame(FRAME.data, 0, 1, Buffer.of(0)),
    50,
  ),
  ...vanishing,
};
