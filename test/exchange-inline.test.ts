import test from 'ava';
import { EngineExchange } from '../lib/exchange-engine.js';
import type { Outbox } from '../lib/exchange-outbox.js';
import { BUFFER_COST, INLINE_MAX, KIND } from '../lib/native.js';

/** How many writes of |size| bytes go without asking for budget, where there is none. */
function unasked(size: number): { writes: number; asked: number } {
  let writes = 0;
  let asked = 0;
  const engine = {
    trailers: () => '',
    write() {
      asked++;
      return 0;
    },
  };
  const add = (kind: number, _index: number, _generation: number, _fields: string, body: Uint8Array | null): number => {
    if ((kind & 0xff) === KIND.write) writes++;
    return body?.length ?? 0;
  };
  const outbox = { engine, add, flush: () => {} } as unknown as Outbox;
  const exchange = new EngineExchange(outbox, [], '', { info: {} as never }, 0, 0, 0, 0);
  exchange.begin(200, '', undefined);
  for (let count = 0; count < INLINE_MAX; count++) exchange.write(new Uint8Array(size));
  return { writes, asked };
}

test('writes that ask for no budget are few, however small', (t) => {
  for (const size of [1, 10, 100, 1000]) {
    const { writes, asked } = unasked(size);
    t.is(writes, Math.floor(INLINE_MAX / (size + BUFFER_COST)), `of ${size} bytes`);
    t.true(asked > 0);
  }
  t.is(unasked(INLINE_MAX).writes, 0);
});
