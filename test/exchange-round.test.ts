import test from 'ava';
import { EngineExchange } from '../lib/exchange-engine.js';
import type { Outbox } from '../lib/exchange-outbox.js';
import { RequestBody } from '../lib/request-body.js';

const STREAMS = 2;
const PIECES = 1000;

/** An exchange whose body lies there, piece after piece. */
function endless(): { body: RequestBody; reads: () => number } {
  let reads = 0;
  const engine = {
    trailers: () => '',
    read() {
      reads++;
      return new Uint8Array(1);
    },
  };
  const outbox = { engine, add: () => 0 } as unknown as Outbox;
  const exchange = new EngineExchange(outbox, [], '', { info: {} as never }, 0, 0, STREAMS, 0);
  return { body: new RequestBody(exchange), reads: () => reads };
}

test('handlers that always find more to read let the event loop go round', async (t) => {
  let rounds = 0;
  const count = (): void => {
    rounds++;
    immediate = setImmediate(count);
  };
  let immediate = setImmediate(count);
  t.teardown(() => clearImmediate(immediate));
  const bodies = [endless(), endless()];
  await Promise.all(
    bodies.map(async ({ body }) => {
      let left = PIECES;
      for await (const _ of body.stream) if (--left === 0) break;
    }),
  );
  t.true(rounds >= (2 * PIECES) / 32 - 2, `${rounds} rounds`);
  t.true(rounds < PIECES / 4, `${rounds} rounds for ${2 * PIECES} pieces`);
  for (const { reads } of bodies) t.is(reads(), PIECES);
});
