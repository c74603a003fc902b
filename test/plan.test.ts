import test from 'ava';
import fc from 'fast-check';
import { resolveConfig, validateConfig } from '../lib/config.js';
import type { AioConfig, ResolvedConfig } from '../lib/config-types.js';
import { AioConfigError } from '../lib/errors.js';
import { CONFIG_LIMITS } from '../lib/limits.js';
import {
  ARENA_RESIDENT_BYTES,
  configForMemory,
  PAGE_SIZE,
  planMemory,
  TCP_BUFFER_SIZE,
  TCP_BUFFER_STRIDE,
} from '../lib/plan.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

function totalOf(config: AioConfig): number {
  return planMemory(resolveConfig(config)).totalBytes;
}

/** What is given, and the arenas at the least that the rules allow: what "does not fit" is measured by. */
function leanest(given: AioConfig, maxConnections: number): AioConfig {
  const { maxRequestBodySize } = resolveConfig({ ...given, maxConnections: 1 });
  return {
    arenaSize: Math.min(64 * MIB, maxRequestBodySize + MIB),
    arenaPoolSize: Math.max(1, Math.floor(maxConnections / 10)),
    ...given,
    maxConnections,
  };
}

function fits(bytes: number, given: AioConfig, maxConnections: number): boolean {
  try {
    return totalOf(leanest(given, maxConnections)) <= bytes;
  } catch (error) {
    if (error instanceof AioConfigError) return false;
    throw error;
  }
}

/** A few fields, any of them left out; none that breaks a relationship with a single connection. */
const someFields = fc.record(
  {
    maxConcurrentStreams: fc.integer({ min: 1, max: 1000 }),
    tcpBufferPoolSize: fc.integer({ min: 16, max: 20_000 }),
    arenaPoolSize: fc.integer({ min: 1, max: 500 }),
    queueCapacity: fc.integer({ min: 16, max: 100_000 }),
    arenaSize: fc.integer({ min: MIB, max: 256 * MIB }),
    maxRequestBodySize: fc.integer({ min: KIB, max: GIB }),
    connectionHeapSize: fc.integer({ min: 128 * KIB, max: 4 * MIB }),
    maxOverflowArenas: fc.integer({ min: 0, max: 20 }),
  },
  { requiredKeys: [] },
);

const memory = fc.oneof(
  fc.integer({ min: 8 * MIB, max: GIB }),
  fc.integer({ min: 8 * MIB, max: 2 ** 44 }),
  fc.double({ min: 8 * MIB, max: 64 * GIB, noNaN: true }),
);

test('a TCP buffer holds two of the largest TLS records, in whole pages', (t) => {
  const header = 5;
  const data = 16_384;
  t.is(TCP_BUFFER_SIZE, 2 * (header + data + 256 + 64));
  t.true(TCP_BUFFER_SIZE >= 2 * (header + data + 1 + 16));
  t.is(TCP_BUFFER_STRIDE % PAGE_SIZE, 0);
  t.is(TCP_BUFFER_STRIDE, Math.ceil(TCP_BUFFER_SIZE / PAGE_SIZE) * PAGE_SIZE);
});

test('the plan of the defaults, figure by figure', (t) => {
  const ring = 256 * 64 + 256 * 1024;
  const otherBytes = MIB + ring + 6 * MIB;
  const bufferBytes = 1450 * 36_864;
  const arenaBytes = 200 * 64 * MIB;
  const connectionBytes = 100 * (1.5 * (256 * KIB + 100 * 8 * KIB) + 4096 + 100 * (1536 + 2 * KIB));
  t.deepEqual(planMemory(resolveConfig()), {
    bufferBytes,
    arenaBytes,
    connectionBytes,
    otherBytes,
    totalBytes: bufferBytes + arenaBytes + connectionBytes + otherBytes,
    committedBytes: 200 * ARENA_RESIDENT_BYTES + otherBytes,
  });
});

test('each field that takes memory shows in its own part', (t) => {
  const base = planMemory(resolveConfig());
  const change = (config: AioConfig) => {
    const plan = planMemory(resolveConfig(config));
    return {
      buffers: plan.bufferBytes - base.bufferBytes,
      arenas: plan.arenaBytes - base.arenaBytes,
      connections: plan.connectionBytes - base.connectionBytes,
      other: plan.otherBytes - base.otherBytes,
      committed: plan.committedBytes - base.committedBytes,
    };
  };
  const none = { buffers: 0, arenas: 0, connections: 0, other: 0, committed: 0 };
  t.deepEqual(change({ tcpBufferPoolSize: 1451 }), { ...none, buffers: 36_864 });
  t.deepEqual(change({ arenaPoolSize: 201 }), { ...none, arenas: 64 * MIB, committed: 16 * KIB });
  t.deepEqual(change({ maxOverflowArenas: 1 }), { ...none, arenas: 64 * MIB });
  t.deepEqual(change({ connectionHeapSize: MIB }), { ...none, connections: 100 * -48 * KIB });
  t.deepEqual(change({ queueCapacity: 256 }), none);
  t.deepEqual(change({ queueCapacity: 257 }), { ...none, other: 256 * 1088, committed: 256 * 1088 });
  // An arena takes whole pages.
  t.is(change({ arenaSize: 64 * MIB + 1 }).arenas, 200 * PAGE_SIZE);
  t.is(change({ arenaSize: 64 * MIB + PAGE_SIZE }).arenas, 200 * PAGE_SIZE);
});

test('a thread more is a mebibyte more', (t) => {
  // Not through resolveConfig, which knows how many cores this machine has.
  const one = planMemory(resolveConfig());
  const two = planMemory({ ...resolveConfig(), ioThreads: 2 });
  t.is(two.otherBytes - one.otherBytes, MIB);
  t.is(two.committedBytes - one.committedBytes, MIB);
  t.is(two.totalBytes - one.totalBytes, MIB);
  // What an engine thread has, an engine on JavaScript's has too.
  t.deepEqual(planMemory({ ...resolveConfig(), ioThreads: 0 }), one);
});

test('the text ring is 128 KiB at least and 16 MiB at most', (t) => {
  const ring = (queueCapacity: number): number => planMemory(resolveConfig({ queueCapacity })).otherBytes - 7 * MIB;
  t.is(ring(16), 16 * 64 + 128 * KIB);
  t.is(ring(128), 128 * 64 + 128 * KIB);
  t.is(ring(129), 256 * 64 + 256 * KIB);
  t.is(ring(16_384), 16_384 * 64 + 16 * MIB);
  t.is(ring(16_385), 32_768 * 64 + 16 * MIB);
  t.is(ring(100_000), 131_072 * 64 + 16 * MIB);
});

test('the largest configuration is planned exactly', (t) => {
  const largest = Object.fromEntries(Object.entries(CONFIG_LIMITS).map(([field, { max }]) => [field, max]));
  const plan = planMemory(resolveConfig(largest));
  for (const bytes of Object.values(plan)) t.true(Number.isSafeInteger(bytes) && bytes > 0);
  t.true(Object.isFrozen(plan));
});

test('with room for the defaults, configForMemory leaves what is given as it is', (t) => {
  const given = { maxConnections: 100 };
  t.deepEqual(configForMemory(totalOf(given), given), resolveConfig(given));
  t.deepEqual(configForMemory(2 ** 50, given), resolveConfig(given));
  t.deepEqual(configForMemory(Number.MAX_VALUE), resolveConfig({ maxConnections: 100_000 }));
});

test('with less, the arenas become smaller, and only then fewer', (t) => {
  const given = { maxConnections: 100 };
  const smaller = configForMemory(totalOf(given) - 1, given);
  t.is(smaller.arenaSize, 64 * MIB - PAGE_SIZE);
  t.is(smaller.arenaPoolSize, 200);

  const least = totalOf({ ...given, arenaSize: 9 * MIB });
  t.deepEqual(configForMemory(least, given), resolveConfig({ ...given, arenaSize: 9 * MIB }));
  const fewer = configForMemory(least - 1, given);
  t.is(fewer.arenaSize, 9 * MIB);
  t.is(fewer.arenaPoolSize, 199);
});

test('an arena of a larger body is not lowered below what the body needs', (t) => {
  const given = { maxConnections: 10, maxRequestBodySize: 32 * MIB };
  t.is(configForMemory(totalOf({ ...given, arenaSize: 33 * MIB }), given).arenaSize, 33 * MIB);
  t.is(configForMemory(totalOf({ ...given, arenaSize: 33 * MIB }) - 1, given).arenaPoolSize, 19);
  // And never raised: a body that no arena holds is for streaming.
  t.is(configForMemory(GIB, { maxConnections: 10, maxRequestBodySize: GIB }).arenaSize, 64 * MIB);
});

test('512 MiB hold a server of many connections', (t) => {
  const config = configForMemory(512 * MIB);
  t.true(config.maxConnections >= 100);
  t.is(config.maxConcurrentStreams, 100);
  t.true(planMemory(config).totalBytes <= 512 * MIB);
  t.false(fits(512 * MIB, {}, config.maxConnections + 1));
});

test('a relationship with a given field bounds the connections too', (t) => {
  t.is(configForMemory(2 ** 50, { tcpBufferPoolSize: 1234 }).maxConnections, 1234);
  t.is(configForMemory(2 ** 50, { arenaPoolSize: 12 }).maxConnections, 129);
  // Less than the default number of connections would need: no error, because the connections are what is sought.
  t.is(configForMemory(2 ** 50, { tcpBufferPoolSize: 20 }).maxConnections, 20);
});

test('0 is no given value where it means "derive"', (t) => {
  const zeros = { tcpBufferPoolSize: 0, arenaPoolSize: 0, arenaSize: 0, queueCapacity: 0, connectionHeapSize: 0 };
  t.deepEqual(configForMemory(GIB, zeros), configForMemory(GIB));
  t.deepEqual(configForMemory(GIB, { maxConnections: undefined }), configForMemory(GIB));
});

test('too little memory is an error that says what would do', (t) => {
  for (const given of [{}, { maxConnections: 500 }, { maxConcurrentStreams: 1 }, { arenaSize: 256 * MIB }]) {
    const error = t.throws(() => configForMemory(1000.5, given), { instanceOf: AioConfigError });
    t.is(error.field, 'memory');
    t.is(error.value, 1000.5);
    const least = Number(/^memory must be at least ([\d,]+) bytes/.exec(error.message)?.[1]?.replaceAll(',', ''));
    const config = configForMemory(least, given);
    t.is(planMemory(config).totalBytes, least);
    t.throws(() => configForMemory(least - 1, given), { instanceOf: AioConfigError, message: error.message });
  }
  t.throws(() => configForMemory(1, { maxConnections: 500 }), { message: /for 500 connections of 100 streams$/ });
  t.throws(() => configForMemory(1, { maxConcurrentStreams: 1 }), { message: /for 1 connection of 1 stream$/ });
});

test('memory that is no positive number is an error', (t) => {
  const values: readonly unknown[] = [0, -1, Number.NaN, Number.POSITIVE_INFINITY, '512MiB', 512n, null, undefined];
  for (const value of values) {
    const error = t.throws(() => configForMemory(value as number), { instanceOf: AioConfigError });
    t.is(error.field, 'memory');
    t.is(error.value, value);
    t.true(error.message.startsWith('memory must be a positive number of bytes, not '));
  }
});

test('what is wrong in the configuration is its own error', (t) => {
  const fieldOf = (config: unknown): string | undefined =>
    t.throws(() => configForMemory(GIB, config as AioConfig), { instanceOf: AioConfigError }).field;
  t.is(fieldOf({ maxConnection: 5 }), 'maxConnection');
  t.is(fieldOf({ maxConnections: 0 }), 'maxConnections');
  t.is(fieldOf({ maxConnections: '5' }), 'maxConnections');
  t.is(fieldOf({ tcpBufferPoolSize: 15 }), 'tcpBufferPoolSize');
  t.is(fieldOf({ arenaPoolSize: 1, maxConnections: 20 }), 'arenaPoolSize');
  t.is(fieldOf([]), 'config');
  t.is(fieldOf(null), 'config');
});

test('the result fits, keeps what is given, and has room for no connection more', (t) => {
  fc.assert(
    fc.property(memory, someFields, (bytes, given) => {
      let config: ResolvedConfig;
      try {
        config = configForMemory(bytes, given);
      } catch (error) {
        t.true(error instanceof AioConfigError && error.field === 'memory');
        t.false(fits(bytes, given, 1));
        return;
      }
      t.is(validateConfig(config), null);
      t.true(Object.isFrozen(config));
      t.true(planMemory(config).totalBytes <= bytes);
      t.deepEqual({ ...config, ...given }, { ...config });
      t.true(config.maxConnections === 100_000 || !fits(bytes, given, config.maxConnections + 1));
    }),
    { numRuns: 500 },
  );
});

test('the arenas get all that the rest leaves, in number first', (t) => {
  const connections = fc.integer({ min: 1, max: 300 });
  fc.assert(
    fc.property(memory, someFields, connections, (bytes, others, maxConnections) => {
      const given: AioConfig = { ...others, maxConnections };
      fc.pre(fits(bytes, given, maxConnections));
      const config = configForMemory(bytes, given);
      const full = resolveConfig(given);
      t.deepEqual({ ...config, ...given }, { ...config });
      t.true(planMemory(config).totalBytes <= bytes);
      const more = (change: AioConfig): number => totalOf({ ...config, ...change });
      if (config.arenaPoolSize < full.arenaPoolSize) {
        t.is(config.arenaSize, resolveConfig(leanest(given, maxConnections)).arenaSize);
        t.true(more({ arenaPoolSize: config.arenaPoolSize + 1 }) > bytes);
      } else if (config.arenaSize < full.arenaSize) {
        t.true(more({ arenaSize: Math.min(config.arenaSize + PAGE_SIZE, full.arenaSize) }) > bytes);
      } else {
        t.deepEqual(config, full);
      }
    }),
    { numRuns: 500 },
  );
});

test('a connection more never takes less: what the search rests on', (t) => {
  const connections = fc.integer({ min: 1, max: 99_999 });
  fc.assert(
    fc.property(connections, someFields, (maxConnections, given) => {
      const next = leanest(given, maxConnections + 1);
      fc.pre(fits(Number.POSITIVE_INFINITY, given, maxConnections + 1));
      t.true(totalOf(leanest(given, maxConnections)) < totalOf(next));
    }),
    { numRuns: 500 },
  );
});
