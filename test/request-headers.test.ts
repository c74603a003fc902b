import { inspect } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import fc from 'fast-check';
import { RequestHeaders } from '../lib/request-headers.js';
import { FakeExchange } from './helpers/fake-exchange.js';

type Fields = readonly (readonly [name: string, value: string])[];

function make(fields: Fields): { ours: Headers; standard: Headers } {
  const standard = new Headers();
  for (const [name, value] of fields) standard.append(name, value);
  return { ours: new RequestHeaders(new FakeExchange({ fields }).head) as unknown as Headers, standard };
}

/** What a call gives or throws, to be compared. */
function outcome(call: () => unknown): unknown {
  try {
    return call();
  } catch (error) {
    return (error as Error).constructor;
  }
}

// Names that are alike in length and in their first and last letters, so that one may be taken for another.
const name = fc.oneof(
  fc.constantFrom('accept', 'accent', 'x-a', 'x-b', 'xya', 'set-cookie', 'a', 'b', '__proto__', 'constructor'),
  fc.string({ unit: fc.constantFrom(...'ab-_!^~'), minLength: 1, maxLength: 4 }),
);
const value = fc.oneof(
  fc.constantFrom('', 'a', 'accept', 'x-a', 'a, b', 'gzip, deflate, br', '\xe9'),
  fc.string({ unit: fc.constantFrom(...'ab,;= "\xff'), maxLength: 20 }).map((text) => text.trim()),
);
const question = fc.record({
  of: fc.nat(),
  name: fc.oneof(
    { weight: 6, arbitrary: name },
    { weight: 3, arbitrary: name.map((text) => text.toUpperCase()) },
    fc.constantFrom('', ' a', 'a ', 'a:b', 'a\n', 'é', '\u0130', '\u212a'),
  ),
  kind: fc.constantFrom('get', 'has'),
});

test('every question is answered as Headers would, whichever requests are asked in turn', (t) => {
  const requests = fc.array(fc.array(fc.tuple(name, value), { maxLength: 12 }), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(requests, fc.array(question, { minLength: 1, maxLength: 30 }), (fields, questions) => {
      const made = [...fields, ...fields].map(make);
      for (const { of, name, kind } of questions) {
        const { ours, standard } = made[of % made.length] as ReturnType<typeof make>;
        const [given, expected] = [ours, standard].map((headers) => outcome(() => headers[kind as 'get'](name)));
        if (given !== expected) return false;
      }
      return made.every(({ ours, standard }) => JSON.stringify([...ours]) === JSON.stringify([...standard]));
    }),
    { numRuns: 2000 },
  );
  t.pass();
});

test('many fields, and many names, are told apart', (t) => {
  const fields: Fields = Array.from({ length: 700 }, (_, index) => [`x-${index % 650}-x`, `value ${index}`] as const);
  const { ours, standard } = make(fields);
  for (let round = 0; round < 2; round += 1) {
    for (let index = 0; index < 1200; index += 1) t.is(ours.get(`x-${index}-x`), standard.get(`x-${index}-x`));
  }
  const long = 'n'.repeat(5000);
  t.is(make([[long, 'v']]).ours.get(long.toUpperCase()), 'v');
});

test('they are Headers to whoever asks, and to the constructors of the web', (t) => {
  const fields: Fields = [
    ['a', '1'],
    ['set-cookie', 'b'],
    ['set-cookie', 'c'],
  ];
  const fresh = (): Headers => make(fields).ours;
  t.true(fresh() instanceof Headers);
  t.is(Object.prototype.toString.call(fresh()), '[object Headers]');
  t.is(fresh().constructor, Headers);
  t.is(inspect(fresh()), inspect(make(fields).standard));
  t.is(inspect({ a: { b: fresh() } }, { depth: 1 }), inspect({ a: { b: make(fields).standard } }, { depth: 1 }));
  t.deepEqual(Object.keys(fresh()), []);
  t.is(new Headers(fresh()).get('a'), '1');
  t.is(new Request('http://localhost', { headers: fresh() }).headers.get('a'), '1');
  t.deepEqual(new Response(null, { headers: fresh() }).headers.getSetCookie(), ['b', 'c']);
  t.deepEqual([...fresh().keys()], ['a', 'set-cookie', 'set-cookie']);
  t.deepEqual([...fresh().values()], ['1', 'b', 'c']);
  t.deepEqual([...fresh().entries()], [...fresh()]);
  t.deepEqual(fresh().getSetCookie(), ['b', 'c']);
  // What does not know them for the standard's is told so, and does not find them empty.
  t.throws(() => Headers.prototype.get.call(fresh(), 'a'), { instanceOf: TypeError });
});

test('arguments that are missing are refused as the standard refuses them', (t) => {
  const { ours, standard } = make([['undefined', '1']]);
  for (const name of ['get', 'has', 'set', 'append', 'delete'] as const) {
    for (const given of name === 'set' || name === 'append' ? [[], ['a']] : [[]]) {
      const expected = t.throws(() => (standard[name] as (...args: string[]) => unknown)(...given));
      t.throws(() => (make([['undefined', '1']]).ours[name] as (...args: string[]) => unknown)(...given), {
        message: expected?.message ?? '',
      });
    }
  }
  t.is(ours.get(undefined as unknown as string), '1');
});

test('a value that outlives its request does not keep a large head', (t) => {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  const used = (): number => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const ways: ((headers: Headers) => string | null)[] = [
    (headers) => headers.get('x-session'),
    (headers) => headers.get('x-twice'),
    (headers) => new Map(headers).get('x-session') ?? null,
  ];
  for (const way of ways) {
    const kept: (string | null)[] = [];
    const before = used();
    for (let index = 0; index < 200; index += 1) {
      const { head } = new FakeExchange({
        fields: [
          ['cookie', `${index}`.padEnd(30_000, 'a')],
          ['x-session', `session ${index}`.padEnd(25, 'b')],
          ['x-twice', `value ${index}`.padEnd(25, 'c')],
          ['x-twice', `other ${index}`.padEnd(25, 'd')],
        ],
      });
      // Latin-1 in one piece, as the engine's text is.
      const ours = new RequestHeaders(Buffer.from(head, 'latin1').toString('latin1'));
      kept.push(way(ours as unknown as Headers));
    }
    t.true(kept.every((text) => text !== null && text.length >= 25));
    const bytes = (used() - before) / kept.length;
    t.true(bytes < 5000, `${bytes} bytes each`);
  }
});

test('forEach gives its callback what it gives with the standard', (t) => {
  const { ours } = make([
    ['b', '2'],
    ['a', '1'],
  ]);
  const seen: unknown[] = [];
  const self = {};
  ours.forEach(function (this: unknown, ...args) {
    seen.push([this, ...args]);
  }, self);
  t.deepEqual(seen.length, 2);
  for (const [index, expected] of [[self, '1', 'a', ours] as const, [self, '2', 'b', ours] as const].entries()) {
    for (const [at, item] of expected.entries()) t.is((seen[index] as unknown[])[at], item);
  }
  t.throws(() => ours.forEach('a' as never), { instanceOf: TypeError });
});

test('what is changed between two questions is seen', (t) => {
  const { ours } = make([
    ['a', '1'],
    ['b', '2'],
  ]);
  t.is(ours.get('a'), '1');
  ours.append('a', '3');
  t.is(ours.get('a'), '1, 3');
  ours.delete('b');
  t.is(ours.get('b'), null);
  t.false(ours.has('b'));
  ours.set('c', '4');
  t.true(ours.has('c'));
  t.is(make([['a', '1']]).ours.get('a'), '1');
});

test('a name that is no string is taken for one', (t) => {
  const { ours } = make([['null', '1']]);
  t.is(ours.get(null as unknown as string), '1');
  t.is(ours.get(7 as unknown as string), null);
  t.throws(() => ours.get(Symbol('a') as unknown as string), { instanceOf: TypeError });
});
