import test from 'ava';
import type { ResolvedConfig } from '../lib/config-types.js';
import { CONTROL, type NativeEngine, OUT, RECORD } from '../lib/native.js';
import { Dispatcher } from '../lib/server-dispatch.js';
import { makeMemory } from '../lib/system-memory.js';
import type { Handler } from '../lib/types.js';

const DROPPED = 3;
const HEAD = Buffer.from('GET\nhttps\nh\n/\n');

/** A dispatcher over memory to which requests are written as the engine does. */
function make(handler: Handler) {
  const memory = makeMemory({ queueCapacity: 64 } as ResolvedConfig);
  const { control, records, text, out } = memory;
  const words = new Int32Array(out.buffer);
  let written = 0;
  let unblocked = 0;
  const engine = {
    flush: () => {
      words[OUT.used] = OUT.startBytes;
    },
    unblock: () => {
      unblocked += 1;
      control[CONTROL.blocked] = 0;
    },
    peer: () => '127.0.0.1\n1\n127.0.0.1\n2\nTLSv1.3\nTLS_AES_128_GCM_SHA256\n',
  };
  const dispatcher = new Dispatcher(memory);
  dispatcher.attach(engine as unknown as NativeEngine);
  dispatcher.addServer(1, {
    handler,
    onError: undefined,
    maxResponseBodySize: Number.POSITIVE_INFINITY,
    limitStreams: false,
  });
  // Everything is flushed within a turn, and no turn waits for the next tick.
  words[OUT.inTurn] = 1;
  return {
    turn: () => dispatcher.turn(),
    read: () => control[CONTROL.read],
    unblocked: () => unblocked,
    /** The engine waits until READ has come to |position|. */
    block: (position: number) => {
      control[CONTROL.unblockAt] = position;
      control[CONTROL.blocked] = 1;
    },
    offer: (state: number = RECORD.queued) => {
      const place = written % 64;
      const base = place * RECORD.words;
      text.set(HEAD, place * 64);
      records[base + RECORD.index] = place;
      records[base + RECORD.generation] = written;
      records[base + RECORD.text] = place * 64;
      records[base + RECORD.textLength] = HEAD.length;
      records[base + RECORD.server] = 1;
      records[base + RECORD.state] = state;
      written += 1;
      Atomics.store(control, CONTROL.write, written);
    },
  };
}

test('a record is free before its handler runs, which may take long', (t) => {
  const seen: unknown[] = [];
  let isSlow = false;
  const engine = make(() => {
    seen.push(engine.read());
    // Longer than a turn may take, after others that take next to nothing.
    if (isSlow && seen.length % 13 === 0) for (const end = performance.now() + 5; performance.now() < end; );
    return {};
  });
  // Compiled, they are light on every machine.
  const LIGHT = 2600;
  while (seen.length < LIGHT) {
    for (let count = 0; count < 40; count += 1) engine.offer();
    while (engine.turn());
  }
  isSlow = true;
  for (let count = 0; count < 40; count += 1) engine.offer();
  t.true(engine.turn());
  t.true(seen.length < LIGHT + 13 + 8, `${seen.length - LIGHT} handlers in a turn`);
  while (engine.turn());
  t.false(engine.turn());
  t.deepEqual(
    seen,
    Array.from({ length: LIGHT + 40 }, (_, index) => index + 1),
  );
});

test('after a turn every record is free, also of requests that were dropped, and the engine is told if it waits', (t) => {
  let calls = 0;
  const engine = make(() => {
    calls += 1;
    return {};
  });
  const states = [DROPPED, RECORD.queued, DROPPED, DROPPED];
  let written = 0;
  for (let round = 1; round < 100; round += 1) {
    for (let count = 0; count < round % 40; count += 1) {
      engine.offer(states[written % 4]);
      written += 1;
    }
    if (round % 40 > 0) engine.block(written);
    const before = engine.unblocked();
    while (engine.turn());
    t.is(engine.read(), written);
    t.is(engine.unblocked() - before, round % 40 > 0 ? 1 : 0);
  }
  t.is(calls, Math.floor((written + 2) / 4));
});
