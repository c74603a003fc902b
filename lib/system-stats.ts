import type { Native, NativeEngine } from './native.js';

/** A pool: its bound and how near to it things are. */
export interface PoolStats {
  /** The bound. */
  readonly size: number;
  /** How many are in use now. */
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
  /** Durations counted. */
  readonly count: number;
  /** Their mean. */
  readonly meanUs: number;
  /** Half took no longer. */
  readonly p50Us: number;
  /** Nine of ten took no longer. */
  readonly p90Us: number;
  /** Ninety-nine of a hundred took no longer. */
  readonly p99Us: number;
  /** None took longer. */
  readonly maxUs: number;
}

/** Counters since the start, by name. */
export interface Counters {
  readonly [name: string]: number;
}

/** A snapshot of a system (specification, section 7). All counts are since the start unless they say "now". */
export interface AioStats {
  /** Places for connections (`maxConnections`). */
  readonly connections: PoolStats;
  /** TCP buffers. */
  readonly buffers: PoolStats;
  /** Arenas, one for each request that a handler works on. */
  readonly arenas: PoolStats;
  /** Requests on their way to JavaScript. */
  readonly queue: PoolStats;
  /** Arenas lent beyond the pool's size (`maxOverflowArenas`). */
  readonly overflowArenas: number;
  /** Connections. */
  readonly connection: {
    /** Now. */
    readonly active: number;
    /** Accepted. */
    readonly accepted: number;
    /** In the kernel's backlog, now. */
    readonly waiting: number;
    /** TLS handshakes that were finished. */
    readonly handshakes: number;
    /** Handshakes that resumed a session. */
    readonly resumed: number;
    /** By cause. */
    readonly closed: Counters;
    /** Bytes of heap that all connections hold, as of a few seconds ago. */
    readonly heapUsed: number;
    /** Bytes that the connection with the largest heap holds, as of a few seconds ago. */
    readonly heapLargest: number;
  };
  /** Requests. */
  readonly request: {
    /** Now. */
    readonly active: number;
    /** For an arena or a place in the queue, now. */
    readonly waiting: number;
    /** Heads that came. */
    readonly total: number;
    /** Handed on to JavaScript. */
    readonly dispatched: number;
    /** Answers 1xx. */
    readonly informational: number;
    /** Answers 2xx. */
    readonly success: number;
    /** Answers 3xx. */
    readonly redirect: number;
    /** Answers 4xx. */
    readonly clientError: number;
    /** Answers 5xx. */
    readonly serverError: number;
    /** Answered by a static route. */
    readonly staticRoutes: number;
    /** Bodies that came too slowly. */
    readonly timeouts408: number;
    /** Header lists over their limit. */
    readonly headers431: number;
    /** Targets that do not parse. */
    readonly bad400: number;
    /** By cause. */
    readonly rejected503: Counters;
    /** Bodies over a limit, by which. */
    readonly tooLarge413: Counters;
    /** Streams that ended by a reset, by cause. */
    readonly reset: Counters;
  };
  /** Bytes received, TLS included. */
  readonly bytesIn: number;
  /** Bytes sent, TLS included. */
  readonly bytesOut: number;
  /** The legs of a request: waiting for its handler, in the handler, until the answer's last byte was taken. */
  readonly latency: {
    /** From its head, or its whole body, to JavaScript's queue. */
    readonly waiting: LatencyStats;
    /** From there until the handler settled. */
    readonly handler: LatencyStats;
    /** From the answer's head to its last byte. */
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
