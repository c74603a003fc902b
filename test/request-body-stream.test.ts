import { ReadableStream } from 'node:stream/web';
import test from 'ava';
import { isDisturbed } from '../lib/request-body.js';
import { type BytesSource, bytesStream } from '../lib/request-body-stream.js';

type Bytes = Uint8Array<ArrayBuffer>;
type Step = number | number[] | null | Error;
type Make = (source: BytesSource) => ReadableStream<Uint8Array>;

/** A stream that the platform iterates: what ours must not be told from. */
const platformStream: Make = (source) =>
  new ReadableStream(
    {
      type: 'bytes',
      async pull(controller) {
        const chunk = await source.read();
        if (chunk !== null) return controller.enqueue(chunk);
        controller.close();
        (controller.byobRequest as { respond(bytes: number): void } | null)?.respond(0);
      },
      cancel: () => source.cancel(),
    },
    { highWaterMark: 0 },
  );

/** Bytes, the end or an error at each read, at once or late; what is beyond the last step never comes. */
class Source implements BytesSource {
  reads = 0;
  cancels = 0;

  constructor(
    readonly steps: readonly Step[],
    readonly isLate: boolean,
  ) {}

  read(): Bytes | null | Promise<Bytes | null> {
    const step = this.steps[this.reads++];
    if (step === undefined) return new Promise(() => {});
    const settle = (): Bytes | null => {
      if (step instanceof Error) throw step;
      return step === null ? null : Uint8Array.from(typeof step === 'number' ? [step] : step);
    };
    return this.isLate ? new Promise<void>((resolve) => setImmediate(resolve)).then(settle) : settle();
  }

  cancel(): void {
    this.cancels++;
  }
}

const describe = (value: unknown): unknown => (value instanceof Uint8Array ? [...value] : value);

async function outcome(promise: Promise<unknown>): Promise<unknown> {
  try {
    const value = await promise;
    if (typeof value !== 'object' || value === null || !('done' in value)) return describe(value);
    return { done: value.done, value: describe((value as { value?: unknown }).value) };
  } catch (error) {
    return `${(error as Error).name}: ${(error as Error).message}`;
  }
}

/** Ends an iterator with a value, which its type does not have. */
const finish = (iterator: unknown, value: unknown): Promise<unknown> =>
  outcome((iterator as { return(value: unknown): Promise<unknown> }).return(value));

/** Whether it is locked, and what a reader finds. */
async function rest(stream: ReadableStream<Uint8Array>): Promise<unknown[]> {
  if (stream.locked) return ['locked'];
  const reader = stream.getReader();
  return [isDisturbed(stream), await outcome(reader.read()), await outcome(Promise.race([reader.closed, 'open']))];
}

const failure = new RangeError('broken');

/** What is done with a stream of |steps|, and seen of it. */
const SCENARIOS: Record<
  string,
  { steps: Step[]; act(stream: ReadableStream<Uint8Array>, source: Source): Promise<unknown[]> }
> = {
  'to its end': {
    steps: [1, 2, 3, null],
    async act(stream) {
      const seen: unknown[] = [];
      for await (const chunk of stream) seen.push(describe(chunk), stream.locked, chunk.buffer.byteLength);
      return seen;
    },
  },
  'an empty one': {
    steps: [null],
    async act(stream) {
      const iterator = stream.values();
      return [await outcome(iterator.next()), stream.locked, await outcome(iterator.next())];
    },
  },
  'left early': {
    steps: [1, 2, 3, null],
    async act(stream) {
      for await (const chunk of stream) if (chunk[0] === 2) break;
      return [];
    },
  },
  'left early, to go on with': {
    steps: [1, 2, 3, null],
    async act(stream) {
      for await (const _ of stream.values({ preventCancel: true })) break;
      const seen: unknown[] = [stream.locked];
      for await (const chunk of stream.values({ preventCancel: true })) {
        seen.push(describe(chunk));
        if (chunk[0] === 2) break;
      }
      return seen;
    },
  },
  'left by an error of its reader': {
    steps: [1, 2, null],
    act: async (stream) => [
      await outcome(
        (async () => {
          for await (const _ of stream) throw failure;
        })(),
      ),
    ],
  },
  'that fails at once': {
    steps: [failure],
    async act(stream) {
      const iterator = stream.values();
      return [await outcome(iterator.next()), stream.locked, await outcome(iterator.next())];
    },
  },
  'that fails midway': {
    steps: [1, 2, failure],
    async act(stream) {
      const seen: unknown[] = [];
      const iterator = stream.values();
      for (let call = 0; call < 5; call++) seen.push(await outcome(iterator.next()));
      return [...seen, await finish(iterator, 'value')];
    },
  },
  'asked many times at once': {
    steps: [1, 2, 3, null],
    act(stream) {
      const iterator = stream.values();
      return Promise.all(Array.from({ length: 6 }, () => outcome(iterator.next())));
    },
  },
  'asked many times at once, and ended amid it': {
    steps: [1, 2, 3, null],
    act(stream) {
      const iterator = stream.values();
      return Promise.all([
        outcome(iterator.next()),
        outcome(iterator.next()),
        finish(iterator, 'first'),
        outcome(iterator.next()),
        finish(iterator, 'second'),
      ]);
    },
  },
  'ended before it began': {
    steps: [1, null],
    async act(stream) {
      const iterator = stream.values();
      const seen = [stream.locked, isDisturbed(stream)];
      return [...seen, await finish(iterator, 'value'), await outcome(iterator.next())];
    },
  },
  'that is locked': {
    steps: [1, null],
    async act(stream) {
      const reader = stream.getReader();
      const seen = [await outcome((async () => stream.values())()), await outcome(reader.read())];
      reader.releaseLock();
      const iterator = stream[Symbol.asyncIterator]();
      const name = await outcome((async () => stream.getReader())());
      return [...seen, String(name).startsWith('TypeError'), await outcome(iterator.next())];
    },
  },
  'after a reader that let go of its half filled buffer': {
    steps: [1, [2, 3], 4, 5, null],
    async act(stream, source) {
      const reader = stream.getReader({ mode: 'byob' });
      reader.read(new Uint32Array(1)).catch(() => {});
      // The first byte is in it, and not yet the others.
      if (source.isLate) while (source.reads < 2) await new Promise((resolve) => setImmediate(resolve));
      else while (source.reads < 1) await null;
      reader.releaseLock();
      const seen: unknown[] = [];
      for await (const chunk of stream) seen.push(describe(chunk));
      return seen;
    },
  },
  'after a reader with a buffer of its own, and before one': {
    steps: [1, 2, 3, null],
    async act(stream) {
      const read = async (): Promise<unknown> => {
        const reader = stream.getReader({ mode: 'byob' });
        const seen = await outcome(reader.read(new Uint8Array(4)));
        reader.releaseLock();
        return seen;
      };
      const seen = [await read()];
      for await (const chunk of stream.values({ preventCancel: true })) {
        seen.push(describe(chunk));
        if (chunk[0] === 2) break;
      }
      return [...seen, await read(), await read()];
    },
  },
  'left, with a look at once': {
    steps: [1, 2, null],
    async act(stream) {
      const iterator = stream.values({ preventCancel: true });
      const seen = [await outcome(iterator.next())];
      const ended = finish(iterator, 'value');
      seen.push(stream.locked);
      return [...seen, await ended, stream.locked];
    },
  },
  'with options that are none': {
    steps: [1, null],
    async act(stream) {
      const seen: unknown[] = [];
      for (const options of [1, 'a', true]) {
        seen.push(String(await outcome((async () => stream.values(options as never))())).startsWith('TypeError'));
      }
      return [...seen, stream.locked];
    },
  },
  'in part, and then by others': {
    steps: [1, 2, 3, 4, null],
    async act(stream) {
      for await (const _ of stream.values({ preventCancel: true })) break;
      const [one, two] = stream.tee();
      const all = async (branch: ReadableStream<Uint8Array>): Promise<unknown[]> => {
        const seen: unknown[] = [];
        for await (const chunk of branch) seen.push(describe(chunk));
        return seen;
      };
      return Promise.all([all(one), all(two)]);
    },
  },
};

for (const [name, { steps, act }] of Object.entries(SCENARIOS)) {
  for (const isLate of [false, true]) {
    test(`iterated as the platform does: ${name}${isLate ? ', late' : ''}`, async (t) => {
      const trace = async (make: Make): Promise<unknown> => {
        const source = new Source(steps, isLate);
        const stream = make(source);
        return {
          seen: await act(stream, source),
          reads: source.reads,
          cancels: source.cancels,
          rest: await rest(stream),
        };
      };
      t.deepEqual(await trace(bytesStream), await trace(platformStream));
    });
  }
}

test('an end while bytes are waited for comes after them', async (t) => {
  const source = new Source([1], true);
  const stream = bytesStream(source);
  const iterator = stream.values();
  t.deepEqual(await outcome(iterator.next()), { done: false, value: [1] });
  let told = false;
  const waiting = iterator.next();
  void iterator.return?.().then(() => {
    told = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.false(told);
  t.is(await Promise.race([waiting, 'waits']), 'waits');
});

test('its iterator has what all asynchronous iterators have', (t) => {
  const iterator = bytesStream(new Source([null], false)).values() as AsyncIterableIterator<unknown>;
  t.is(iterator[Symbol.asyncIterator](), iterator);
  const all = Object.getPrototypeOf(Object.getPrototypeOf(Object.getPrototypeOf((async function* () {})())));
  t.true(Object.prototype.isPrototypeOf.call(all, iterator));
  t.deepEqual(Object.keys(bytesStream(new Source([], false))), []);
});

test.serial('a failure that nobody looks at is told of', async (t) => {
  const told: unknown[] = [];
  const listeners = process.listeners('unhandledRejection');
  process.removeAllListeners('unhandledRejection');
  process.on('unhandledRejection', (error) => told.push(error));
  t.teardown(() => {
    process.removeAllListeners('unhandledRejection');
    for (const listener of listeners) process.on('unhandledRejection', listener);
  });
  for (const isLate of [false, true]) {
    void bytesStream(new Source([failure], isLate))
      .values()
      .next();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  t.deepEqual(told, [failure, failure]);
});
