import { ReadableStream, type ReadableStreamDefaultReader, type UnderlyingByteSource } from 'node:stream/web';
import type { Chunk } from './exchange.js';

type Next = IteratorResult<Uint8Array, undefined>;

/** What a stream of bytes reads from, in order, each time that it is asked. */
export interface BytesSource {
  /** The next bytes, with a buffer of their own; `null`: there are none any more. May throw, or reject. */
  read(): Chunk | Promise<Chunk>;
  cancel(): void;
}

/** Ends a stream from outside of its source's `pull`. */
interface Ending {
  close(): void;
  error(reason: unknown): void;
}

const AsyncIteratorPrototype: object = Object.getPrototypeOf(
  Object.getPrototypeOf(Object.getPrototypeOf((async function* () {})())),
);

/** A base without methods, whose instances have those of all asynchronous iterators. */
function Blank(): void {}
Blank.prototype = AsyncIteratorPrototype;

/**
 * What `for await` iterates a body with (Streams, section 4.2.5): the first bytes through a reader, which locks and
 * disturbs the stream, and the others past it. Nobody else can read meanwhile, and the stream holds nothing.
 */
class BytesIterator extends (Blank as unknown as new () => object) {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #source: BytesSource;
  readonly #ending: Ending;
  readonly #preventCancel: boolean;
  #hasBegun = false;
  #isOver = false;
  /** What is being done, while it is: calls are served one after another. */
  #ongoing: Promise<unknown> | undefined;

  constructor(
    reader: ReadableStreamDefaultReader<Uint8Array>,
    source: BytesSource,
    ending: Ending,
    preventCancel: boolean,
  ) {
    super();
    this.#reader = reader;
    this.#source = source;
    this.#ending = ending;
    this.#preventCancel = preventCancel;
  }

  next(): Promise<Next> {
    if (this.#ongoing !== undefined) return this.#after(() => this.#step());
    const next = this.#step();
    return next instanceof Promise ? this.#during(next) : Promise.resolve(next);
  }

  return(value?: unknown): Promise<IteratorResult<Uint8Array, unknown>> {
    return this.#after(async () => {
      if (!this.#isOver) {
        this.#isOver = true;
        const cancelled = this.#preventCancel ? undefined : this.#reader.cancel(value);
        this.#reader.releaseLock();
        await cancelled;
      }
      return { done: true, value };
    });
  }

  #after<Result>(act: () => Result | Promise<Result>): Promise<Result> {
    return this.#during((this.#ongoing ?? Promise.resolve()).then(act, act));
  }

  #during<Result>(promise: Promise<Result>): Promise<Result> {
    this.#ongoing = promise;
    const end = (): void => {
      if (this.#ongoing === promise) this.#ongoing = undefined;
    };
    promise.then(end, end);
    return promise;
  }

  #step(): Next | Promise<Next> {
    if (this.#isOver) return { done: true, value: undefined };
    if (!this.#hasBegun) {
      this.#hasBegun = true;
      return this.#reader.read().then(
        ({ done, value }) => (done ? this.#end() : { done, value }),
        (error) => this.#fail(error),
      );
    }
    let chunk: Chunk | Promise<Chunk>;
    try {
      chunk = this.#source.read();
    } catch (error) {
      chunk = Promise.reject(error);
    }
    if (!(chunk instanceof Promise)) return this.#give(chunk);
    return chunk.then(
      (late) => this.#give(late),
      (error) => this.#fail(error),
    );
  }

  #give(chunk: Chunk): Next {
    if (chunk !== null) return { done: false, value: chunk };
    this.#ending.close();
    return this.#end();
  }

  #end(): Next {
    this.#isOver = true;
    this.#reader.releaseLock();
    return { done: true, value: undefined };
  }

  #fail(error: unknown): never {
    this.#ending.error(error);
    this.#end();
    throw error;
  }
}

/** A stream of bytes that reads nothing ahead, and is iterated faster than the platform's. */
export function bytesStream(source: BytesSource): ReadableStream<Uint8Array> {
  let controller: Parameters<NonNullable<UnderlyingByteSource['start']>>[0];
  const ending: Ending = {
    close() {
      controller.close();
      // A reader with a buffer of its own waits until that is given back.
      (controller.byobRequest as { respond(bytes: number): void } | null)?.respond(0);
    },
    error: (reason) => controller.error(reason),
  };
  const deliver = (chunk: Chunk): void => {
    if (chunk === null) ending.close();
    else controller.enqueue(chunk);
  };
  const stream: ReadableStream<Uint8Array> = new ReadableStream(
    {
      type: 'bytes',
      start(given) {
        controller = given;
      },
      pull(): void | Promise<void> {
        const chunk = source.read();
        if (chunk instanceof Promise) return chunk.then(deliver);
        deliver(chunk);
      },
      cancel: () => source.cancel(),
    },
    { highWaterMark: 0 },
  );
  const values = (options?: { preventCancel?: boolean }): BytesIterator =>
    new BytesIterator(stream.getReader(), source, ending, Boolean(options?.preventCancel));
  const property = { configurable: true, writable: true, value: values };
  return Object.defineProperties(stream, { values: property, [Symbol.asyncIterator]: property });
}
