import { availableParallelism } from 'node:os';
import type { ConfigField, ListenField } from './config-types.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** Smallest and largest value of a number, both allowed, and how messages write them. */
export interface NumberLimits {
  readonly min: number;
  readonly max: number;
  /** `bytes` are written as 1KB, 1MB, 1GB; a `count` (and milliseconds) as 100,000. */
  readonly unit: 'count' | 'bytes';
}

/** What the configuration knows about one field. */
export interface FieldLimits extends NumberLimits {
  /** Whether an explicit 0 means "derive" (specification, section 1). */
  readonly zeroDerives: boolean;
  /** The value where none is given, before it is held within the limits. */
  readonly derive: (maxConnections: number, maxConcurrentStreams: number) => number;
}

function count(initial: number, min: number, max: number): FieldLimits {
  return { min, max, unit: 'count', zeroDerives: false, derive: () => initial };
}

function bytes(initial: number, min: number, max: number): FieldLimits {
  return { min, max, unit: 'bytes', zeroDerives: true, derive: () => initial };
}

/**
 * Every field of the configuration with its default or derivation and its limits, in the seed's order of validation: the
 * one table that defaults, errors and warnings are made from.
 */
export const CONFIG_LIMITS: { readonly [Field in ConfigField]-?: FieldLimits } = {
  maxConnections: count(100, 1, 100_000),
  maxConcurrentStreams: count(100, 1, 1000),
  tcpBufferPoolSize: {
    ...count(0, 16, 1_000_000),
    zeroDerives: true,
    // One division, last: dividing the streams first would lose up to seven eighths of a buffer a connection.
    derive: (connections, streams) => Math.floor((connections * (16 + streams)) / 8),
  },
  arenaPoolSize: { ...count(0, 1, 10_000), zeroDerives: true, derive: (connections) => connections * 2 },
  arenaSize: bytes(64 * MIB, MIB, 256 * MIB),
  maxRequestBodySize: bytes(8 * MIB, KIB, GIB),
  queueCapacity: { ...count(0, 16, 100_000), zeroDerives: true, derive: (connections) => connections * 2 },
  ioThreads: {
    ...count(1, 0, 1),
    // Read anew each time: a process's set of cores may change.
    get max() {
      return availableParallelism();
    },
  },
  queueTimeoutMs: count(SECOND_MS, 1, 10 * MINUTE_MS),
  handlerTimeoutMs: count(5 * MINUTE_MS, 1, DAY_MS),
  maxOverflowArenas: count(0, 0, 10_000),
  connectionHeapSize: {
    ...bytes(0, 128 * KIB, GIB),
    derive: (_connections, streams) => 256 * KIB + 8 * KIB * streams,
  },
  handshakeTimeoutMs: count(10 * SECOND_MS, 1, 10 * MINUTE_MS),
  idleTimeoutMs: count(75 * SECOND_MS, 1, DAY_MS),
  headersTimeoutMs: count(10 * SECOND_MS, 1, 10 * MINUTE_MS),
  bodyTimeoutMs: count(30 * SECOND_MS, 1, HOUR_MS),
  minBodyRate: count(240, 0, 1_000_000),
  writeTimeoutMs: count(30 * SECOND_MS, 1, HOUR_MS),
  // A limit on what peers may send: 0 would read as "off", so it is an error here and not the default.
  maxHeaderListSize: { ...bytes(32 * KIB, KIB, 64 * KIB), zeroDerives: false },
};

/** The names of all fields of the configuration, in the order in which they are checked. */
export const CONFIG_FIELDS = Object.keys(CONFIG_LIMITS) as readonly ConfigField[];

/** How many of {@link CONFIG_FIELDS} come from the seed; their relationships are checked right after them. */
export const SEED_FIELD_COUNT = 7;

/** The names of all options of `listen()`. */
export const LISTEN_FIELDS: readonly ListenField[] = [
  'port',
  'host',
  'key',
  'cert',
  'contexts',
  'ca',
  'requestCert',
  'rejectUnauthorized',
  'reusePort',
  'maxResponseBodySize',
  'error503Body',
  'bodyMode',
  'onError',
  'staticRoutes',
  'health',
  'sendDate',
];

/** The limits of a port; 0 takes a free one. */
export const PORT_LIMITS: NumberLimits = { min: 0, max: 65_535, unit: 'count' };

/** The limits of `health.jsStallTimeoutMs`. */
export const STALL_LIMITS: NumberLimits = { min: 1, max: DAY_MS, unit: 'count' };

/** The limits of a static route's status. */
export const STATUS_LIMITS: NumberLimits = { min: 200, max: 599, unit: 'count' };

/** Writes a whole number with a comma between thousands, whatever the locale. */
export function formatCount(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** Writes a number of bytes as the seed does: 1KB, 64MB, 1GB, and in full where it is no whole number of those. */
export function formatBytes(value: number): string {
  for (const [size, name] of [
    [GIB, 'GB'],
    [MIB, 'MB'],
    [KIB, 'KB'],
  ] as const) {
    if (value >= size && value % size === 0) return `${formatCount(value / size)}${name}`;
  }
  return `${formatCount(value)} bytes`;
}

/**
 * What is wrong with a value, as a sentence that begins with |name|, or `null` where nothing is.
 *
 * @param name - the option's name, with which the sentence begins
 * @param value - anything
 * @param limits - smallest and largest number
 */
export function numberProblem(name: string, value: unknown, limits: NumberLimits): string | null {
  if (typeof value !== 'number') return `${name} must be a number, not ${describeValue(value)}`;
  if (!Number.isInteger(value)) return `${name} must be an integer, not ${value}`;
  const { min, max, unit } = limits;
  if (value >= min && value <= max) return null;
  const format = unit === 'bytes' ? formatBytes : formatCount;
  return `${name} must be between ${format(min)} and ${format(max)}`;
}

/** Says in a word or two what a value is, without showing what it holds (it may be a secret). */
export function describeValue(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === 'number') return 'a number';
  if (Array.isArray(value)) return 'an array';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}
