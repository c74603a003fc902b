import { setTimeout as sleep } from 'node:timers/promises';
import type { Arena, Attack } from './attacks.js';
import { Peer, type PeerOptions } from './peer.js';

export const isOver = ({ until }: Arena): boolean => performance.now() >= until;

/** Runs |one| on each of the arena's connections at a time, again and again until the time is over. */
export async function keepAttacking(arena: Arena, one: () => Promise<void>): Promise<void> {
  await Promise.all(
    Array.from({ length: arena.connections }, async () => {
      while (!isOver(arena)) await one();
    }),
  );
}

export interface FloodOptions extends PeerOptions {
  /** How many frames |make| gives at a time. */
  readonly frames: number;
  /** What is waited for before more is sent. */
  readonly pace?: (peer: Peer) => Promise<void>;
}

/** A flood: each connection sends what |make| gives until the server ends it, then another takes its place. */
export function flood(make: (peer: Peer) => Buffer, options: FloodOptions): Attack {
  return (arena) =>
    keepAttacking(arena, async () => {
      const peer = await Peer.open(arena.port, arena.report, options);
      if (peer === undefined) {
        await sleep(20);
        return;
      }
      while (!peer.closed && !isOver(arena)) {
        await peer.send(make(peer));
        arena.report.sent += options.frames;
        if (options.pace !== undefined) await Promise.race([options.pace(peer), sleep(500)]);
      }
      // What it says about it may still be on its way.
      await Promise.race([peer.when(() => false), sleep(peer.goaway ? 50 : 200)]);
      peer.leave();
    });
}

/** A siege: all connections do |begin| once, and stay for the rest of the time. */
export function siege(begin: (peer: Peer, arena: Arena) => Promise<void>, options: PeerOptions = {}): Attack {
  return async (arena) => {
    const peers = await Promise.all(
      Array.from({ length: arena.connections }, async () => {
        const peer = await Peer.open(arena.port, arena.report, options);
        if (peer !== undefined) await begin(peer, arena);
        return peer;
      }),
    );
    await sleep(Math.max(0, arena.until - performance.now()));
    for (const peer of peers) peer?.leave();
  };
}
