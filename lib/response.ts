import { AioError } from './errors.js';
import type { AbortCause, AbortListener, Exchange } from './exchange.js';
import { createRequest } from './request.js';
import { ConnectionView } from './request-connection.js';
import { hasValidTarget } from './request-url.js';
import { discardBody } from './response-body.js';
import { type AnswerTarget, sendAnswer } from './response-send.js';
import type { AioRequest, AioResponse, Handler, OnError } from './types.js';

/** What answers a server's requests. */
export interface ServerContext {
  readonly handler: Handler;
  /** `undefined`: standard error. */
  readonly onError: OnError | undefined;
  /** The bound of bodies given whole, in bytes, or `Infinity`. */
  readonly maxResponseBodySize: number;
  /** Whether streamed bodies are held to it too. */
  readonly limitStreams: boolean;
  /** Whether the handler can see its request; found out with the first one. */
  takesRequest?: boolean;
}

const PLAIN_TEXT = 'content-type\ntext/plain; charset=utf-8\n';

/** The platform's own, which waits for a promise whose `then` was replaced as `await` does. */
const promiseThen = Promise.prototype.then;

/** RFC 9113, section 7. */
const CANCEL = 8;

/** An arrow function without parameters: it has no `arguments` either. */
const TAKES_NOTHING = /^(?:async\s*)?\(\s*\)\s*=>/;

/**
 * Calls a server's handler for a request and sends its answer (specification, section 3). Returns when a synchronous
 * handler has, and never throws.
 *
 * Whatever happens, the exchange gets exactly one `respond`, `begin` or `reset` when the handler has settled, also when
 * the client has left meanwhile.
 */
export function runHandler(exchange: Exchange, server: ServerContext): void {
  if (!hasValidTarget(exchange.head)) {
    exchange.respond(400, PLAIN_TEXT, 'Bad Request\n');
    return;
  }
  const { handler } = server;
  const call = new Call(exchange, server);
  let result: unknown;
  try {
    server.takesRequest ??= !TAKES_NOTHING.test(Function.prototype.toString.call(handler));
    if (server.takesRequest) result = handler(call.request, new ConnectionView(exchange));
    else result = (handler as () => unknown)();
    if (!isThenable(result)) {
      sendAnswer(call, result);
      return;
    }
  } catch (error) {
    call.fail(error, result);
    return;
  }
  settle(call, result);
}

/** Waits for an asynchronous handler, then sends its answer. Never throws. */
function settle(call: Call, promise: PromiseLike<unknown>): void {
  call.exchange.onAbort(call);
  try {
    // Not an asynchronous function: that makes one promise more, and takes twice the memory.
    promiseThen.call(
      Promise.resolve(promise),
      (result) => answer(call, result),
      (error) => giveUp(call, error),
    );
  } catch (error) {
    giveUp(call, error);
  }
}

function answer(call: Call, result: unknown): void {
  const { exchange } = call;
  call.settled = true;
  if (exchange.gone) {
    discardAnswer(result, new DOMException('The client has left', 'AbortError'));
    exchange.reset(CANCEL);
    return;
  }
  try {
    sendAnswer(call, result);
  } catch (error) {
    call.fail(error, result);
  }
}

function giveUp(call: Call, error: unknown): void {
  call.settled = true;
  call.fail(error);
}

/** One call of a handler. */
class Call implements AnswerTarget, AbortListener {
  readonly exchange: Exchange;
  readonly #server: ServerContext;
  #request: AioRequest | undefined;
  settled = false;

  constructor(exchange: Exchange, server: ServerContext) {
    this.exchange = exchange;
    this.#server = server;
  }

  get maxResponseBodySize(): number {
    return this.#server.maxResponseBodySize;
  }

  get limitStreams(): boolean {
    return this.#server.limitStreams;
  }

  get request(): AioRequest {
    this.#request ??= createRequest(this.exchange);
    return this.#request;
  }

  onAbort(cause: AbortCause): void {
    if (this.settled || cause !== 'timeout') return;
    this.report(new AioError('ERR_VALK_AIO_HANDLER_TIMEOUT', 'The handler took longer than handlerTimeoutMs'));
  }

  /**
   * Answers 500 and reports why.
   *
   * @param error - what was thrown
   * @param result - what the handler returned, where it did
   */
  fail(error: unknown, result?: unknown): void {
    discardAnswer(result, error);
    const { exchange } = this;
    // Asked for before the answer: after it every exchange is gone.
    const { gone } = exchange;
    if (gone) exchange.reset(CANCEL);
    else exchange.respond(500, PLAIN_TEXT, 'Internal Server Error\n');
    // A handler that gives up because its client has left does as it should.
    if (!gone || !isEarlyEnd(error)) this.report(error);
  }

  report(error: unknown): void {
    const { onError } = this.#server;
    try {
      const outcome: unknown = (onError ?? writeError)(error, this.request);
      if (isThenable(outcome)) Promise.resolve(outcome).catch(() => {});
    } catch {
      // Specification, section 3: what onError throws is ignored.
    }
  }
}

/** Ends the body of an answer that will not be sent. Never throws. */
function discardAnswer(result: unknown, reason: unknown): void {
  if (typeof result !== 'object' || result === null) return;
  try {
    discardBody((result as AioResponse).body, reason);
  } catch {
    // The answer's own getter has thrown before, or does now.
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}

/** Whether an error says that a request has ended early: `signal`'s reason, or what reading its body throws then. */
function isEarlyEnd(error: unknown): boolean {
  if (error instanceof AioError) return true;
  return error instanceof DOMException && (error.name === 'AbortError' || error.name === 'TimeoutError');
}

function writeError(error: unknown, request: Request): void {
  console.error(`valk-aio: ${request.method} ${request.url}`, error);
}
