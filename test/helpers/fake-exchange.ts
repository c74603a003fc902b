import { AioError } from '../../lib/errors.js';
import type { AbortCause, AbortListener, Chunk, Exchange } from '../../lib/exchange.js';
import { runHandler, type ServerContext } from '../../lib/response.js';
import type { ConnectionInfo } from '../../lib/types.js';

/** What a request of a {@link FakeExchange} brings. */
export interface FakeRequest {
  readonly method?: string;
  readonly scheme?: string;
  readonly authority?: string;
  readonly path?: string;
  readonly fields?: readonly (readonly [name: string, value: string])[];
  /** In buffered mode the whole; in stream mode pieces, of which a function gives each when it is asked for. */
  readonly body?: string | Uint8Array | readonly (string | Uint8Array | Promise<string>)[];
  readonly streaming?: boolean;
  /** Fields that are there once the body has been read to its end. */
  readonly trailers?: string;
}

/** An answer as a client would have it, once it has ended. */
export interface FakeAnswer {
  readonly status: number;
  readonly fields: readonly (readonly [name: string, value: string])[];
  readonly headers: Headers;
  /** As announced; `undefined` when it was not. */
  readonly contentLength: number | undefined;
  readonly body: Uint8Array;
  readonly text: string;
  readonly trailers: string;
  /** Whether it came by `respond`. */
  readonly whole: boolean;
}

export const CONNECTION: ConnectionInfo = {
  remoteAddress: '192.0.2.1',
  remotePort: 40_000,
  localAddress: '192.0.2.2',
  localPort: 8443,
  tls: {
    version: 'TLSv1.3',
    cipher: 'TLS_AES_128_GCM_SHA256',
    servername: 'localhost',
    authorized: false,
    authorizationError: undefined,
    peerCertificate: undefined,
  },
};

const encoder = new TextEncoder();

/**
 * Stands for the engine: holds its side of the seam in `exchange.ts` to what that says, and fails loudly where ours breaks
 * it (two answers, bytes after the end, a write while a wait is due).
 */
export class FakeExchange implements Exchange {
  readonly head: string;
  readonly hasBody: boolean;
  readonly streaming: boolean;
  readonly isHead: boolean;
  aborted: AbortCause | undefined;
  /** How often the connection was asked for. */
  connectionReads = 0;
  /** Whether the handler said that it wants no more of the body. */
  bodyCancelled = false;
  bodiesTaken = 0;
  chunksRead = 0;
  /** Each `write`, as it came. */
  readonly writes: Uint8Array[] = [];
  /** The code of RST_STREAM. */
  resetCode: number | undefined;
  /** How many bytes `write` takes before it says "wait"; after each wait as many again. */
  window = Number.POSITIVE_INFINITY;

  readonly #pieces: (string | Uint8Array | Promise<string>)[];
  readonly #trailers: string;
  readonly #listeners: AbortListener[] = [];
  #answer: { status: number; fields: string; contentLength: number | undefined; whole: boolean } | undefined;
  #answerTrailers = '';
  #ended = false;
  #settled = false;
  #credit = Number.POSITIVE_INFINITY;
  #wait: { promise: Promise<boolean>; resolve: (writable: boolean) => void } | undefined;
  #violation: Error | undefined;
  #done: () => void = () => {};
  readonly #whenDone = new Promise<void>((resolve) => {
    this.#done = resolve;
  });

  constructor(request: FakeRequest = {}) {
    const { method = 'GET', scheme = 'https', authority = 'localhost:8443', path = '/', fields = [], body } = request;
    const lines = [method, scheme, authority, path, ...fields.flat()];
    this.head = lines.map((line) => `${line}\n`).join('');
    this.isHead = method === 'HEAD';
    this.hasBody = body !== undefined;
    this.streaming = request.streaming ?? false;
    this.#pieces = body === undefined ? [] : Array.isArray(body) ? [...body] : [body as string | Uint8Array];
    this.#trailers = request.trailers ?? '';
  }

  get gone(): boolean {
    return this.aborted !== undefined || this.resetCode !== undefined;
  }

  get connection(): ConnectionInfo {
    this.connectionReads += 1;
    return CONNECTION;
  }

  takeBody(): ArrayBuffer {
    if (this.streaming) throw this.#violate('takeBody in stream mode');
    if (this.#settled || this.gone) throw new AioError('ERR_VALK_AIO_BODY_GONE', 'The body is gone');
    this.bodiesTaken += 1;
    const [piece = ''] = this.#pieces;
    return Uint8Array.from(toBytes(piece as string | Uint8Array)).buffer;
  }

  readChunk(): Chunk | Promise<Chunk> {
    if (!this.streaming) throw this.#violate('readChunk in buffered mode');
    if (this.gone) throw new AioError('ERR_VALK_AIO_BODY_GONE', 'The stream has ended early');
    this.chunksRead += 1;
    const piece = this.#pieces.shift();
    return piece instanceof Promise ? piece.then(toChunk) : toChunk(piece);
  }

  cancelBody(): void {
    if (!this.streaming) throw this.#violate('cancelBody in buffered mode');
    this.bodyCancelled = true;
  }

  trailerText(): string {
    return this.streaming && this.#pieces.length > 0 ? '' : this.#trailers;
  }

  onAbort(listener: AbortListener): void {
    if (this.aborted === undefined) this.#listeners.push(listener);
    else listener.onAbort(this.aborted);
  }

  respond(status: number, fields: string, body: string | Uint8Array | null, contentLength?: number): void {
    this.#settle('respond');
    if (this.gone) return;
    const bytes = toBytes(body ?? '');
    const bodiless = status === 204 || status === 304;
    // As the engine announces it.
    const length = contentLength ?? (bodiless ? undefined : bytes.byteLength);
    this.#answer = { status, fields, contentLength: length, whole: true };
    if (!this.isHead && !bodiless) this.writes.push(Uint8Array.from(bytes));
    this.#end();
  }

  begin(status: number, fields: string, contentLength: number | undefined): void {
    this.#settle('begin');
    if (this.gone) return;
    this.#answer = { status, fields, contentLength, whole: false };
    this.#credit = this.window;
  }

  write(chunk: string | Uint8Array): boolean {
    if (this.#answer === undefined && !this.gone) throw this.#violate('write before begin');
    if (this.#wait !== undefined) throw this.#violate('write while a wait was due');
    if (this.gone) return false;
    if (this.#ended) throw this.#violate('write after the end');
    const bytes = toBytes(chunk);
    if (bytes.byteLength === 0) throw this.#violate('an empty write');
    this.writes.push(Uint8Array.from(bytes));
    this.#credit -= bytes.byteLength;
    if (this.#credit > 0) return true;
    let resolve: (writable: boolean) => void = () => {};
    const promise = new Promise<boolean>((settle) => {
      resolve = settle;
    });
    this.#wait = { promise, resolve };
    return false;
  }

  whenWritable(): Promise<boolean> {
    if (this.gone) return Promise.resolve(false);
    return this.#wait?.promise ?? Promise.resolve(true);
  }

  finish(trailers: string): void {
    if (this.gone) return;
    if (this.#answer === undefined || this.#ended) throw this.#violate('finish without begin, or twice');
    this.#answerTrailers = trailers;
    this.#end();
  }

  reset(code: number): void {
    this.#settled = true;
    if (this.#ended) throw this.#violate('reset after the end');
    this.resetCode ??= code;
    this.#end();
  }

  /** The client has read: `write` may go on. */
  drain(): void {
    const wait = this.#wait;
    this.#wait = undefined;
    this.#credit = this.window;
    wait?.resolve(true);
  }

  /** The stream ends early. */
  abort(cause: AbortCause): void {
    this.aborted = cause;
    this.#wait?.resolve(false);
    for (const listener of this.#listeners.splice(0)) listener.onAbort(cause);
  }

  /** Whether the handler's side has told that it has settled. */
  get settled(): boolean {
    return this.#settled;
  }

  /** Resolves when the answer has ended, whole or by a reset. */
  async ended(): Promise<void> {
    await this.#whenDone;
    if (this.#violation !== undefined) throw this.#violation;
  }

  /** The answer, once it has ended. */
  async answer(): Promise<FakeAnswer> {
    await this.ended();
    if (this.#answer === undefined || this.resetCode !== undefined) throw new Error(`reset with ${this.resetCode}`);
    const { status, fields, contentLength, whole } = this.#answer;
    const pairs = toPairs(fields);
    const body = Buffer.concat(this.writes);
    return {
      status,
      fields: pairs,
      headers: new Headers(pairs.map(([name, value]) => [name, value])),
      contentLength,
      body,
      text: body.toString(),
      trailers: this.#answerTrailers,
      whole,
    };
  }

  #settle(name: string): void {
    if (this.#settled) throw this.#violate(`${name} after an answer`);
    this.#settled = true;
  }

  #end(): void {
    this.#ended = true;
    this.#done();
  }

  #violate(message: string): Error {
    this.#violation = new Error(message);
    this.#done();
    return this.#violation;
  }
}

function toChunk(piece: string | Uint8Array | undefined): Chunk {
  return piece === undefined ? null : Uint8Array.from(toBytes(piece));
}

function toBytes(value: string | Uint8Array): Uint8Array {
  return typeof value === 'string' ? encoder.encode(value) : value;
}

function toPairs(fields: string): [string, string][] {
  const lines = fields.split('\n');
  const pairs: [string, string][] = [];
  for (let line = 0; line + 1 < lines.length; line += 2) pairs.push([lines[line] ?? '', lines[line + 1] ?? '']);
  return pairs;
}

/** A server that keeps what `onError` was told. */
export interface FakeServer extends ServerContext {
  readonly errors: unknown[];
  readonly failedRequests: Request[];
}

/** A handler, which may return anything. */
// biome-ignore lint/suspicious/noExplicitAny: tests return what no handler should
export type AnyHandler = (...args: any[]) => any;

export function fakeServer(handler: AnyHandler, options: Partial<ServerContext> = {}): FakeServer {
  const errors: unknown[] = [];
  const failedRequests: Request[] = [];
  const onError = (error: unknown, request: Request) => {
    errors.push(error);
    failedRequests.push(request);
  };
  return {
    handler,
    onError,
    maxResponseBodySize: 64 * 1024 * 1024,
    limitStreams: false,
    ...options,
    errors,
    failedRequests,
  };
}

/** Runs a handler for one request and gives its answer. */
export async function ask(handler: AnyHandler | FakeServer, request: FakeRequest = {}): Promise<FakeAnswer> {
  const server = typeof handler === 'function' ? fakeServer(handler) : handler;
  const exchange = new FakeExchange(request);
  runHandler(exchange, server);
  const answer = await exchange.answer();
  if (typeof handler === 'function' && server.errors.length > 0) throw server.errors[0];
  return answer;
}
