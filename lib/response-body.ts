import type { ReadableStream, ReadableStreamDefaultReader } from 'node:stream/web';
import { types } from 'node:util';
import type { AnswerSink } from './exchange.js';
import { isDisturbed } from './request-body.js';
import { responseError } from './response-headers.js';

/** On-heap arrays, whose memory V8 moves out when their buffer is asked for, are no longer than this many bytes. */
const MAX_ON_HEAP = 64;

/**
 * The bytes of anything that holds bytes, or `undefined`. What can change under the engine's hands, memory shared between
 * threads, is copied; else nothing is.
 *
 * @throws TypeError for a view whose buffer is gone
 */
export function asBytes(value: unknown): Uint8Array | undefined {
  // The quick way for most: what the checks below do takes calls out of JavaScript. Only a real one is found under a view.
  if (value instanceof ArrayBuffer) {
    const view = new Uint8Array(value);
    if (view.buffer === value) return view;
  }
  if (ArrayBuffer.isView(value)) {
    // Empty, or gone: making another view tells which.
    if (value.byteLength === 0) return new Uint8Array(value.buffer, 0, 0);
    if (value instanceof Uint8Array && value.byteLength <= MAX_ON_HEAP) return value;
    const view = value instanceof Uint8Array ? value : new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    return types.isSharedArrayBuffer(view.buffer) ? new Uint8Array(view) : view;
  }
  if (types.isSharedArrayBuffer(value)) return new Uint8Array(new Uint8Array(value));
  return types.isArrayBuffer(value) ? new Uint8Array(value) : undefined;
}

/** How one piece of a body comes. */
export interface ChunkResult {
  readonly done?: boolean | undefined;
  readonly value?: unknown;
}

/** A streaming body, being read. */
export interface ChunkSource {
  /** The next piece. */
  next(): Promise<ChunkResult> | ChunkResult;
  /** No more is wanted. Never throws; no more than the first call does anything, and none after the end. */
  cancel(reason: unknown): void;
}

/**
 * Begins to read a body that is neither whole nor a `Blob`.
 *
 * @returns `undefined` for what is no body
 * @throws TypeError for a stream that is locked or was read before; whatever an iterable's method throws
 */
export function openChunks(body: object): ChunkSource | undefined {
  if ('getReader' in body && typeof body.getReader === 'function') return new StreamChunks(body as ReadableStream);
  if (Symbol.asyncIterator in body) {
    return new IteratorChunks((body as AsyncIterable<unknown>)[Symbol.asyncIterator](), body);
  }
  if (Symbol.iterator in body) return new IteratorChunks((body as Iterable<unknown>)[Symbol.iterator](), body);
  return undefined;
}

/** Ends a body that will not be sent, whatever it is. Never throws. */
export function discardBody(body: unknown, reason: unknown): void {
  if (typeof body !== 'object' || body === null || ArrayBuffer.isView(body) || Array.isArray(body)) return;
  try {
    openChunks(body)?.cancel(reason);
  } catch {
    // Someone else reads it, and has to end it.
  }
}

class StreamChunks implements ChunkSource {
  readonly #reader: ReadableStreamDefaultReader<unknown>;

  constructor(stream: ReadableStream) {
    if (isDisturbed(stream)) throw new TypeError('The body has been read already');
    this.#reader = stream.getReader();
  }

  next(): Promise<ChunkResult> {
    return this.#reader.read();
  }

  cancel(reason: unknown): void {
    void quietly(() => this.#reader.cancel(reason));
  }
}

class IteratorChunks implements ChunkSource {
  readonly #iterator: AsyncIterator<unknown> | Iterator<unknown>;
  readonly #iterable: object;
  #ended = false;

  constructor(iterator: AsyncIterator<unknown> | Iterator<unknown>, iterable: object) {
    this.#iterator = iterator;
    this.#iterable = iterable;
  }

  async next(): Promise<ChunkResult> {
    try {
      const result = await this.#iterator.next();
      if (result.done) this.#ended = true;
      return result;
    } catch (error) {
      // An iterator that has thrown is at its end.
      this.#ended = true;
      throw error;
    }
  }

  cancel(): void {
    if (this.#ended) return;
    this.#ended = true;
    void quietly(() => this.#iterator.return?.());
    void quietly(() => destroyStream(this.#iterable));
  }
}

/** The iterator of a Node.js stream that waits for data, or was never asked, leaves the stream open. */
function destroyStream(iterable: object): unknown {
  const { destroy, on } = iterable as { destroy?: unknown; on?: unknown };
  if (typeof destroy !== 'function') return undefined;
  // A file that cannot be opened is an 'error' event all the same, and without a listener the process's end.
  if (typeof on === 'function') on.call(iterable, 'error', () => {});
  // No reason goes with it: it would be one more 'error' event, to whoever else listens.
  return destroy.call(iterable);
}

/** Runs what no one is left to be told the outcome of. */
async function quietly(action: () => unknown): Promise<void> {
  try {
    await action();
  } catch {
    // As said.
  }
}

/** What holds for one streamed body. */
export interface StreamLimits {
  /** The length that was announced, in bytes; -1 for none. */
  readonly contentLength: number;
  /** The most bytes that may be sent. */
  readonly maxBytes: number;
}

/** Sends a streaming body piece by piece, at the pace at which the client takes it. */
export class BodyWriter {
  readonly #sink: AnswerSink;
  readonly #limits: StreamLimits;
  readonly #counts: boolean;
  #sentBytes = 0;
  #writable = true;
  /** The first half of a character that the last string ended in: the next one may begin with the other. */
  #surrogate = '';

  constructor(sink: AnswerSink, limits: StreamLimits) {
    this.#sink = sink;
    this.#limits = limits;
    this.#counts = limits.contentLength !== -1 || limits.maxBytes !== Number.POSITIVE_INFINITY;
  }

  /**
   * Sends one piece.
   *
   * @throws AioError when it breaks a limit, `TypeError` when it is no piece; nothing of it has been sent then
   */
  write(value: unknown): void {
    const chunk = typeof value === 'string' ? this.#joinSurrogate(value) : asBytes(value);
    if (chunk === undefined) throw new TypeError('A body must be made of strings or bytes');
    if (typeof chunk !== 'string' && this.#surrogate !== '') this.#send(this.#takeSurrogate());
    this.#send(chunk);
  }

  /**
   * Reads and sends pieces until the body's end.
   *
   * @param chunks - where they come from
   * @param pending - a piece that has been asked for already
   * @returns false when the client has left
   * @throws as `write`, when the body is shorter than was announced, and what the body throws
   */
  async pump(chunks: ChunkSource, pending?: Promise<ChunkResult> | ChunkResult): Promise<boolean> {
    let next = pending;
    for (;;) {
      if (!this.#writable) this.#writable = await this.#sink.whenWritable();
      if (!this.#writable) return false;
      const result = await (next ?? chunks.next());
      next = undefined;
      if (this.#sink.gone) return false;
      if (result.done) break;
      this.write(result.value);
    }
    this.#send(this.#takeSurrogate());
    const { contentLength } = this.#limits;
    if (contentLength !== -1 && this.#sentBytes !== contentLength) {
      throw responseError(`content-length is ${contentLength}, but the body has ${this.#sentBytes} bytes`);
    }
    return true;
  }

  #send(chunk: string | Uint8Array): void {
    if (chunk.length === 0) return;
    if (this.#counts) this.#count(typeof chunk === 'string' ? Buffer.byteLength(chunk) : chunk.byteLength);
    this.#writable = this.#sink.write(chunk);
  }

  #count(bytes: number): void {
    this.#sentBytes += bytes;
    const { contentLength, maxBytes } = this.#limits;
    if (contentLength !== -1 && this.#sentBytes > contentLength) {
      throw responseError(`content-length is ${contentLength}, but the body has more bytes`);
    }
    if (this.#sentBytes > maxBytes)
      throw responseError(`The body has more than maxResponseBodySize, ${maxBytes} bytes`);
  }

  #joinSurrogate(text: string): string {
    const joined = this.#surrogate === '' ? text : this.#takeSurrogate() + text;
    const last = joined.charCodeAt(joined.length - 1);
    if (last < 0xd800 || last > 0xdbff || joined === '') return joined;
    this.#surrogate = joined.slice(-1);
    return joined.slice(0, -1);
  }

  #takeSurrogate(): string {
    const surrogate = this.#surrogate;
    this.#surrogate = '';
    return surrogate;
  }
}
