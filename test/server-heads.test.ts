import test from 'ava';
import fc from 'fast-check';
import { HeadReader } from '../lib/server-heads.js';
import { countCalls } from './helpers/buffer-calls.js';

const PLACES = 8;
const PLACE = 2048;

/** Reads heads out of a ring with junk in it, to which they are written as the engine does. */
function make(): (head: string, place: number) => string {
  const text = new Uint8Array(new SharedArrayBuffer(PLACES * PLACE)).fill(0xee);
  const reader = new HeadReader(text);
  return (head, place) => {
    const start = (place % PLACES) * PLACE;
    text.fill(0xee, start, start + PLACE);
    text.fill(0, start, start + ((head.length + 3) & ~3));
    text.set(Buffer.from(head, 'latin1'), start);
    return reader.read(start, head.length);
  };
}

// Of one length and of several; some that are alike but for a byte at either end, and one that is not kept.
const heads = [
  'GET\n',
  'GET\nhttps\nh\n/a\n',
  'GET\nhttps\nh\n/b\n',
  'PET\nhttps\nh\n/a\n',
  'x\n\xe9\xff',
  'y'.repeat(1024),
];
const longer = ['y'.repeat(1023), `${'y'.repeat(1023)}z`, 'y'.repeat(1025), ''];

test('every head is read as it is, whatever was read before', (t) => {
  const runs = fc.array(fc.tuple(fc.constantFrom(...heads, ...longer), fc.integer({ min: 1, max: 70 })), {
    maxLength: 12,
  });
  const property = fc.property(runs, (runs) => {
    const read = make();
    return runs.every(([head, times]) =>
      Array.from({ length: times }, (_, at) => read(head, at)).every((got) => got === head),
    );
  });
  t.notThrows(() => fc.assert(property, { numRuns: 300 }));
});

test('a head that comes again makes no string, wherever it lies', (t) => {
  const read = make();
  const calls = countCalls('latin1Slice', () => {
    for (let at = 0; at < 100; at += 1) t.is(read('GET\nhttps\nh\n/a\n', at), 'GET\nhttps\nh\n/a\n');
  });
  t.true(calls > 0 && calls < 5, `${calls}`);
});

test('where heads differ few are compared, and those that repeat are found again', (t) => {
  const read = make();
  for (let at = 0; at < 1000; at += 1) read(`GET\nhttps\nh\n/${at}\n`, at);
  const calls = countCalls('latin1Slice', () => {
    for (let at = 0; at < 200; at += 1) read('GET\nhttps\nh\n/a\n', at);
  });
  // It is compared with what was kept last, then kept itself, and found when the next one is compared.
  t.true(calls >= 64 && calls < 140, `${calls}`);
});
