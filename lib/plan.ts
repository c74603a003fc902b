import { type GivenConfig, readConfig, resolveConfig, resolveGiven } from './config.js';
import type { AioConfig, MemoryPlan, ResolvedConfig } from './config-types.js';
import { AioConfigError } from './errors.js';
import { CONFIG_LIMITS, describeValue, formatCount } from './limits.js';

const KIB = 1024;
const MIB = 1024 * KIB;

/** Bytes of a page of memory, the unit in which the system commits it. */
export const PAGE_SIZE = 4096;

/**
 * Usable bytes of a TCP buffer: two of the largest TLS records without compression, 5 bytes of header, 16,384 of data
 * and 320 of overhead each. No setting: two full TLS 1.3 records, 32,812 bytes, do not fit into 32 KiB.
 */
export const TCP_BUFFER_SIZE = 33_418;

/** Bytes from one TCP buffer to the next: whole pages, so that an idle buffer's pages can go back to the system. */
export const TCP_BUFFER_STRIDE = 36_864;

/** Bytes at an arena's start that stay committed while it is idle (specification, section 6). */
export const ARENA_RESIDENT_BYTES = 16 * KIB;

/** Least room in an arena beside the largest request body: headers, the request's record and the answer's head. */
export const ARENA_HEADROOM_BYTES = MIB;

/** Bytes of a connection's own structure. What the kernel keeps for its socket is not the process's. */
export const CONNECTION_FIXED_BYTES = 4096;

/** Bytes of the records of one request on both sides of the crossing, for every stream that can be open, twice: a handler may outlive its stream. */
export const REQUEST_RECORD_BYTES = 1536;

/** Bytes of an answer's body that pass without asking for room, for every stream. */
export const STREAM_BYTES = 2 * KIB;

/** Bytes of one engine thread: the stack that it touches, its event loop, its scratch buffers, the blocks that it keeps. */
export const THREAD_BYTES = MIB;

/** Bytes of one message's record in the ring between the engine and JavaScript. */
export const RING_RECORD_BYTES = 64;

/** Bytes of text (path, headers) that the ring's text area has for each of its slots. */
export const RING_TEXT_BYTES = 1024;

/** Least bytes of the ring's text area: the largest header list must fit, also into a short ring. */
export const RING_TEXT_MIN_BYTES = 128 * KIB;

/** Most bytes of the ring's text area: a long ring is full of text before it is full of records. */
export const RING_TEXT_MAX_BYTES = 16 * MIB;

/** Bytes of the library itself: its image, OpenSSL's tables, the pools' bookkeeping, its JavaScript. */
export const NATIVE_FIXED_BYTES = 6 * MIB;

/**
 * What a configuration takes: at most (`totalBytes` and its four parts) and right after `start()` (`committedBytes`).
 *
 * @param resolved - a valid configuration
 * @returns bytes
 */
export function planMemory(resolved: ResolvedConfig): MemoryPlan {
  const { maxConnections, maxConcurrentStreams, connectionHeapSize } = resolved;
  const bufferBytes = resolved.tcpBufferPoolSize * TCP_BUFFER_STRIDE;
  const arenaBytes = (resolved.arenaPoolSize + resolved.maxOverflowArenas) * wholePages(resolved.arenaSize);
  // Beside the heap itself, bodies on their way out and streamed uploads on their way in may hold half as much.
  const connectionBytes =
    maxConnections *
    (Math.floor(connectionHeapSize * 1.5) +
      CONNECTION_FIXED_BYTES +
      (REQUEST_RECORD_BYTES + STREAM_BYTES) * maxConcurrentStreams);
  const otherBytes =
    Math.max(1, resolved.ioThreads) * THREAD_BYTES + ringBytes(resolved.queueCapacity) + NATIVE_FIXED_BYTES;
  return Object.freeze({
    bufferBytes,
    arenaBytes,
    connectionBytes,
    otherBytes,
    totalBytes: bufferBytes + arenaBytes + connectionBytes + otherBytes,
    committedBytes: resolved.arenaPoolSize * ARENA_RESIDENT_BYTES + otherBytes,
  });
}

/**
 * The configuration with the most connections whose `totalBytes` is no more than |bytes|.
 *
 * It keeps every field that is given, lowers `arenaSize` as far as is needed (down to `maxRequestBodySize` + 1 MiB), then
 * `arenaPoolSize` (down to a tenth of the connections), and only then `maxConnections`.
 *
 * @param bytes - the bound of `totalBytes`; JavaScript's own heap comes on top
 * @param config - what is fixed; with `maxConnections` in it only the arenas are fitted
 * @returns a complete, frozen configuration
 * @throws AioConfigError for a bad configuration, and with the field `memory` for a bound that is no positive number, or
 * is too low for one connection (or for those that are given): the message names the least that would do
 */
export function configForMemory(bytes: number, config?: AioConfig): ResolvedConfig {
  if (typeof bytes !== 'number' || !Number.isFinite(bytes) || bytes <= 0) {
    const found = typeof bytes === 'number' ? String(bytes) : describeValue(bytes);
    throw new AioConfigError(`memory must be a positive number of bytes, not ${found}`, bytes);
  }
  const given = readConfig(config);
  // One connection breaks no relationship: what is wrong here is wrong in what was given.
  const smallest = leanestConfig(given, 1);
  const { totalBytes } = planMemory(smallest);
  if (totalBytes > bytes) throw new AioConfigError(tooLittleMessage(totalBytes, smallest), bytes);

  if (given.has('maxConnections')) return fitArenas(bytes, given, smallest);
  return fitArenas(bytes, given, mostConnections(bytes, given, smallest));
}

/** The configuration of least memory: every field as given, else its default, and the arenas at their least. */
function leanestConfig(given: GivenConfig, connections: number): ResolvedConfig {
  const config = resolveGiven(new Map([['maxConnections', connections], ...given]));
  const { maxConnections, maxRequestBodySize } = config;
  const arenaSize = Math.min(config.arenaSize, maxRequestBodySize + ARENA_HEADROOM_BYTES);
  const arenaPoolSize = Math.max(1, Math.floor(maxConnections / 10));
  return resolveConfig({
    ...config,
    arenaSize: given.has('arenaSize') ? config.arenaSize : arenaSize,
    arenaPoolSize: given.has('arenaPoolSize') ? config.arenaPoolSize : arenaPoolSize,
  });
}

/**
 * The leanest configuration with the most connections. A search by halves finds it: each part of the leanest total is a
 * floor, a clamp or a power of two of something that grows with the connections, so that the total only grows, and a
 * relationship that holds for a number of connections holds for all lower ones.
 */
function mostConnections(bytes: number, given: GivenConfig, smallest: ResolvedConfig): ResolvedConfig {
  let above = CONFIG_LIMITS.maxConnections.max + 1;
  if (given.has('tcpBufferPoolSize')) above = Math.min(above, smallest.tcpBufferPoolSize + 1);
  if (given.has('arenaPoolSize')) above = Math.min(above, smallest.arenaPoolSize * 10 + 10);
  let best = smallest;
  while (above - best.maxConnections > 1) {
    const middle = Math.floor((best.maxConnections + above) / 2);
    const config = leanestConfig(given, middle);
    if (planMemory(config).totalBytes <= bytes) best = config;
    else above = middle;
  }
  return best;
}

/** Gives the arenas what the rest leaves: first their number, then their size, each up to what it is by default. */
function fitArenas(bytes: number, given: GivenConfig, leanest: ResolvedConfig): ResolvedConfig {
  const { totalBytes, arenaBytes } = planMemory(leanest);
  const room = Math.floor(bytes) - (totalBytes - arenaBytes);
  const full = resolveGiven(new Map([...given, ['maxConnections', leanest.maxConnections]]));
  const share = room / (full.arenaPoolSize + full.maxOverflowArenas);
  const sizeInFull = Math.min(Math.floor(share / PAGE_SIZE) * PAGE_SIZE, full.arenaSize);
  const arenaSize = Math.max(sizeInFull, leanest.arenaSize);
  const count = Math.floor(room / wholePages(arenaSize)) - full.maxOverflowArenas;
  const arenaPoolSize = Math.min(count, full.arenaPoolSize);
  return resolveConfig({ ...leanest, arenaSize, arenaPoolSize });
}

function tooLittleMessage(least: number, { maxConnections, maxConcurrentStreams }: ResolvedConfig): string {
  const connections = maxConnections === 1 ? '1 connection' : `${formatCount(maxConnections)} connections`;
  const streams = maxConcurrentStreams === 1 ? '1 stream' : `${formatCount(maxConcurrentStreams)} streams`;
  const mib = Math.ceil((least / MIB) * 10) / 10;
  return `memory must be at least ${formatCount(least)} bytes (${mib} MiB) for ${connections} of ${streams}`;
}

/** Bytes of the two rings, of records and of text. Their lengths are powers of two. */
function ringBytes(queueCapacity: number): number {
  const slots = 2 ** Math.ceil(Math.log2(queueCapacity));
  const text = Math.min(Math.max(slots * RING_TEXT_BYTES, RING_TEXT_MIN_BYTES), RING_TEXT_MAX_BYTES);
  return slots * RING_RECORD_BYTES + text;
}

function wholePages(bytes: number): number {
  return Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
}
