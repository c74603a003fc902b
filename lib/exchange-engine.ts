import { AioError } from './errors.js';
import type { AbortCause, AbortListener, Chunk, ConnectionInfo, Exchange } from './exchange.js';
import type { Outbox } from './exchange-outbox.js';
import { countAtOnce, dueRound } from './exchange-round.js';
import { BUFFER_COST, INLINE_MAX, KIND, REQUEST_FLAG } from './native.js';

/** RFC 9113, section 7. */
const INTERNAL_ERROR = 2;

/** Where open exchanges are found by the events that name them. */
export type OpenExchanges = (EngineExchange | undefined)[];

/** An exchange over the engine. */
export class EngineExchange implements Exchange {
  readonly head: string;
  readonly #peer: { readonly info: ConnectionInfo };
  readonly #outbox: Outbox;
  readonly #open: OpenExchanges;
  readonly #index: number;
  readonly #generation: number;
  readonly #flags: number;
  readonly #bodyLength: number;
  #begun = false;
  #bodyTaken = false;
  #bodyWanted = false;
  /** Taken before an answer that may be made of it. */
  #keptBody: ArrayBuffer | undefined;
  /** We have sent the last record: the engine forgets the exchange, and so do we. */
  #released = false;
  #aborted: AbortCause | undefined;
  /** Most have one. */
  #listeners: AbortListener | AbortListener[] | undefined;
  #trailers = '';
  #inlineLeft = INLINE_MAX;
  /** Bytes that the engine had no room for yet, oldest first; `#offset` of the first were sent. */
  #pending: Uint8Array[] | undefined;
  #offset = 0;
  /** A writable event is due before more can be sent. */
  #full = false;
  /** The trailers to finish with, once nothing is pending. */
  #finish: string | undefined;
  #onWritable: ((open: boolean) => void) | undefined;
  #onReadable: (() => void) | undefined;

  constructor(
    outbox: Outbox,
    open: OpenExchanges,
    head: string,
    peer: { readonly info: ConnectionInfo },
    index: number,
    generation: number,
    flags: number,
    bodyLength: number,
  ) {
    this.#outbox = outbox;
    this.#open = open;
    this.head = head;
    this.#peer = peer;
    this.#index = index;
    this.#generation = generation;
    this.#flags = flags;
    this.#bodyLength = bodyLength;
    if ((flags & REQUEST_FLAG.hasTrailers) !== 0) this.#trailers = outbox.engine.trailers(index, generation);
  }

  get connection(): ConnectionInfo {
    return this.#peer.info;
  }

  get generation(): number {
    return this.#generation;
  }

  get released(): boolean {
    return this.#released;
  }

  get hasBody(): boolean {
    return (this.#flags & REQUEST_FLAG.hasBody) !== 0;
  }

  get streaming(): boolean {
    return (this.#flags & REQUEST_FLAG.streams) !== 0;
  }

  get isHead(): boolean {
    return (this.#flags & REQUEST_FLAG.isHead) !== 0;
  }

  get aborted(): AbortCause | undefined {
    return this.#aborted;
  }

  get gone(): boolean {
    return this.#aborted !== undefined || this.#released;
  }

  // ---- the request ----

  takeBody(): ArrayBuffer {
    const kept = this.#keptBody;
    this.#bodyTaken = true;
    this.#keptBody = undefined;
    if (kept !== undefined) return kept;
    const body = new ArrayBuffer(this.#bodyLength);
    if (this.#bodyLength > 0) {
      if (this.#released || !this.#outbox.engine.takeBody(this.#index, this.#generation, body)) throw bodyGone();
    }
    return body;
  }

  wantBody(): void {
    this.#bodyWanted = this.#bodyLength > 0 && !this.streaming;
  }

  #keepBody(): void {
    try {
      this.#keptBody = this.takeBody();
    } catch {
      // It is gone already, as whoever reads it is told.
    }
  }

  readChunk(): Chunk | Promise<Chunk> {
    const round = dueRound();
    if (round !== undefined) return round.then(() => this.readChunk());
    const chunk = this.#takeChunk();
    if (chunk === undefined) return this.#nextChunk();
    countAtOnce();
    return chunk;
  }

  async #nextChunk(): Promise<Chunk> {
    for (;;) {
      await new Promise<void>((resolve) => {
        this.#onReadable = resolve;
      });
      const chunk = this.#takeChunk();
      if (chunk !== undefined) return chunk;
    }
  }

  /** Undefined: nothing has come yet. */
  #takeChunk(): Chunk | undefined {
    const chunk = this.#released ? false : this.#outbox.engine.read(this.#index, this.#generation);
    if (this.#aborted !== undefined || chunk === false) throw bodyGone();
    // What came before the request was claimed nobody was told of.
    if (chunk === null) this.#takeTrailers();
    return chunk;
  }

  cancelBody(): void {
    if (!this.#released) this.#add(KIND.ignoreBody, '', null, -1);
  }

  #takeTrailers(): void {
    if (this.#trailers === '' && !this.#released) {
      this.#trailers = this.#outbox.engine.trailers(this.#index, this.#generation);
    }
  }

  trailerText(): string {
    if (this.streaming) this.#takeTrailers();
    return this.#trailers;
  }

  onAbort(listener: AbortListener): void {
    const listeners = this.#listeners;
    if (this.#aborted !== undefined) listener.onAbort(this.#aborted);
    else if (listeners === undefined) this.#listeners = listener;
    else if (Array.isArray(listeners)) listeners.push(listener);
    else this.#listeners = [listeners, listener];
  }

  // ---- the answer ----

  respond(status: number, fields: string, body: string | Uint8Array | null, contentLength = -1): void {
    if (this.#released || this.#begun) return;
    const suppressed = this.isHead || status === 204 || status === 304;
    if (body === null || (!suppressed && fits(body, INLINE_MAX))) {
      this.#release(KIND.respond | KIND.endFlag | (status << 16), fields, body, contentLength);
      return;
    }
    if (suppressed) {
      const length =
        contentLength >= 0 ? contentLength : typeof body === 'string' ? Buffer.byteLength(body) : body.length;
      this.#release(KIND.respond | KIND.endFlag | (status << 16), fields, null, status === 204 ? -1 : length);
      return;
    }
    const bytes = typeof body === 'string' ? Buffer.from(body) : body;
    const length = contentLength >= 0 ? contentLength : bytes.length;
    if (this.#outbox.engine.lend(bytes)) {
      this.#release(KIND.respond | KIND.endFlag | KIND.lentFlag | (status << 16), fields, null, length);
      return;
    }
    this.#begin(status, fields, length);
    this.write(bytes);
    this.finish('');
  }

  begin(status: number, fields: string, contentLength: number | undefined): void {
    if (this.#released || this.#begun) return;
    // What follows may be read out of the request's body, which the engine takes back with the head.
    if (this.#bodyWanted && !this.#bodyTaken) this.#keepBody();
    this.#begin(status, fields, contentLength ?? -1);
  }

  #begin(status: number, fields: string, contentLength: number): void {
    this.#begun = true;
    this.#add(KIND.respond | (status << 16), fields, null, contentLength);
  }

  write(chunk: string | Uint8Array): boolean {
    if (this.gone || this.#finish !== undefined) return false;
    if (chunk.length === 0) return this.#pending === undefined;
    if (this.#pending === undefined && fits(chunk, this.#inlineLeft - BUFFER_COST)) {
      this.#inlineLeft -= this.#add(KIND.write, '', chunk, -1) + BUFFER_COST;
      return true;
    }
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    if (this.#pending === undefined) this.#pending = [bytes];
    else this.#pending.push(bytes);
    this.#drain();
    return this.#pending === undefined && !this.gone;
  }

  whenWritable(): Promise<boolean> {
    if (this.gone) return Promise.resolve(false);
    if (this.#pending === undefined) return Promise.resolve(true);
    return new Promise((resolve) => {
      this.#onWritable = resolve;
    });
  }

  finish(trailers: string): void {
    if (this.#released) return;
    if (this.#pending !== undefined && this.#aborted === undefined) {
      this.#finish = trailers;
      return;
    }
    this.#release(KIND.finish, trailers, null, -1);
  }

  reset(code: number): void {
    if (!this.#released) this.#release(KIND.reset, code, null, -1);
  }

  // ---- events ----

  /** The stream has ended early. */
  abort(cause: AbortCause): void {
    if (this.#aborted !== undefined) return;
    this.#aborted = cause;
    this.#keptBody = undefined;
    // Nobody finishes what was only waiting for room.
    if (this.#finish !== undefined) this.end();
    this.#wakeAll();
    const listeners = this.#listeners;
    this.#listeners = undefined;
    if (listeners === undefined) return;
    for (const listener of Array.isArray(listeners) ? listeners : [listeners]) listener.onAbort(cause);
  }

  /** The engine has let go of the exchange. */
  end(): void {
    if (this.#released) return;
    this.#release(KIND.settle, '', null, -1);
    if (this.#aborted === undefined) this.abort('closed');
  }

  readable(hasTrailers: boolean): void {
    if (hasTrailers) this.#takeTrailers();
    const wake = this.#onReadable;
    this.#onReadable = undefined;
    wake?.();
  }

  writable(): void {
    this.#full = false;
    this.#drain();
    if (this.#pending !== undefined) return;
    const wake = this.#onWritable;
    this.#onWritable = undefined;
    wake?.(!this.gone);
  }

  /** Sends of what is pending as much as the engine takes. */
  #drain(): void {
    while (this.#pending !== undefined && !this.#full && !this.#released) {
      const bytes = this.#pending[0] as Uint8Array;
      const sent = this.#outbox.engine.write(this.#index, this.#generation, bytes, this.#offset);
      if (sent < 0) {
        // -2: the body was detached or made shorter while it was being sent. A body that looks whole and isn't must not be.
        this.#pending = undefined;
        if (sent === -1) this.end();
        else this.reset(INTERNAL_ERROR);
        return;
      }
      this.#full = true;
      this.#offset += sent;
      if (this.#offset < bytes.length || sent === 0) continue;
      this.#offset = 0;
      this.#pending.shift();
      if (this.#pending.length === 0) this.#pending = undefined;
    }
    if (this.#pending === undefined && this.#finish !== undefined) this.finish(this.#finish);
  }

  #add(kind: number, head: string | number, body: string | Uint8Array | null, contentLength: number): number {
    return this.#outbox.add(kind, this.#index, this.#generation, head, body, contentLength);
  }

  /** Adds the last record. */
  #release(kind: number, head: string | number, body: string | Uint8Array | null, contentLength: number): void {
    this.#add(kind, head, body, contentLength);
    this.#released = true;
    this.#pending = undefined;
    this.#keptBody = undefined;
    if (this.#open[this.#index] === this) this.#open[this.#index] = undefined;
    if (this.#onWritable !== undefined || this.#onReadable !== undefined) this.#wakeAll();
  }

  #wakeAll(): void {
    this.readable(false);
    const wake = this.#onWritable;
    this.#onWritable = undefined;
    wake?.(false);
  }
}

/** Whether a piece of a body has at most |bytes| bytes, as UTF-8 where it is a string. */
function fits(piece: string | Uint8Array, bytes: number): boolean {
  if (typeof piece !== 'string' || piece.length > bytes) return piece.length <= bytes;
  return piece.length * 3 <= bytes || Buffer.byteLength(piece) <= bytes;
}

function bodyGone(): AioError {
  return new AioError(
    'ERR_VALK_AIO_BODY_GONE',
    "The request's body is gone: the request has been answered, or its stream has ended",
  );
}
