import type { ReadableStream } from 'node:stream/web';
import type { AbortCause, RequestSource } from './exchange.js';
import { abortReason } from './request-abort.js';
import { RequestBody } from './request-body.js';
import { delegateMembers, replaceFields } from './request-delegate.js';
import { appendFields, fieldsStart, methodOf } from './request-head.js';
import { RequestHeaders } from './request-headers.js';
import { createSignal } from './request-signal.js';
import { targetUrl } from './request-url.js';
import type { AioRequest } from './types.js';

type BodyKind = 'arrayBuffer' | 'blob' | 'bytes' | 'formData' | 'json' | 'text';

/** The platform's own classes, as they were before `valk-aio/globals`. */
const NativeRequest = globalThis.Request;
const NativeResponse = globalThis.Response;
const nativePrototype: Request = NativeRequest.prototype;

/** What a fresh request is with, and whatever else has its members: a class's base that TypeScript lets us override. */
type Base = new (url?: string, init?: RequestInit) => object;

const decoder = new TextDecoder();

// Shared, so that reading a body makes no closure.
const asArrayBuffer = (body: ArrayBuffer): ArrayBuffer => body;
const asBytes = (body: ArrayBuffer): Uint8Array<ArrayBuffer> => new Uint8Array(body);
const asText = (body: ArrayBuffer): string => decoder.decode(body);
const asJson = (body: ArrayBuffer): unknown => JSON.parse(decoder.decode(body));

/** What the class below lets this module do with a request, past the private names. */
interface RequestClass {
  new (source: RequestSource, url?: string, init?: RequestInit, body?: RequestBody | null): AioRequest;
  readonly prototype: object;
  /** The platform's own request with the same contents, up to date; `undefined` for anything else. */
  native(request: unknown): Request | undefined;
}

/**
 * Requests over a source. Made twice at most: with a base that does nothing, where the platform's own request is built on
 * demand, and with the platform's `Request` as the base, where it cannot be (see `createRequest`).
 */
function defineRequest(base: Base): RequestClass {
  class SourceRequest extends base {
    readonly #source: RequestSource;
    /** The platform's own request: this object itself where the base is its class. */
    #native: Request | undefined;
    #url: string | undefined;
    #headers: Headers | undefined;
    #trailers: Headers | undefined;
    #hasTrailers = false;
    #signal: AbortSignal | undefined;
    #body: RequestBody | null | undefined;

    constructor(source: RequestSource, url?: string, init?: RequestInit, body?: RequestBody | null) {
      super(url, init);
      this.#source = source;
      this.#body = body;
      if (url !== undefined) this.#adopt(url);
    }

    static native(request: unknown): Request | undefined {
      const isOurs = typeof request === 'object' && request !== null && #native in request;
      return isOurs ? (request as SourceRequest).#upToDate() : undefined;
    }

    get method(): string {
      return methodOf(this.#source.head);
    }

    get url(): string {
      this.#url ??= targetUrl(this.#source.head);
      return this.#url;
    }

    get headers(): Headers {
      this.#headers ??= new RequestHeaders(this.#source.head) as unknown as Headers;
      return this.#headers;
    }

    get signal(): AbortSignal {
      this.#signal ??= createSignal(this.#source);
      return this.#signal;
    }

    get body(): ReadableStream | null {
      return this.#nativeBody() ?? this.#ownBody()?.stream ?? null;
    }

    get bodyUsed(): boolean {
      const native = this.#nativeBody();
      if (native !== null && native !== this.#ownBody()?.openStream) return get('bodyUsed', this.#native as Request);
      return this.#ownBody()?.used ?? false;
    }

    get trailers(): Headers {
      this.#trailers ??= new Headers();
      if (!this.#hasTrailers) {
        const text = this.#source.trailerText();
        this.#hasTrailers = text !== '';
        appendFields(this.#trailers, text, 0);
      }
      return this.#trailers;
    }

    arrayBuffer(): Promise<ArrayBuffer> {
      return this.#read('arrayBuffer', asArrayBuffer);
    }

    blob(): Promise<Blob> {
      return this.#read('blob', (body) => this.#asResponse(body).blob());
    }

    bytes(): Promise<Uint8Array<ArrayBuffer>> {
      return this.#read('bytes', asBytes);
    }

    formData(): Promise<FormData> {
      return this.#read('formData', (body) => this.#asResponse(body).formData());
    }

    json(): Promise<unknown> {
      return this.#read('json', asJson);
    }

    text(): Promise<string> {
      return this.#read('text', asText);
    }

    clone(): Request {
      this.#ownBody()?.hold();
      const copy = nativePrototype.clone.call(this.#upToDate());
      // The platform's part of this object has a signal of its own, which the copy would follow.
      return this.#isNative() ? new NativeRequest(copy, { signal: this.signal }) : copy;
    }

    #isNative(): boolean {
      return (this.#native as unknown) === this;
    }

    /** The base is the platform's class: gives its part what could not be handed to its constructor. */
    #adopt(url: string): void {
      const native = this as unknown as Request;
      this.#native = native;
      this.#url = url;
      this.#headers = get('headers', native);
      appendFields(this.#headers, this.#source.head, fieldsStart(this.#source.head));
      // Following a signal given to the constructor costs more than all the rest. Requests that are made from this
      // one listen to its platform's signal, and read no more of it than this.
      const onAbort = (cause: AbortCause): void => {
        const signal = get('signal', native);
        Object.defineProperties(signal, { aborted: { value: true }, reason: { value: abortReason(cause) } });
        signal.dispatchEvent(new Event('abort'));
      };
      this.#source.onAbort({ onAbort });
    }

    /** The platform's own request, with the headers as they are now. */
    #upToDate(): Request {
      this.#native ??= this.#build();
      const inside = get('headers', this.#native);
      if (this.#headers === undefined) this.#headers = inside;
      else if (this.#headers !== inside) replaceFields(inside, this.#headers);
      return this.#native;
    }

    #build(): Request {
      const own = this.#ownBody();
      const usable = own === null || !own.unusable;
      const init = nativeInit(this.method, usable ? own : new RequestBody(this.#source));
      init.signal = this.signal;
      const native = new NativeRequest(this.url, init);
      if (!usable) void native.body?.cancel();
      if (this.#headers === undefined) {
        appendFields(native.headers, this.#source.head, fieldsStart(this.#source.head));
      }
      return native;
    }

    #ownBody(): RequestBody | null {
      if (this.#body === undefined) this.#body = this.#source.hasBody ? new RequestBody(this.#source) : null;
      return this.#body;
    }

    /** The body inside the platform's own request: none for GET and HEAD, and another one after `clone()`. */
    #nativeBody(): ReadableStream | null {
      return this.#native === undefined ? null : get('body', this.#native);
    }

    #read<Result>(kind: BodyKind, convert: (body: ArrayBuffer) => Result): Promise<Awaited<Result>> {
      const own = this.#ownBody();
      const native = this.#nativeBody();
      if (native !== null && native !== own?.openStream) {
        return readNative(kind, this.#native as Request) as Promise<Awaited<Result>>;
      }
      if (own !== null) return own.read(convert);
      try {
        return Promise.resolve(convert(new ArrayBuffer(0)));
      } catch (error) {
        return Promise.reject(error);
      }
    }

    /** For the parsers of the platform, which ask for no more than the type. */
    #asResponse(body: ArrayBuffer): Response {
      const type = this.headers.get('content-type');
      return new NativeResponse(body, type === null ? undefined : { headers: { 'content-type': type } });
    }
  }
  // What `constructor` is belongs to the class in whose place this one stands.
  Reflect.deleteProperty(SourceRequest.prototype, 'constructor');
  return SourceRequest as unknown as RequestClass;
}

/** Reads one of the platform's own getters, past ours. */
function get<Name extends keyof Request>(name: Name, request: Request): Request[Name] {
  return Reflect.get(nativePrototype, name, request);
}

function readNative(kind: BodyKind, native: Request): Promise<unknown> {
  if (kind !== 'bytes') return nativePrototype[kind].call(native);
  return nativePrototype.arrayBuffer.call(native).then((buffer) => new Uint8Array(buffer));
}

/** Methods that the platform's constructor refuses (Fetch, section 2.2.1): its own request then says GET, ours the truth. */
const FORBIDDEN_METHOD = /^(?:CONNECT|TRACE|TRACK)$|[^!#$%&'*+\-.^_`|~\w]|^$/i;

/** The platform's constructor takes no body with these. */
const BODILESS_METHOD = /^(?:GET|HEAD)$/i;

function nativeInit(method: string, body: RequestBody | null): RequestInit {
  if (FORBIDDEN_METHOD.test(method)) return {};
  if (body === null || BODILESS_METHOD.test(method)) return { method };
  return { method, body: body.stream, duplex: 'half' };
}

/** A base that makes nothing, whose instances are `instanceof Request` all the same. */
function Blank(): void {}
Blank.prototype = nativePrototype;

const LazyRequest = defineRequest(Blank as unknown as Base);
// Where the platform keeps its state under symbols (Node 20 and 22), these make `new Request(lazy)` and `fetch(lazy)` work.
delegateMembers(LazyRequest.prototype, nativePrototype, new NativeRequest('http://localhost'), LazyRequest.native);

/** Whether the platform's own constructor takes a lazy request for one of its own. Not where its state is private (Node 24). */
function platformTakesLazy(): boolean {
  const probe = { head: 'PUT\nhttps\nlocalhost\n/\nprobe\n1\n', hasBody: false, onAbort() {} };
  try {
    const copy = new NativeRequest(new LazyRequest(probe as unknown as RequestSource) as Request);
    return copy.method === 'PUT' && copy.url === 'https://localhost/' && copy.headers.get('probe') === '1';
  } catch {
    return false;
  }
}

/**
 * Whether lazy requests go wherever the platform's own do. Where not, `createRequest` makes one of the platform's own
 * each time, unless `valk-aio/globals` puts a constructor in place that takes lazy ones.
 */
export const lazyRequestsPass = platformTakesLazy();

let makesLazy = lazyRequestsPass;
let EagerRequest: RequestClass | undefined;

/**
 * Makes the request that a handler gets. Lazy where that goes unnoticed: one small object, the rest when it is touched.
 * Else it is one of the platform's own from the start, which costs some microseconds.
 *
 * @param source - one whose head `hasValidTarget` found good
 */
export function createRequest(source: RequestSource): AioRequest {
  if (makesLazy) return new LazyRequest(source);
  EagerRequest ??= defineRequest(NativeRequest as unknown as Base);
  const body = source.hasBody ? new RequestBody(source) : null;
  const method = methodOf(source.head);
  const init = method === 'GET' ? undefined : nativeInit(method, body);
  return new EagerRequest(source, targetUrl(source.head), init, body);
}

/**
 * The platform's own request behind a lazy one, built now if need be; anything else as it is. For constructors that stand
 * in for the platform's (`valk-aio/globals`).
 */
export function unwrapRequest<Input>(input: Input): Input | Request {
  return LazyRequest.native(input) ?? input;
}

/**
 * Makes all further requests lazy, and instances of |requestClass|, which takes them apart with `unwrapRequest`. For
 * `valk-aio/globals`.
 */
export function adoptRequestClass(requestClass: { readonly prototype: object }): void {
  Object.setPrototypeOf(LazyRequest.prototype, requestClass.prototype);
  makesLazy = true;
}
