import type { ConnectionInfo } from './types.js';

export type { ConnectionInfo };

/**
 * The seam between the crossing (server-dispatch.ts, which talks to the engine) and the web-standard objects
 * (request.ts, response.ts, which know nothing of it). One exchange is one request and its answer.
 */

/** Why a stream ended early. The numbers are the engine's (valk_abort_t). */
export type AbortCause = 'reset' | 'closed' | 'timeout' | 'stopped' | 'limit';

/** An object, so that who makes the answer needs no closure. */
export interface AbortListener {
  onAbort(cause: AbortCause): void;
}

/** A piece of a streamed body, with its buffer to itself, or its end. */
export type Chunk = Uint8Array<ArrayBuffer> | null;

/** The request's side, for request.ts. Everything stays correct, or throws, however late it is called. */
export interface RequestSource {
  /**
   * The head as Latin-1 text: `method\nscheme\nauthority\npath\n` and then `name\nvalue\n` for each field, names in
   * lower case, cookie crumbs joined. Copied out of the engine when the request was claimed: valid for ever.
   */
  readonly head: string;
  /** False when the request came without a body (END_STREAM on its head). */
  readonly hasBody: boolean;
  /** True with `bodyMode: 'stream'`: use `readChunk`; else `takeBody`. */
  readonly streaming: boolean;
  /**
   * Buffered mode: a copy of the whole body, made now. Throws an `AioError` (`ERR_VALK_AIO_BODY_GONE`) once the exchange's
   * answer has been taken over or its stream was reset, since the engine's memory then serves another request.
   */
  takeBody(): ArrayBuffer;
  /** Buffered mode: the body may be read while it is answered in pieces, which keeps it until then. */
  wantBody?(): void;
  /**
   * Stream mode: the next bytes, one or more, or `null` at the end; a promise of them only where none have come yet. One
   * call at a time. Throws, or rejects with, an `AioError` when the stream ended early.
   */
  readChunk(): Chunk | Promise<Chunk>;
  /** Stream mode: no more is wanted; what still comes is dropped by the engine. */
  cancelBody(): void;
  /** The trailers in the head's form (`name\nvalue\n`…), or '' while there are none: they are there once the body has ended. */
  trailerText(): string;
  /** Set once the stream has ended early. */
  readonly aborted: AbortCause | undefined;
  /** Called once when the stream ends early (at once if it has). */
  onAbort(listener: AbortListener): void;
  readonly connection: ConnectionInfo;
}

/** What `write` answers: true, go on; false, wait for `whenWritable` first. */
export type Writable = boolean;

/** The answer's side, for response.ts. Bytes and strings are copied during the call. Nothing here throws for a client that has left. */
export interface AnswerSink {
  /**
   * Sends a whole answer: the usual, quick way. `fields` is `name\nvalue\n`… in lower case, validated, without
   * `content-length`, which the engine adds from the body (HEAD, 204 and 304 suppress the body in the engine). A string is sent as UTF-8.
   * Any size: what the engine cannot take now is kept and sent as the client reads.
   * `contentLength` overrides the announced length (an answer to HEAD that says what GET would send).
   */
  respond(status: number, fields: string, body: string | Uint8Array | null, contentLength?: number): void;
  /** Sends the head of an answer whose body follows by `write`. `contentLength` undefined: none is announced. */
  begin(status: number, fields: string, contentLength: number | undefined): void;
  /** More of the body; all of it is taken. False: call again only after `whenWritable()`. */
  write(chunk: string | Uint8Array): Writable;
  /** Resolves true when `write` may be called again; false when the stream is gone. */
  whenWritable(): Promise<boolean>;
  /** The end of the body, with trailers (`name\nvalue\n`…) or ''. */
  finish(trailers: string): void;
  /** Ends the stream with RST_STREAM; `code` per RFC 9113 section 7 (2: INTERNAL_ERROR, 8: CANCEL). */
  reset(code: number): void;
  /** True when the client has left or the answer was cut: no more need be made. */
  readonly gone: boolean;
  /** True when the request's method is HEAD. */
  readonly isHead: boolean;
}

export interface Exchange extends RequestSource, AnswerSink {}
