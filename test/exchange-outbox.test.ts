import test from 'ava';
import fc from 'fast-check';
import { Outbox } from '../lib/exchange-outbox.js';
import { KIND, type NativeEngine, OUT } from '../lib/native.js';
import { countCalls } from './helpers/buffer-calls.js';

/** An answer as the engine reads it. */
interface Sent {
  readonly status: number;
  readonly head: string;
  readonly body: string;
}

/** An outbox whose records are read at each flush, as the engine does. */
function make(bytes: number): { outbox: Outbox; read: () => Sent[] } {
  const out = new Uint8Array(bytes);
  const words = new Int32Array(out.buffer);
  const sent: Sent[] = [];
  const flush = () => {
    let at: number = OUT.startBytes;
    while (at < (words[OUT.used] as number)) {
      const word = at >> 2;
      const [kind = 0, , , headLength = 0, bodyLength = 0] = words.subarray(word, word + 5);
      const head = Buffer.from(out.buffer, at + OUT.recordBytes, headLength).toString('latin1');
      const body = Buffer.from(out.buffer, at + OUT.recordBytes + headLength, bodyLength).toString();
      sent.push({ status: kind >> 16, head, body });
      at = (at + OUT.recordBytes + headLength + bodyLength + 3) & ~3;
    }
    // What was there must not be taken for what comes.
    out.fill(0xee, OUT.startBytes);
    words[OUT.used] = OUT.startBytes;
  };
  words[OUT.used] = OUT.startBytes;
  words[OUT.inTurn] = 1;
  const outbox = new Outbox({ flush } as unknown as NativeEngine, out);
  const read = () => {
    flush();
    return sent;
  };
  return { outbox, read };
}

function send(outbox: Outbox, { status, head, body }: Sent, asBytes = false): void {
  const given = asBytes ? Buffer.from(body) : body;
  const length = outbox.add(KIND.respond | KIND.endFlag | (status << 16), 1, 2, head, given, -1);
  if (length !== Buffer.byteLength(body)) throw new Error(`${length} bytes of ${body}`);
}

const heads = ['', 'a\nb\n', 'a\nc\n', 'content-type\ntext/plain\n', 'x\n\xe9\n', `x\n${'y'.repeat(600)}\n`];
const bodies = ['', 'x', 'y', 'Hello, world\n', 'é€😀', '\ud800', 'z'.repeat(171), 'z'.repeat(300)];
// The body of a lone surrogate is sent as the replacement character.
const asSent = (answer: Sent): Sent => ({ ...answer, body: Buffer.from(answer.body).toString() });

test('every answer is written as it is, whatever was written before', (t) => {
  const answer = fc.record({
    status: fc.constantFrom(200, 404),
    head: fc.constantFrom(...heads),
    body: fc.constantFrom(...bodies),
  });
  const runs = fc.array(fc.tuple(answer, fc.integer({ min: 1, max: 70 }), fc.boolean()), { maxLength: 12 });
  fc.assert(
    fc.property(runs, (runs) => {
      const { outbox, read } = make(4096);
      const answers = runs.flatMap(([answer, times]) => Array<Sent>(times).fill(answer));
      for (const [answer, times, asBytes] of runs) {
        for (let count = 0; count < times; count += 1) send(outbox, answer, asBytes);
      }
      return JSON.stringify(read()) === JSON.stringify(answers.map(asSent));
    }),
    { numRuns: 300 },
  );
  t.pass();
});

for (const [method, asBytes] of [
  ['utf8Write', false],
  ['latin1Write', true],
] as const) {
  test(`an answer that comes again is not encoded again: ${asBytes ? 'bytes' : 'text'}`, (t) => {
    const { outbox, read } = make(1 << 16);
    const answer = { status: 200, head: 'a\nb\n', body: 'Hällo' };
    const encoded = countCalls(method, () => {
      for (let count = 0; count < 100; count += 1) send(outbox, answer, asBytes);
    });
    t.true(encoded > 0 && encoded < 10, `${encoded}`);
    t.deepEqual(read(), Array<Sent>(100).fill(answer));
  });
}
