import test from 'ava';
import fc from 'fast-check';
import { configWarnings, resolveConfig, validateConfig } from '../lib/config.js';
import type { AioConfig, ConfigField, ResolvedConfig } from '../lib/config-types.js';
import { AioConfigError } from '../lib/errors.js';
import { CONFIG_FIELDS, CONFIG_LIMITS } from '../lib/limits.js';
import { nearestName } from '../lib/options.js';

/** Within limits, edges often. */
function within(field: ConfigField): fc.Arbitrary<number> {
  const { min, max } = CONFIG_LIMITS[field];
  return fc.oneof(fc.integer({ min, max }), fc.constantFrom(min, Math.min(min + 1, max), max));
}

const primaries = fc.record({
  maxConnections: within('maxConnections'),
  maxConcurrentStreams: within('maxConcurrentStreams'),
});

/** Every field, by itself within its limits. */
const complete = fc.record(
  Object.fromEntries(CONFIG_FIELDS.map((field) => [field, within(field)])) as Record<ConfigField, fc.Arbitrary<number>>,
);

const junk = fc.oneof(
  fc.anything({ withBigInt: true, withDate: true, withNullPrototype: true }),
  fc.double(),
  fc.integer({ min: -10, max: 2_000_000 }),
);

function clampedBig(value: bigint, min: bigint, max: bigint): number {
  return Number(value < min ? min : value > max ? max : value);
}

test('every pair of primaries resolves, to the exact derivation', (t) => {
  fc.assert(
    fc.property(primaries, (pair) => {
      const config = resolveConfig(pair);
      const connections = BigInt(pair.maxConnections);
      const streams = BigInt(pair.maxConcurrentStreams);
      const buffers = clampedBig((connections * (16n + streams)) / 8n, 16n, 1_000_000n);
      return (
        config.tcpBufferPoolSize === buffers &&
        config.arenaPoolSize === clampedBig(connections * 2n, 1n, 10_000n) &&
        config.queueCapacity === clampedBig(connections * 2n, 16n, 100_000n) &&
        config.connectionHeapSize === 262_144 + 8192 * pair.maxConcurrentStreams &&
        validateConfig(config) === null &&
        Object.isFrozen(config)
      );
    }),
    { numRuns: 2000 },
  );
  t.pass();
});

test('resolving twice gives the same, warnings included', (t) => {
  fc.assert(
    fc.property(primaries, (pair) => {
      const once = resolveConfig(pair);
      const twice = resolveConfig(once);
      t.deepEqual(twice, once);
      t.deepEqual(configWarnings(twice), configWarnings(once));
    }),
  );
});

test('values within their limits resolve to themselves, or break a relationship', (t) => {
  fc.assert(
    fc.property(complete, (values) => {
      const related =
        values.tcpBufferPoolSize >= values.maxConnections &&
        values.arenaPoolSize >= Math.floor(values.maxConnections / 10);
      const problem = validateConfig(values);
      t.is(problem === null, related);
      if (related) t.deepEqual(resolveConfig(values), values);
      else t.throws(() => resolveConfig(values), { instanceOf: AioConfigError, message: problem ?? '' });
    }),
    { numRuns: 500 },
  );
});

test('a value outside its limits is never clamped where it is explicit', (t) => {
  const outside = fc.constantFrom(...CONFIG_FIELDS).chain((field) => {
    const { min, max } = CONFIG_LIMITS[field];
    const below = fc.integer({ min: -1_000_000, max: min - 1 }).filter((value) => value !== 0);
    const above = fc.integer({ min: max + 1, max: Number.MAX_SAFE_INTEGER });
    return fc.tuple(fc.constant(field), fc.oneof(below, above));
  });
  fc.assert(
    fc.property(outside, ([field, value]) => {
      t.throws(() => resolveConfig({ [field]: value }), {
        instanceOf: AioConfigError,
        message: new RegExp(`^${field} must be between `),
      });
    }),
  );
});

test('whatever it is given, resolveConfig returns a valid configuration or throws its error', (t) => {
  const keys = fc.oneof(fc.constantFrom(...CONFIG_FIELDS), fc.string());
  const configs = fc.oneof(
    fc.anything(),
    fc.dictionary(keys, junk),
    fc.dictionary(fc.constantFrom(...CONFIG_FIELDS), junk),
  );
  fc.assert(
    fc.property(configs, (config) => {
      let resolved: ResolvedConfig;
      try {
        resolved = resolveConfig(config as AioConfig);
      } catch (error) {
        if (!(error instanceof AioConfigError)) throw error;
        t.is(error.code, 'ERR_VALK_AIO_CONFIG');
        t.is(error.field, error.message.split(' ')[0] ?? '');
        return;
      }
      t.is(validateConfig(resolved), null);
      t.deepEqual(Object.keys(resolved), [...CONFIG_FIELDS]);
    }),
    { numRuns: 2000 },
  );
});

test('warnings say what stands in the configuration', (t) => {
  fc.assert(
    fc.property(complete, (values) => {
      // Made valid: warnings are for valid configurations.
      const config = {
        ...values,
        tcpBufferPoolSize: Math.max(values.tcpBufferPoolSize, values.maxConnections),
        arenaPoolSize: Math.max(values.arenaPoolSize, Math.floor(values.maxConnections / 10)),
      };
      const { maxConnections, maxConcurrentStreams } = config;
      const recommended = resolveConfig({ maxConnections, maxConcurrentStreams }).tcpBufferPoolSize;
      const codes = configWarnings(config).map(({ code, field }) => `${code} ${field}`);
      t.is(
        codes.includes('VALK_AIO_LOW_BUFFERS tcpBufferPoolSize'),
        BigInt(config.tcpBufferPoolSize) * 100n < BigInt(recommended) * 70n,
      );
      t.is(codes.includes('VALK_AIO_LOW_ARENAS arenaPoolSize'), config.arenaPoolSize < maxConnections);
      t.is(
        codes.includes('VALK_AIO_CLAMPED arenaPoolSize'),
        config.arenaPoolSize === 10_000 && maxConnections * 2 > 10_000,
      );
      t.is(
        codes.includes('VALK_AIO_CLAMPED queueCapacity'),
        config.queueCapacity === 100_000 && maxConnections * 2 > 100_000,
      );
      t.is(
        codes.includes('VALK_AIO_CLAMPED tcpBufferPoolSize'),
        config.tcpBufferPoolSize === 1_000_000 && (maxConnections * (16 + maxConcurrentStreams)) / 8 >= 1_000_001,
      );
    }),
    { numRuns: 1000 },
  );
});

test('a slip of one letter still names the field that was meant', (t) => {
  const slips = fc
    .constantFrom(...CONFIG_FIELDS)
    .chain((field) =>
      fc.record({ field: fc.constant(field), at: fc.nat(field.length - 1), letter: fc.constantFrom('', 'q', 'qq') }),
    );
  fc.assert(
    fc.property(slips, ({ field, at, letter }) => {
      const slip = `${field.slice(0, at)}${letter}${field.slice(at + 1)}`;
      t.is(nearestName(slip, CONFIG_FIELDS), field);
    }),
  );
});
