import test from 'ava';
import fc from 'fast-check';
import { parseByteRange } from '../lib/site-range.js';

const RUNS = { numRuns: 20_000 };
const size = fc.oneof(fc.constantFrom(0, 1, Number.MAX_SAFE_INTEGER), fc.nat());
const digits = fc.oneof(fc.constant(''), fc.nat().map(String), fc.stringMatching(/^\d{1,40}$/));
const nearly = fc
  .tuple(fc.constantFrom('bytes=', 'Bytes= ', 'bytes', 'items='), digits, fc.constantFrom('-', '--', ',', ''), digits)
  .map((parts) => parts.join(''));

test('whatever the field holds, a part lies inside the representation', (t) => {
  fc.assert(
    fc.property(fc.oneof(nearly, fc.string({ unit: 'binary' })), size, (value, length) => {
      const range = parseByteRange(value, length);
      if (range.kind !== 'part') return;
      t.true(Number.isSafeInteger(range.first) && Number.isSafeInteger(range.last), value);
      t.true(0 <= range.first && range.first <= range.last && range.last < length, value);
    }),
    RUNS,
  );
});

test('a range means what its digits say', (t) => {
  fc.assert(
    fc.property(fc.nat(), fc.nat(), fc.integer({ min: 1 }), (from, more, length) => {
      const range = parseByteRange(`bytes=${from}-${from + more}`, length);
      if (from >= length) t.is(range.kind, 'unsatisfiable');
      else t.deepEqual(range, { kind: 'part', first: from, last: Math.min(from + more, length - 1) });
    }),
    RUNS,
  );
});
