import type { Native, NativeEngine } from './native.js';

/** A pool: its bound and how near to it things are. */
export interface PoolStats {
  /** The bound. */
  readonly size: number;
  readonly inUse: number;
  /** The most that were in use at a time. */
  readonly highWater: number;
  /** How often something had to wait for it. */
  readonly timesFull: number;
  /** How many wait now. */
  readonly waiters: number;
}

/** A histogram of durations, in microseconds; the buckets are a quarter of a doubling wide, so quantiles are upper edges. */
export interface LatencyStats {
  readonly count: number;
  readonly meanUs: number;
  readonly p50Us: number;
  readonly p90Us: number;
  readonly p99Us: number;
  readonly maxUs: number;
}

/** Counters since the start, by name. */
export interface Counters {
  readonly [name: string]: number;
}

/** A snapshot of a system (specification, section 7). All counts are since the start unless they say "now". */
export interface AioStats {
  readonly connections: PoolStats;
  /** TCP buffers. */
  readonly buffers: PoolStats;
  readonly arenas: PoolStats;
  /** Requests on their way to JavaScript. */
  readonly queue: PoolStats;
  /** Arenas lent beyond the pool's size (`maxOverflowArenas`). */
  readonly overflowArenas: number;
  readonly connection: {
    /** Now. */
    readonly active: number;
    readonly accepted: number;
    /** In the kernel's backlog, now. */
    readonly waiting: number;
    readonly handshakes: number;
    readonly resumed: number;
    /** By cause. */
    readonly closed: Counters;
    /** Bytes of heap that connections hold, as of a few seconds ago; and the one that holds most. */
    readonly heapUsed: number;
    readonly heapLargest: number;
  };
  readonly request: {
    /** Now. */
    readonly active: number;
    /** For an arena or a place in the queue, now. */
    readonly waiting: number;
    readonly total: number;
    /** Handed on to JavaScript. */
    readonly dispatched: number;
    readonly informational: number;
    readonly success: number;
    readonly redirect: number;
    readonly clientError: number;
    readonly serverError: number;
    readonly staticRoutes: number;
    readonly timeouts408: number;
    readonly headers431: number;
    readonly bad400: number;
    /** By cause. */
    readonly rejected503: Counters;
    readonly tooLarge413: Counters;
    readonly reset: Counters;
  };
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** The legs of a request: waiting for its handler, in the handler, until the answer's last byte was taken. */
  readonly latency: {
    readonly waiting: LatencyStats;
    readonly handler: LatencyStats;
    readonly writing: LatencyStats;
  };
}

type Tree = { [name: string]: number | Tree };

const LEGS = ['waiting', 'handler', 'writing'] as const;

/** Reads snapshots; after the engine's end, of how all stood then. */
export class StatsReader {
  readonly #engine: NativeEngine;
  readonly #names: readonly (readonly string[])[];
  readonly #buckets: number;
  readonly #values: Float64Array;

  constructor(native: Native, engine: NativeEngine) {
    this.#engine = engine;
    this.#names = native.statNames.map((name) => name.split('.'));
    this.#buckets = native.histogramSize;
    this.#values = new Float64Array(this.#names.length + LEGS.length * (this.#buckets + 1));
  }

  read(): AioStats {
    this.#engine.stats(this.#values);
    const tree: Tree = {};
    this.#names.forEach((path, at) => {
      let branch = tree;
      for (const name of path.slice(0, -1)) {
        branch[name] ??= {};
        branch = branch[name] as Tree;
      }
      branch[path.at(-1) as string] = this.#values[at] as number;
    });
    const latency = Object.fromEntries(LEGS.map((name, leg) => [name, this.#latency(leg)]));
    return { ...tree, latency } as unknown as AioStats;
  }

  #latency(leg: number): LatencyStats {
    const start = this.#names.length + leg * (this.#buckets + 1);
    const counts = this.#values.subarray(start, start + this.#buckets);
    const sumUs = this.#values[start + this.#buckets] as number;
    const count = counts.reduce((sum, n) => sum + n, 0);
    const quantile = (q: number): number => {
      let left = Math.max(1, Math.ceil(q * count));
      for (let bucket = 0; bucket < counts.length; bucket++) {
        left -= counts[bucket] as number;
        if (left <= 0) return bucketEdgeUs(bucket);
      }
      return 0;
    };
    return {
      count,
      meanUs: count === 0 ? 0 : sumUs / count,
      p50Us: quantile(0.5),
      p90Us: quantile(0.9),
      p99Us: quantile(0.99),
      maxUs: quantile(1),
    };
  }
}

/** The upper edge of a histogram's bucket, as native/core/histogram.c has it. */
function bucketEdgeUs(bucket: number): number {
  return bucket < 4 ? bucket : (5 + (bucket % 4)) * 2 ** (Math.floor(bucket / 4) - 1) - 1;
}
