import { Readable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import type { Chunk, RequestSource } from './exchange.js';
import { bytesStream } from './request-body-stream.js';

/**
 * A request's body: read once, either whole or through `stream`.
 *
 * Reading it whole goes past the stream, and disturbs it where there is one, so that whoever holds it sees that the body
 * was used.
 */
export class RequestBody {
  readonly #source: RequestSource;
  #stream: ReadableStream<Uint8Array> | undefined;
  #held: ArrayBuffer | undefined;
  #taken = false;
  /** Whether the stream has given all bytes of a body that lay there whole. */
  #isRead = false;

  constructor(source: RequestSource) {
    this.#source = source;
  }

  /** The stream, made when it is first asked for: one of bytes, which reads nothing ahead. */
  get stream(): ReadableStream<Uint8Array> {
    if (this.#stream === undefined) {
      this.#source.wantBody?.();
      this.#stream = bytesStream({ read: () => this.#readNext(), cancel: () => this.#cancel() });
      if (this.#taken) disturb(this.#stream);
    }
    return this.#stream;
  }

  /** The stream, where there is one already. */
  get openStream(): ReadableStream<Uint8Array> | undefined {
    return this.#stream;
  }

  /** Whether any of it was read or dropped. */
  get used(): boolean {
    return this.#taken || (this.#stream !== undefined && isDisturbed(this.#stream));
  }

  /** Whether it can no longer be read whole: used, or its stream has a reader. */
  get unusable(): boolean {
    return this.used || this.#stream?.locked === true;
  }

  /**
   * Takes the bytes out of the engine now, where they lie there whole, so that they can be read after the answer.
   *
   * @throws AioError when they are gone
   */
  hold(): void {
    if (!this.unusable && !this.#source.streaming) this.#held ??= this.#source.takeBody();
  }

  /**
   * Reads it whole and gives what |convert| makes of it. The bytes have the buffer to themselves.
   *
   * @returns rejects with a `TypeError` when the body is unusable, with an `AioError` when it is gone, or with what
   *   |convert| throws
   */
  read<Result>(convert: (body: ArrayBuffer) => Result): Promise<Awaited<Result>> {
    if (this.unusable) return Promise.reject(new TypeError('Body is unusable: Body has already been read'));
    this.#taken = true;
    if (this.#stream !== undefined) disturb(this.#stream);
    if (this.#source.streaming) return collect(this.#source).then(convert) as Promise<Awaited<Result>>;
    try {
      return Promise.resolve(convert(this.#takeHeld()));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #takeHeld(): ArrayBuffer {
    const body = this.#held ?? this.#source.takeBody();
    this.#held = undefined;
    return body;
  }

  #readNext(): Chunk | Promise<Chunk> {
    if (this.#source.streaming) return this.#source.readChunk();
    if (this.#isRead) return null;
    this.#isRead = true;
    const body = this.#takeHeld();
    return body.byteLength > 0 ? new Uint8Array(body) : null;
  }

  #cancel(): void {
    if (!this.#taken && this.#source.streaming) this.#source.cancelBody();
  }
}

/** Whether any of a stream was read, or it was cancelled. */
export function isDisturbed(stream: ReadableStream): boolean {
  // It takes the web's streams too; its types do not say so.
  return Readable.isDisturbed(stream as unknown as Readable);
}

function disturb(stream: ReadableStream): void {
  void stream.cancel();
}

async function collect(source: RequestSource): Promise<ArrayBuffer> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  for (let chunk = await source.readChunk(); chunk !== null; chunk = await source.readChunk()) {
    chunks.push(chunk);
    length += chunk.byteLength;
  }
  const [first] = chunks;
  if (chunks.length === 1 && first !== undefined) return first.buffer;
  const whole = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    whole.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return whole.buffer;
}
