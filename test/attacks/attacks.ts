import { floods } from './attacks-floods.js';
import { malformed } from './attacks-malformed.js';
import { memory } from './attacks-memory.js';
import { paths } from './attacks-paths.js';
import { slow } from './attacks-slow.js';
import { tls } from './attacks-tls.js';
import type { Report } from './peer.js';

/** Where an attack happens, and what it reports to. */
export interface Arena {
  readonly port: number;
  readonly durationMs: number;
  /** How many connections at a time. */
  readonly connections: number;
  /** performance.now() at its end. */
  readonly until: number;
  readonly report: Report;
}

export type Attack = (arena: Arena) => Promise<void>;

/** All attacks by name. */
export const attacks: Record<string, Attack> = { ...floods, ...memory, ...malformed, ...paths, ...slow, ...tls };
