import { inspect } from 'node:util';
import vm from 'node:vm';
import test from 'ava';
import { resolveConfig, validateConfig } from '../lib/config.js';
import type { AioConfig, ConfigField } from '../lib/config-types.js';
import { AioError } from '../lib/errors.js';
import { CONFIG_FIELDS } from '../lib/limits.js';
import { configErrorOf, withField } from './helpers/option-errors.js';

test('what is no whole number is an error, in every field', (t) => {
  const values: readonly (readonly [unknown, string])[] = [
    ['100', 'must be a number, not a string'],
    [100n, 'must be a number, not a bigint'],
    [true, 'must be a number, not a boolean'],
    [Symbol('100'), 'must be a number, not a symbol'],
    [null, 'must be a number, not null'],
    [[100], 'must be a number, not an array'],
    [{ valueOf: () => 100 }, 'must be a number, not an object'],
    [() => 100, 'must be a number, not a function'],
    [Number.NaN, 'must be an integer, not NaN'],
    [Number.POSITIVE_INFINITY, 'must be an integer, not Infinity'],
    [Number.NEGATIVE_INFINITY, 'must be an integer, not -Infinity'],
    [100.5, 'must be an integer, not 100.5'],
    [0.5, 'must be an integer, not 0.5'],
  ];
  for (const field of CONFIG_FIELDS) {
    for (const [value, problem] of values) {
      const error = configErrorOf({ [field]: value });
      t.is(error.message, `${field} ${problem}`);
      t.is(error.field, field);
      t.is(error.value, value);
      t.is(validateConfig(withField(field, value)), error.message);
    }
    t.is(validateConfig(withField(field, undefined)), `${field} must be a number, not undefined`);
  }
});

test('a configuration must be a plain object', (t) => {
  class Settings {
    maxConnections = 5;
  }
  class Bare extends (null as unknown as ObjectConstructor) {}
  const values: readonly (readonly [unknown, string])[] = [
    [null, 'null'],
    [[], 'an array'],
    ['100', 'a string'],
    [100, 'a number'],
    [true, 'a boolean'],
    [() => ({}), 'a function'],
    [new Settings(), 'an instance of a class'],
    [new Map(), 'an instance of a class'],
    [new Date(), 'an instance of a class'],
    [Object.create(Bare.prototype), 'an instance of a class'],
    [Object.create({ maxConnections: 5 }), 'an instance of a class'],
    [vm.runInNewContext('[]'), 'an array'],
    [vm.runInNewContext('new (class { maxConnections = 5 })()'), 'an instance of a class'],
  ];
  for (const [value, kind] of values) {
    const error = configErrorOf(value);
    t.is(error.message, `config must be a plain object, not ${kind}`);
    t.is(error.field, 'config');
    t.is(error.value, value);
  }
});

test('plain objects of other realms and without a prototype are plain objects', (t) => {
  t.is(resolveConfig(vm.runInNewContext('({ maxConnections: 5 })') as AioConfig).maxConnections, 5);
  t.is(resolveConfig(Object.assign(Object.create(null), { maxConnections: 5 })).maxConnections, 5);
  const bare = vm.runInNewContext('Object.assign(Object.create(null), { maxConnections: 5 })') as AioConfig;
  t.is(resolveConfig(bare).maxConnections, 5);
});

test('an unknown key is an error that names the nearest known one', (t) => {
  const keys: readonly (readonly [string, ConfigField])[] = [
    ['maxConnection', 'maxConnections'],
    ['maxconnections', 'maxConnections'],
    ['max_connections', 'maxConnections'],
    ['max-concurrent-streams', 'maxConcurrentStreams'],
    ['tcpBufferPool', 'tcpBufferPoolSize'],
    ['queueTimeout', 'queueTimeoutMs'],
    ['maxConn', 'maxConnections'],
  ];
  for (const [key, nearest] of keys) {
    const error = configErrorOf({ [key]: 5 });
    t.is(error.message, `${key} is not a known option; did you mean ${nearest}?`);
    t.is(error.field, key);
    t.is(error.value, 5);
  }
  const far = configErrorOf({ banana: 1 });
  t.is(far.message, `banana is not a known option; the known ones are ${CONFIG_FIELDS.join(', ')}`);
  t.is(configErrorOf({ ['x'.repeat(1_000_000)]: 1 }).field.length, 1_000_000);
});

test('an unknown key is one whatever its value and however it is defined', (t) => {
  t.is(configErrorOf({ banana: undefined }).field, 'banana');
  t.is(configErrorOf(JSON.parse('{ "__proto__": { "maxConnections": 5 } }')).field, '__proto__');
  t.is(configErrorOf({ constructor: 1 }).field, 'constructor');
  t.is(configErrorOf({ [Symbol.iterator]: 1 }).field, 'Symbol(Symbol.iterator)');
  t.is(configErrorOf(Object.defineProperty({}, 'banana', { value: 1 })).field, 'banana');
  // A field is one word, the message's first: a key that is none is told in the words that follow.
  for (const key of ['max connections', ' maxConnections', '', '\n', 'max\u00a0connections']) {
    const error = configErrorOf({ [key]: 1 });
    t.is(error.field, 'config');
    t.true(error.message.startsWith(`config key ${JSON.stringify(key)} is not a known option`));
  }
});

test('an option of listen() is told as one', (t) => {
  const error = configErrorOf({ maxResponseBodySize: 5 });
  t.is(error.message, 'maxResponseBodySize is an option of listen(), not of start()');
  t.is(configErrorOf({ port: 8443 }).message, 'port is an option of listen(), not of start()');
});

test('what is inherited counts for nothing', (t) => {
  const pollution = Object.prototype as { maxConnections?: number };
  pollution.maxConnections = 7;
  try {
    t.is(resolveConfig({}).maxConnections, 100);
    t.is(resolveConfig().maxConnections, 100);
  } finally {
    delete pollution.maxConnections;
  }
});

test('a getter is read once, and what it throws is the cause of an error of ours', (t) => {
  let reads = 0;
  const config = resolveConfig({
    get maxConnections() {
      reads += 1;
      return reads;
    },
  });
  t.is(config.maxConnections, 1);
  t.is(reads, 1);

  const cause = new Error('no');
  const throwing = {
    get maxConnections(): number {
      throw cause;
    },
  };
  t.is(configErrorOf(throwing).message, 'config could not be read');
  t.is(configErrorOf(throwing).cause, cause);
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  t.is(configErrorOf(proxy).field, 'config');
});

test('an error shows its name, and no value that may be a secret', (t) => {
  const error = configErrorOf({ passphrase: 'open sesame' });
  t.is(error.name, 'AioConfigError');
  t.is(error.value, 'open sesame');
  t.true(error.stack?.startsWith('AioConfigError: passphrase is not a known option'));
  t.false(inspect(error).includes('open sesame'));
  t.true(inspect(configErrorOf({ maxConnections: -5 })).includes('value: -5'));
  t.is(new AioError('ERR_VALK_AIO_STOPPED', 'stopped').name, 'AioError');
});
