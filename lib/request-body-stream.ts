import {
  type ReadableByteStreamController,
  ReadableStream,
  type ReadableStreamDefaultReader,
  type UnderlyingByteSource,
} from 'node:stream/web';
import type { Chunk } from './exchange.js';

type Next = IteratorResult<Uint8Array, undefined>;

/** What a stream of bytes reads from, in order, each time that it is asked. */
export interface BytesSource {
  /** The next bytes, with a buffer of their own; `null`: there are none any more. May throw, or reject. */
  read(): Chunk | Promise<Chunk>;
  cancel(): void;
}

/** The platform's side of a stream that wants nothing ahead, and what its iterator does past that. */
class ByteSource implements UnderlyingByteSource {
  readonly type = 'bytes';
  readonly #source: BytesSource;
  #controller: ReadableByteStreamController | undefined;

  constructor(source: BytesSource) {
    this.#source = source;
  }

  start(controller: ReadableByteStreamController): void {
    this.#controller = controller;
  }

  pull(): void | Promise<void> {
    const chunk = this.read();
    if (chunk instanceof Promise) return chunk.then((late) => this.#deliver(late));
    this.#deliver(chunk);
  }

  cancel(): void {
    this.#source.cancel();
  }

  read(): Chunk | Promise<Chunk> {
    return this.#source.read();
  }

  /** Whether the stream has bytes that came before those of the source: then it has more than it wants. */
  get isAhead(): boolean {
    return (this.#controller?.desiredSize ?? 0) < 0;
  }

  close(): void {
    this.#controller?.close();
    // A reader with a buffer of its own waits until that is given back.
    (this.#controller?.byobRequest as { respond(bytes: number): void } | null)?.respond(0);
  }

  fail(reason: unknown): void {
    this.#controller?.error(reason);
  }

  #deliver(chunk: Chunk): void {
    if (chunk === null) this.close();
    else this.#controller?.enqueue(chunk);
  }
}

const AsyncIteratorPrototype: object = Object.getPrototypeOf(
  Object.getPrototypeOf(Object.getPrototypeOf((async function* () {})())),
);

/** A base without methods, whose instances have those of all asynchronous iterators. */
function Blank(): void {}
Blank.prototype = AsyncIteratorPrototype;

/**
 * What `for await` iterates a body with (Streams, section 4.2.5): the first bytes through a reader, which locks and
 * disturbs the stream, and the others past it. Nobody else can read meanwhile. What the stream holds goes first: a
 * reader with a buffer of its own that let go of it half filled leaves some.
 */
class BytesIterator extends (Blank as unknown as new () => object) {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #source: ByteSource;
  readonly #preventCancel: boolean;
  #hasBegun = false;
  #isOver = false;
  /** What is being done, while it is: calls are served one after another. */
  #ongoing: Promise<unknown> | undefined;

  constructor(reader: ReadableStreamDefaultReader<Uint8Array>, source: ByteSource, preventCancel: boolean) {
    super();
    this.#reader = reader;
    this.#source = source;
    this.#preventCancel = preventCancel;
  }

  next(): Promise<Next> {
    if (this.#ongoing !== undefined) {
      const step = (): Next | Promise<Next> => this.#step();
      return this.#during(this.#ongoing.then(step, step));
    }
    const next = this.#step();
    return next instanceof Promise ? this.#during(next) : Promise.resolve(next);
  }

  return(value?: unknown): Promise<IteratorResult<Uint8Array, unknown>> {
    const end = async (): Promise<IteratorResult<Uint8Array, unknown>> => {
      if (!this.#isOver) {
        this.#isOver = true;
        const cancelled = this.#preventCancel ? undefined : this.#reader.cancel(value);
        this.#reader.releaseLock();
        await cancelled;
      }
      return { done: true, value };
    };
    return this.#ongoing === undefined ? this.#during(end()) : this.#during(this.#ongoing.then(end, end));
  }

  /** The promise that is handed out is the one that is kept: nothing else handles its rejection. */
  #during<Result>(promise: Promise<Result>): Promise<Result> {
    const end = (): void => {
      if (this.#ongoing === tracked) this.#ongoing = undefined;
    };
    const tracked = promise.then(
      (result) => {
        end();
        return result;
      },
      (error) => {
        end();
        throw error;
      },
    );
    this.#ongoing = tracked;
    return tracked;
  }

  #step(): Next | Promise<Next> {
    if (this.#isOver) return { done: true, value: undefined };
    if (!this.#hasBegun || this.#source.isAhead) {
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
    this.#source.close();
    return this.#end();
  }

  #end(): Next {
    this.#isOver = true;
    this.#reader.releaseLock();
    return { done: true, value: undefined };
  }

  #fail(error: unknown): never {
    this.#source.fail(error);
    this.#end();
    throw error;
  }
}

// What `constructor` is belongs to the class in whose place this one stands.
Reflect.deleteProperty(BytesIterator.prototype, 'constructor');

/** A stream of bytes that reads nothing ahead, and is iterated faster than the platform's. */
export function bytesStream(source: BytesSource): ReadableStream<Uint8Array> {
  const own = new ByteSource(source);
  const stream: ReadableStream<Uint8Array> = new ReadableStream(own, { highWaterMark: 0 });
  const values = (options?: { preventCancel?: boolean } | null): BytesIterator => {
    if (!(options === undefined || typeof options === 'object' || typeof options === 'function'))
      throw new TypeError('options must be an object');
    return new BytesIterator(stream.getReader(), own, Boolean(options?.preventCancel));
  };
  const property = { configurable: true, writable: true, value: values };
  return Object.defineProperties(stream, { values: property, [Symbol.asyncIterator]: property });
}
