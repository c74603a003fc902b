import type { Exchange } from './exchange.js';
import { describeValue } from './limits.js';
import { isPlainObject } from './options.js';
import { abortReason } from './request-abort.js';
import { asBytes, BodyWriter, type ChunkResult, type ChunkSource, openChunks } from './response-body.js';
import { checkBounds, rendered, renderFields, renderTrailers, responseError } from './response-headers.js';
import { LightResponse } from './response-light.js';
import { isNativeResponse, takeNativeBody } from './response-native.js';
import type { AioResponse } from './types.js';

/** Where an answer goes, and the bounds that it is held to. */
export interface AnswerTarget {
  readonly exchange: Exchange;
  /** The bound of bodies given whole, in bytes, or `Infinity`. */
  readonly maxResponseBodySize: number;
  /** Whether streamed bodies are held to it too. */
  readonly limitStreams: boolean;
  /** Answers 500 and reports why: for what is found when `sendAnswer` has returned and no head is out. Never throws. */
  fail(error: unknown): void;
  /** Reports why a stream was reset when the head was out. Never throws. */
  report(error: unknown): void;
}

/** An answer's head. */
interface Head {
  readonly status: number;
  /** `name\nvalue\n`…, without `content-length`. */
  readonly fields: string;
  /** The `content-length` that the handler gave, in bytes; -1 for none. */
  readonly contentLength: number;
  readonly hasContentType: boolean;
}

type Trailers = NonNullable<AioResponse['trailers']>;
type TrailersFunction = Extract<Trailers, (...args: never) => unknown>;

const MEMBERS: readonly string[] = ['status', 'headers', 'body', 'trailers'];

/** RFC 9113, section 7. */
const INTERNAL_ERROR = 2;

/**
 * How often the microtask queue may go round before a `Response`'s body counts as streamed. One that was made of a string
 * or bytes is at its end within three rounds.
 */
const WHOLE_BODY_ROUNDS = 8;

/**
 * Sends what a handler returned.
 *
 * @throws before anything was sent, when it is no answer or breaks HTTP or a bound; the body is then the caller's to end.
 *   What goes wrong later goes to the target's `fail` or `report`.
 */
export function sendAnswer(target: AnswerTarget, result: unknown): void {
  if (typeof result !== 'object' || result === null) throw noAnswer(result);
  const light = LightResponse.take(result);
  if (light !== undefined) {
    checkStatus(light.status);
    // Again: it may have got its content-type since.
    checkBounds(light.fields);
    if (light.body === null) sendNothing(target.exchange, light.status, light.fields, light.contentLength);
    else sendWhole(target, light.status, light.fields, light.contentLength, light.body, undefined);
    return;
  }
  const { status: given, headers, body, trailers } = result as AioResponse;
  if (given === undefined) checkPlain(result, headers !== undefined || body !== undefined);
  else checkStatus(given);
  const status = given ?? 200;
  const fields = renderFields(headers);
  const { contentLength, hasContentType } = rendered;
  if (typeof body === 'string') {
    sendWhole(target, status, fields, contentLength, body, trailers);
  } else if (body === undefined || body === null) {
    if (trailers === undefined) sendNothing(target.exchange, status, fields, contentLength);
    else sendWhole(target, status, fields, contentLength, '', trailers);
  } else {
    // Bytes of a plain object, before anything is asked of the platform's classes.
    const bytes = body instanceof ArrayBuffer || ArrayBuffer.isView(body) ? asBytes(body) : undefined;
    if (bytes !== undefined) sendWhole(target, status, fields, contentLength, bytes, trailers);
    else sendOther(target, { status, fields, contentLength, hasContentType }, body, trailers, result);
  }
}

function checkStatus(status: unknown): void {
  if (typeof status !== 'number') throw new TypeError(`status must be a number, not ${describeValue(status)}`);
  if (!Number.isInteger(status) || status < 200 || status > 599) {
    throw responseError(`status must be between 200 and 599, not ${status}`);
  }
}

/** Without a status only a plain object is an answer, and one without anything only when it holds nothing else. */
function checkPlain(result: object, saysSomething: boolean): void {
  if (!isPlainObject(result)) throw noAnswer(result);
  if (!saysSomething && !Object.keys(result).every((name) => MEMBERS.includes(name))) throw noAnswer(result);
}

function noAnswer(result: unknown): TypeError {
  const wanted = 'a Response, or an object with a status, headers or a body';
  return new TypeError(`A handler must return ${wanted}, not ${describe(result)}`);
}

function describe(value: unknown): string {
  return typeof value === 'object' && value !== null ? Object.prototype.toString.call(value) : describeValue(value);
}

/** Statuses whose answers have no content (RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5). */
function isBodiless(status: number): boolean {
  return status === 204 || status === 205 || status === 304;
}

/** An answer without a body, or one whose body is not sent. */
function sendNothing(exchange: Exchange, status: number, fields: string, contentLength: number): void {
  if (isBodiless(status)) {
    // Of the three, 304 alone may tell a length: that of the answer which it stands for (RFC 9110, section 8.6).
    exchange.respond(status, fields, null, status === 304 && contentLength !== -1 ? contentLength : undefined);
  } else if (!exchange.isHead) {
    if (contentLength > 0) throw responseError(`content-length is ${contentLength}, but there is no body`);
    exchange.respond(status, fields, null);
  } else if (contentLength !== -1) {
    exchange.respond(status, fields, null, contentLength);
  } else {
    // Of a body that is unknown the length is unknown too: `respond` would say 0.
    exchange.begin(status, fields, undefined);
    exchange.finish('');
  }
}

function sendWhole(
  target: AnswerTarget,
  status: number,
  fields: string,
  contentLength: number,
  body: string | Uint8Array,
  trailers: Trailers | undefined,
): void {
  const { exchange, maxResponseBodySize } = target;
  // A detached array has no bytes, and throws where it is copied.
  if (body.length === 0) body = '';
  // A UTF-16 unit takes three bytes at most.
  if (body.length * 3 > maxResponseBodySize && byteLength(body) > maxResponseBodySize) {
    throw responseError(`The body has more than maxResponseBodySize, ${maxResponseBodySize} bytes`);
  }
  if (isBodiless(status)) {
    sendNothing(exchange, status, fields, contentLength);
    return;
  }
  if (contentLength !== -1 && contentLength !== byteLength(body)) {
    throw responseError(`content-length is ${contentLength}, but the body has ${byteLength(body)} bytes`);
  }
  if (trailers === undefined || exchange.isHead) {
    exchange.respond(status, fields, body);
    return;
  }
  const early = earlyTrailers(trailers);
  exchange.begin(status, fields, byteLength(body));
  if (body.length > 0) exchange.write(body);
  void finish(target, early);
}

function byteLength(body: string | Uint8Array): number {
  return typeof body === 'string' ? Buffer.byteLength(body) : body.byteLength;
}

/** Trailers that are known before the body, rendered, so that bad ones are found while there is a 500 to give. */
function earlyTrailers(trailers: Trailers | undefined): string | TrailersFunction {
  return typeof trailers === 'function' ? trailers : renderTrailers(trailers);
}

function sendOther(
  target: AnswerTarget,
  head: Head,
  body: object,
  trailers: Trailers | undefined,
  result: object,
): void {
  const response = LightResponse.native(result) ?? result;
  const isResponse = isNativeResponse(response);
  const whole = (isResponse ? takeNativeBody(response) : undefined) ?? asBytes(body);
  if (whole !== undefined) sendWhole(target, head.status, head.fields, head.contentLength, whole, trailers);
  else if (body instanceof Blob) sendBlob(target, head, body, trailers);
  else sendStream(target, head, body, trailers, isResponse);
}

function sendBlob(target: AnswerTarget, head: Head, blob: Blob, trailers: Trailers | undefined): void {
  const { exchange, maxResponseBodySize } = target;
  const { status, contentLength } = head;
  const { size } = blob;
  if (size > maxResponseBodySize) {
    throw responseError(`The body has more than maxResponseBodySize, ${maxResponseBodySize} bytes`);
  }
  const typed = head.hasContentType || blob.type === '';
  const fields = typed ? head.fields : head.fields + renderFields({ 'content-type': blob.type });
  checkBounds(fields);
  if (isBodiless(status)) {
    sendNothing(exchange, status, fields, contentLength);
    return;
  }
  if (contentLength !== -1 && contentLength !== size) {
    throw responseError(`content-length is ${contentLength}, but the body has ${size} bytes`);
  }
  if (exchange.isHead) sendNothing(exchange, status, fields, size);
  else sendStream(target, { ...head, fields, contentLength: size }, blob.stream(), trailers, false);
}

function sendStream(
  target: AnswerTarget,
  head: Head,
  body: object,
  trailers: Trailers | undefined,
  maybeWhole: boolean,
): void {
  const { exchange } = target;
  // Before the body is opened: what throws until then leaves it to the caller.
  const early = earlyTrailers(trailers);
  const chunks = openChunks(body);
  if (chunks === undefined) {
    throw new TypeError(`A body must be a string, bytes, a Blob, a stream or an iterable, not ${describe(body)}`);
  }
  if (isBodiless(head.status) || (exchange.isHead && !maybeWhole)) {
    sendNothing(exchange, head.status, head.fields, head.contentLength);
    chunks.cancel(noContent());
    return;
  }
  const stream = new AnswerStream(target, head, chunks, early);
  if (maybeWhole) void stream.runFromResponse();
  else void stream.run();
}

function noContent(): DOMException {
  return new DOMException('The answer has no content', 'AbortError');
}

/** Sends the trailers, where they are known by now or a function makes them. */
async function finish(target: AnswerTarget, trailers: string | TrailersFunction): Promise<void> {
  try {
    target.exchange.finish(typeof trailers === 'string' ? trailers : renderTrailers(await trailers()));
  } catch (error) {
    giveUp(target, error);
  }
}

/** The head is out, and what was to follow cannot. */
function giveUp(target: AnswerTarget, error: unknown): void {
  // What fails because the client has left is no news.
  if (target.exchange.gone) return;
  target.exchange.reset(INTERNAL_ERROR);
  target.report(error);
}

/** An answer whose body comes in pieces. Nothing that it runs rejects. */
class AnswerStream {
  readonly #target: AnswerTarget;
  readonly #head: Head;
  readonly #chunks: ChunkSource;
  readonly #trailers: string | TrailersFunction;

  constructor(target: AnswerTarget, head: Head, chunks: ChunkSource, trailers: string | TrailersFunction) {
    this.#target = target;
    this.#head = head;
    this.#chunks = chunks;
    this.#trailers = trailers;
  }

  /**
   * Sends the head, then the body as it comes.
   *
   * @param first - pieces that are there already
   * @param pending - the piece after those, where it has been asked for
   */
  async run(first?: unknown, pending?: Promise<ChunkResult> | ChunkResult): Promise<void> {
    const { exchange, limitStreams, maxResponseBodySize } = this.#target;
    const { status, fields, contentLength } = this.#head;
    try {
      exchange.begin(status, fields, contentLength === -1 ? undefined : contentLength);
      exchange.onAbort({ onAbort: (cause) => this.#chunks.cancel(abortReason(cause)) });
      const maxBytes = limitStreams ? maxResponseBodySize : Number.POSITIVE_INFINITY;
      const writer = new BodyWriter(exchange, { contentLength, maxBytes });
      if (first !== undefined) writer.write(first);
      if (await writer.pump(this.#chunks, pending)) await finish(this.#target, this.#trailers);
      else this.#chunks.cancel(abortReason(exchange.aborted ?? 'closed'));
    } catch (error) {
      this.#chunks.cancel(error);
      giveUp(this.#target, error);
    }
  }

  /** The same for a `Response`, whose body may be whole after all: then it is sent as such, with its length. */
  async runFromResponse(): Promise<void> {
    const target = this.#target;
    const { status, fields, contentLength } = this.#head;
    let first: unknown;
    let pending: Promise<ChunkResult> | ChunkResult;
    try {
      pending = this.#chunks.next();
      let latest = await soon(pending);
      if (latest !== undefined && !latest.done) {
        first = latest.value;
        pending = this.#chunks.next();
        latest = await soon(pending);
      }
      if (latest?.done) {
        sendWhole(target, status, fields, contentLength, wholeChunk(first), undefined);
        return;
      }
      if (target.exchange.isHead) {
        sendNothing(target.exchange, status, fields, contentLength);
        this.#chunks.cancel(noContent());
        return;
      }
    } catch (error) {
      this.#chunks.cancel(error);
      target.fail(error);
      return;
    }
    await this.run(first, pending);
  }
}

/**
 * What comes within a few rounds of the microtask queue.
 *
 * @returns `undefined` when nothing did
 */
async function soon(pending: Promise<ChunkResult> | ChunkResult): Promise<ChunkResult | undefined> {
  let settled = false;
  const settle = () => {
    settled = true;
  };
  Promise.resolve(pending).then(settle, settle);
  for (let round = 0; round < WHOLE_BODY_ROUNDS && !settled; round += 1) await undefined;
  return settled ? pending : undefined;
}

function wholeChunk(value: unknown): string | Uint8Array {
  const whole = value === undefined ? '' : typeof value === 'string' ? value : asBytes(value);
  if (whole === undefined) throw new TypeError('A body must be made of strings or bytes');
  return whole;
}
