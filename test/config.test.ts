import { execFile } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { promisify } from 'node:util';
import test from 'ava';
import { configWarnings, defaultConfig, resolveConfig, validateConfig } from '../lib/config.js';
import type { AioConfig, ConfigField, ResolvedConfig } from '../lib/config-types.js';
import { AioError } from '../lib/errors.js';
import { CONFIG_FIELDS, CONFIG_LIMITS } from '../lib/limits.js';
import { configErrorOf, withField } from './helpers/option-errors.js';

const MIB = 1024 * 1024;

test('T1: default configuration', (t) => {
  const expected = {
    maxConnections: 100,
    maxConcurrentStreams: 100,
    tcpBufferPoolSize: 1450,
    arenaPoolSize: 200,
    arenaSize: 64 * MIB,
    maxRequestBodySize: 8 * MIB,
    queueCapacity: 200,
    ioThreads: 1,
    queueTimeoutMs: 1000,
    handlerTimeoutMs: 300_000,
    maxOverflowArenas: 0,
    connectionHeapSize: 256 * 1024 + 100 * 8192,
    handshakeTimeoutMs: 10_000,
    idleTimeoutMs: 75_000,
    headersTimeoutMs: 10_000,
    bodyTimeoutMs: 30_000,
    minBodyRate: 240,
    writeTimeoutMs: 30_000,
    maxHeaderListSize: 32_768,
  };
  t.deepEqual(resolveConfig(), expected);
  t.deepEqual(resolveConfig(undefined), expected);
  t.deepEqual(resolveConfig({}), expected);
  t.deepEqual(resolveConfig(defaultConfig()), expected);
  t.deepEqual(configWarnings(resolveConfig()), []);
});

test('T2: derivation with other connections and streams', (t) => {
  const buffers = [
    [100, 100, 1450],
    [500, 50, 4125],
    [50, 50, 412],
    [100, 50, 825],
    [500, 100, 7250],
    [1000, 100, 14_500],
    [1, 1, 16],
    [100_000, 1000, 1_000_000],
  ] as const;
  for (const [maxConnections, maxConcurrentStreams, tcpBufferPoolSize] of buffers) {
    t.is(resolveConfig({ maxConnections, maxConcurrentStreams }).tcpBufferPoolSize, tcpBufferPoolSize);
  }
  t.like(resolveConfig({ maxConnections: 500, maxConcurrentStreams: 50 }), {
    arenaPoolSize: 1000,
    queueCapacity: 1000,
    connectionHeapSize: 256 * 1024 + 50 * 8192,
  });
  t.like(resolveConfig({ maxConnections: 1, maxConcurrentStreams: 1 }), { arenaPoolSize: 2, queueCapacity: 16 });
  t.like(resolveConfig({ maxConnections: 100_000, maxConcurrentStreams: 1000 }), {
    arenaPoolSize: 10_000,
    queueCapacity: 100_000,
  });
});

test('T3: a derived value can be set', (t) => {
  const config = resolveConfig({ maxConnections: 100, tcpBufferPoolSize: 500 });
  t.is(config.tcpBufferPoolSize, 500);
  t.is(config.arenaPoolSize, 200);
});

test('T4: validation of hard limits', (t) => {
  t.is(validateConfig(withField('maxConnections', 0)), 'maxConnections must be between 1 and 100,000');
  t.is(validateConfig(withField('maxConnections', 100_001)), 'maxConnections must be between 1 and 100,000');
  t.is(validateConfig(withField('maxConnections', 100)), null);
});

test('T5: validation of relationships', (t) => {
  t.is(validateConfig(withField('tcpBufferPoolSize', 50)), 'tcpBufferPoolSize must be >= maxConnections');
  t.is(validateConfig(withField('tcpBufferPoolSize', 99)), 'tcpBufferPoolSize must be >= maxConnections');
  t.is(validateConfig(withField('tcpBufferPoolSize', 100)), null);
  t.is(validateConfig(withField('arenaPoolSize', 9)), 'arenaPoolSize must be >= maxConnections / 10');
  t.is(validateConfig(withField('arenaPoolSize', 10)), null);
  // A tenth is rounded down.
  t.is(resolveConfig({ maxConnections: 109, arenaPoolSize: 10 }).arenaPoolSize, 10);
  t.is(configErrorOf({ maxConnections: 110, arenaPoolSize: 10 }).field, 'arenaPoolSize');
});

test('T7: a configuration that breaks a limit or a relationship throws', (t) => {
  const limit = configErrorOf({ maxConnections: 100, tcpBufferPoolSize: 10 });
  t.is(limit.message, 'tcpBufferPoolSize must be between 16 and 1,000,000');
  const relationship = configErrorOf({ maxConnections: 100, tcpBufferPoolSize: 50 });
  t.is(relationship.message, 'tcpBufferPoolSize must be >= maxConnections');
  t.is(relationship.code, 'ERR_VALK_AIO_CONFIG');
  t.is(relationship.field, 'tcpBufferPoolSize');
  t.is(relationship.value, 50);
  t.true(relationship instanceof AioError);
});

test('T9: an explicit 0 for a primary is an error', (t) => {
  t.is(configErrorOf({ maxConnections: 0 }).message, 'maxConnections must be between 1 and 100,000');
  t.is(configErrorOf({ maxConnections: 0 }).value, 0);
  t.is(configErrorOf({ maxConcurrentStreams: 0 }).message, 'maxConcurrentStreams must be between 1 and 1,000');
});

test('every limit is exact, and its message names it', (t) => {
  const cores = availableParallelism();
  const sentences: readonly (readonly [ConfigField, number, number, string])[] = [
    ['maxConnections', 1, 100_000, '1 and 100,000'],
    ['maxConcurrentStreams', 1, 1000, '1 and 1,000'],
    ['tcpBufferPoolSize', 16, 1_000_000, '16 and 1,000,000'],
    ['arenaPoolSize', 1, 10_000, '1 and 10,000'],
    ['arenaSize', MIB, 256 * MIB, '1MB and 256MB'],
    ['maxRequestBodySize', 1024, 1024 * MIB, '1KB and 1GB'],
    ['queueCapacity', 16, 100_000, '16 and 100,000'],
    ['ioThreads', 0, cores, `0 and ${cores}`],
    ['queueTimeoutMs', 1, 600_000, '1 and 600,000'],
    ['handlerTimeoutMs', 1, 86_400_000, '1 and 86,400,000'],
    ['maxOverflowArenas', 0, 10_000, '0 and 10,000'],
    ['connectionHeapSize', 128 * 1024, 1024 * MIB, '128KB and 1GB'],
    ['handshakeTimeoutMs', 1, 600_000, '1 and 600,000'],
    ['idleTimeoutMs', 1, 86_400_000, '1 and 86,400,000'],
    ['headersTimeoutMs', 1, 600_000, '1 and 600,000'],
    ['bodyTimeoutMs', 1, 3_600_000, '1 and 3,600,000'],
    ['minBodyRate', 0, 1_000_000, '0 and 1,000,000'],
    ['writeTimeoutMs', 1, 3_600_000, '1 and 3,600,000'],
    ['maxHeaderListSize', 1024, 65_536, '1KB and 64KB'],
  ];
  t.deepEqual(
    sentences.map(([field]) => field),
    [...CONFIG_FIELDS],
  );
  for (const [field, min, max, range] of sentences) {
    const message = `${field} must be between ${range}`;
    t.is(validateConfig(withField(field, min - 1)), message);
    t.is(validateConfig(withField(field, max + 1)), message);
    t.is(configErrorOf({ [field]: max + 1 }).message, message);
    t.is(configErrorOf({ [field]: -1 }).message, message);
    // Beside the largest pools, so that no relationship is in the way.
    const roomy = { maxConnections: 1, tcpBufferPoolSize: 1_000_000, arenaPoolSize: 10_000 };
    t.is(resolveConfig({ ...roomy, [field]: max })[field], max);
    t.is(resolveConfig({ ...roomy, [field]: min })[field], min);
  }
});

test("validateConfig reports the seed's fields, then relationships, then the rest", (t) => {
  // From the last to the first: each new error hides those before it.
  let config: ResolvedConfig = resolveConfig();
  const steps: readonly (readonly [Partial<ResolvedConfig>, string])[] = [
    [{ maxHeaderListSize: 1 }, 'maxHeaderListSize'],
    [{ ioThreads: -1 }, 'ioThreads'],
    [{ arenaPoolSize: 9 }, 'arenaPoolSize must be >='],
    [{ tcpBufferPoolSize: 99 }, 'tcpBufferPoolSize must be >='],
    [{ queueCapacity: 1 }, 'queueCapacity'],
    [{ maxRequestBodySize: 1 }, 'maxRequestBodySize'],
    [{ arenaSize: 1 }, 'arenaSize'],
    [{ arenaPoolSize: 0 }, 'arenaPoolSize must be between'],
    [{ tcpBufferPoolSize: 1 }, 'tcpBufferPoolSize must be between'],
    [{ maxConcurrentStreams: 0 }, 'maxConcurrentStreams'],
    [{ maxConnections: 0 }, 'maxConnections'],
  ];
  for (const [change, start] of steps) {
    config = { ...config, ...change };
    t.true(validateConfig(config)?.startsWith(start), `${validateConfig(config)} begins with ${start}`);
  }
});

test('resolveConfig keeps to the same order', (t) => {
  t.is(configErrorOf({ queueTimeoutMs: 'soon', tcpBufferPoolSize: 50 }).field, 'tcpBufferPoolSize');
  t.is(configErrorOf({ queueTimeoutMs: 'soon', tcpBufferPoolSize: 500 }).field, 'queueTimeoutMs');
});

test('undefined derives, and 0 does for derived and size fields', (t) => {
  const undefinedFields = Object.fromEntries(CONFIG_FIELDS.map((field) => [field, undefined]));
  t.deepEqual(resolveConfig(undefinedFields), resolveConfig());

  const derived = CONFIG_FIELDS.filter((field) => CONFIG_LIMITS[field].zeroDerives);
  t.deepEqual(derived, [
    'tcpBufferPoolSize',
    'arenaPoolSize',
    'arenaSize',
    'maxRequestBodySize',
    'queueCapacity',
    'connectionHeapSize',
  ]);
  for (const zero of [0, -0]) {
    const config = Object.fromEntries(derived.map((field) => [field, zero]));
    t.deepEqual(resolveConfig({ maxConnections: 7, ...config }), resolveConfig({ maxConnections: 7 }));
  }
  for (const field of CONFIG_FIELDS) {
    if (derived.includes(field)) continue;
    if (CONFIG_LIMITS[field].min === 0) t.is(resolveConfig({ [field]: -0 })[field], 0);
    else t.is(configErrorOf({ [field]: 0 }).field, field);
  }
});

test('defaultConfig gives a new object whose derived fields follow its primaries', (t) => {
  const config = defaultConfig();
  t.not(config, defaultConfig());
  config.maxConnections = 1000;
  t.like(resolveConfig(config), { tcpBufferPoolSize: 14_500, arenaPoolSize: 2000, queueCapacity: 2000 });
  config.maxConcurrentStreams = 20;
  t.is(resolveConfig(config).connectionHeapSize, 256 * 1024 + 20 * 8192);
  t.deepEqual(Object.keys(config), [...CONFIG_FIELDS]);
});

test('a resolved configuration is frozen, and resolves to itself', (t) => {
  for (const primaries of [{}, { maxConnections: 1 }, { maxConnections: 100_000, maxConcurrentStreams: 1000 }]) {
    const config = resolveConfig(primaries);
    t.true(Object.isFrozen(config));
    t.throws(() => Object.assign(config, { maxConnections: 2 }), { instanceOf: TypeError });
    t.deepEqual(resolveConfig(config), config);
  }
});

test('the configuration that is given is neither changed nor kept', (t) => {
  const given = Object.freeze({ maxConnections: 5 });
  const config = resolveConfig(given);
  t.not(config as AioConfig, given);
  t.deepEqual(given, { maxConnections: 5 });
});

test('buffers below 70 % of the recommended number give a warning', (t) => {
  t.deepEqual(configWarnings(resolveConfig({ tcpBufferPoolSize: 1015 })), []);
  t.deepEqual(configWarnings(resolveConfig({ tcpBufferPoolSize: 1014 })), [
    {
      code: 'VALK_AIO_LOW_BUFFERS',
      field: 'tcpBufferPoolSize',
      message: 'tcpBufferPoolSize (1014) may be insufficient for 100 streams/conn; recommend >= 1450',
    },
  ]);
  // The recommended number is the clamped one.
  const large = { maxConnections: 100_000, maxConcurrentStreams: 1000 };
  const codes = (tcpBufferPoolSize: number): string[] =>
    configWarnings(resolveConfig({ ...large, tcpBufferPoolSize })).map(({ code }) => code);
  t.false(codes(700_000).includes('VALK_AIO_LOW_BUFFERS'));
  t.true(codes(699_999).includes('VALK_AIO_LOW_BUFFERS'));
});

test('fewer arenas than connections give a warning', (t) => {
  t.deepEqual(configWarnings(resolveConfig({ arenaPoolSize: 100 })), []);
  t.like(configWarnings(resolveConfig({ arenaPoolSize: 99 })), [
    { code: 'VALK_AIO_LOW_ARENAS', field: 'arenaPoolSize' },
  ]);
});

test('a maximum that its derivation exceeds gives a warning, a minimum does not', (t) => {
  t.deepEqual(configWarnings(resolveConfig({ maxConnections: 1, maxConcurrentStreams: 1 })), []);
  t.deepEqual(configWarnings(resolveConfig({ maxConnections: 5000, maxConcurrentStreams: 100 })), []);
  const warnings = configWarnings(resolveConfig({ maxConnections: 100_000, maxConcurrentStreams: 1000 }));
  t.deepEqual(
    warnings.map(({ code, field }) => `${code} ${field}`),
    [
      'VALK_AIO_LOW_ARENAS arenaPoolSize',
      'VALK_AIO_CLAMPED tcpBufferPoolSize',
      'VALK_AIO_CLAMPED arenaPoolSize',
      'VALK_AIO_CLAMPED queueCapacity',
    ],
  );
  t.is(warnings[1]?.message, 'tcpBufferPoolSize stands at its maximum of 1,000,000; its derivation gives 12,700,000');
  // An explicit maximum says the same; a derivation that is the maximum does not exceed it.
  const explicit = resolveConfig({ maxConnections: 5001, maxConcurrentStreams: 1, arenaPoolSize: 10_000 });
  t.deepEqual(
    configWarnings(explicit).map(({ code }) => code),
    ['VALK_AIO_CLAMPED'],
  );
  t.deepEqual(configWarnings(resolveConfig({ maxConnections: 10, arenaPoolSize: 10_000 })), []);
});

test('nothing native is loaded to configure', async (t) => {
  const program = `
    process.dlopen = () => { throw new Error('a native library was loaded'); };
    const { resolveConfig } = await import('./lib/config.ts');
    const { planMemory } = await import('./lib/plan.ts');
    const { resolveListenOptions } = await import('./lib/listen-options.ts');
    resolveListenOptions({ key: 'key', cert: 'certificate' });
    console.log(planMemory(resolveConfig()).totalBytes > 0);
  `;
  const cwd = new URL('..', import.meta.url);
  const argv = ['--import=tsx', '--input-type=module', '--eval', program];
  const { stdout } = await promisify(execFile)(process.execPath, argv, { cwd });
  t.is(stdout, 'true\n');
});
