import { delegateMembers, replaceFields } from './request-delegate.js';
import { appendFields } from './request-head.js';
import { asBytes } from './response-body.js';
import { rendered, renderFields } from './response-headers.js';
import type { HeadersInput } from './types.js';

const NativeResponse = globalThis.Response;
const nativePrototype: Response = NativeResponse.prototype;

/** RFC 9112, section 4: what a status text may hold. */
const STATUS_TEXT = /^[\t -~\x80-\xff]*$/;

/** What a light response was made of. */
export interface LightParts {
  readonly status: number;
  readonly statusText: string;
  /** `name\nvalue\n`…, without a `content-length`. */
  readonly fields: string;
  /** The `content-length` that was given; -1 for none. */
  readonly contentLength: number;
  readonly body: string | Uint8Array | null;
  used: boolean;
}

/** A base that makes nothing, whose instances are `instanceof Response` all the same. */
function Blank(): void {}
Blank.prototype = nativePrototype;

const isAbove = Object.prototype.isPrototypeOf;

/**
 * A `Response` that keeps what it was made of: the platform's own is built when something other than the status and
 * headers is asked for, or at once for what is not simple (streams, blobs, forms, bad values, which it then refuses).
 */
export class LightResponse extends (Blank as unknown as new () => object) {
  readonly #parts: LightParts | undefined;
  #headers: Headers | undefined;
  #native: Response | undefined;

  /**
   * @param body - as for `Response`
   * @param init - as for `Response`
   * @param type - the `content-type` of a string that comes without one
   */
  constructor(body?: unknown, init?: ResponseInit, type = 'text/plain;charset=UTF-8') {
    super();
    const given = repeatable(init);
    this.#parts = partsOf(body, given, type);
    if (this.#parts === undefined) this.#native = new NativeResponse(body as BodyInit, given);
  }

  /** Like the platform's; where that is in place of the global one, its own responses count as well. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: a subclass inherits this, and asks for itself
    if (this === LightResponse) return value instanceof NativeResponse;
    // biome-ignore lint/complexity/noThisInStatic: as above
    return Function.prototype[Symbol.hasInstance].call(this, value);
  }

  static json(data: unknown, init?: ResponseInit): object {
    const text: string | undefined = JSON.stringify(data);
    const given = repeatable(init);
    if (text !== undefined) {
      const light = new LightResponse(text, given, 'application/json');
      if (light.#parts !== undefined) return light;
    }
    // The platform's own says what is wrong.
    return NativeResponse.json(data, given);
  }

  /**
   * Takes the parts of a response to be sent, where no more was made of it than that.
   *
   * @returns `undefined` for everything else, which answers through its members
   * @throws TypeError when it was sent before
   */
  static take(response: object): LightParts | undefined {
    // Most are none, which V8 finds out without a call; getPrototypeOf of objects of many kinds takes one.
    if (!isAbove.call(LightResponse.prototype, response)) return undefined;
    // A subclass may answer with members of its own.
    if (Object.getPrototypeOf(response) !== LightResponse.prototype) return undefined;
    const light = response as LightResponse;
    const parts = light.#parts;
    if (parts === undefined || light.#native !== undefined) return undefined;
    if (parts.used && parts.body !== null) throw new TypeError('The response has been sent already');
    parts.used = true;
    if (light.#headers === undefined) return parts;
    const fields = renderFields(light.#headers);
    return { ...parts, fields, contentLength: rendered.contentLength };
  }

  /** The platform's own response behind a light one, with the headers as they are now; `undefined` for anything else. */
  static native(response: unknown): Response | undefined {
    const isLight = typeof response === 'object' && response !== null && #native in response;
    return isLight ? (response as LightResponse).#upToDate() : undefined;
  }

  get status(): number {
    return this.#parts?.status ?? this.#upToDate().status;
  }

  get ok(): boolean {
    return this.status >= 200 && this.status <= 299;
  }

  get statusText(): string {
    return this.#parts?.statusText ?? this.#upToDate().statusText;
  }

  get headers(): Headers {
    if (this.#parts === undefined) return this.#upToDate().headers;
    if (this.#headers === undefined) {
      this.#headers = new Headers();
      appendFields(this.#headers, this.#parts.fields, 0);
      if (this.#parts.contentLength !== -1) this.#headers.append('content-length', String(this.#parts.contentLength));
    }
    return this.#headers;
  }

  #upToDate(): Response {
    if (this.#native === undefined) {
      const { status, statusText, body, used } = this.#parts as LightParts;
      this.#native = new NativeResponse(body as BodyInit, { status, statusText, headers: this.headers });
      if (used) void this.#native.body?.cancel();
    } else if (this.#headers !== undefined) {
      replaceFields(this.#native.headers, this.#headers);
    }
    return this.#native;
  }
}

type BodyInit = ConstructorParameters<typeof Response>[0];

for (const name of Object.getOwnPropertyNames(NativeResponse)) {
  const descriptor = Object.getOwnPropertyDescriptor(NativeResponse, name);
  if (descriptor !== undefined && !Object.hasOwn(LightResponse, name)) {
    Object.defineProperty(LightResponse, name, descriptor);
  }
}
Object.defineProperty(LightResponse, 'name', { value: 'Response' });
delegateMembers(LightResponse.prototype, nativePrototype, new NativeResponse(), LightResponse.native);

/** Headers that come one by one can be read once, and the platform's own may have to read them after us. */
function repeatable(init: ResponseInit | undefined): ResponseInit | undefined {
  if (typeof init !== 'object' || init === null) return init;
  const { status, statusText, headers } = init;
  if (typeof headers !== 'object' || headers === null || !(Symbol.iterator in headers)) return init;
  if (Array.isArray(headers) || headers instanceof Headers) return init;
  const once = headers as Iterable<[string, string]>;
  return {
    ...(status !== undefined && { status }),
    ...(statusText !== undefined && { statusText }),
    headers: [...once],
  };
}

/** What a response is made of, where it is simple enough to be kept like that. */
function partsOf(body: unknown, init: ResponseInit | null | undefined, type: string): LightParts | undefined {
  const whole = wholeBody(body);
  if (whole === undefined || (init !== undefined && init !== null && typeof init !== 'object')) return undefined;
  const { status = 200, statusText = '', headers } = init ?? {};
  if (!Number.isInteger(status) || status < 200 || status > 599) return undefined;
  if (whole !== null && (status === 204 || status === 205 || status === 304)) return undefined;
  if (typeof statusText !== 'string' || !STATUS_TEXT.test(statusText)) return undefined;
  try {
    let fields = renderFields(headers as HeadersInput | undefined);
    // What is left out of an answer, or made several fields of, the platform's keeps as it is.
    if (!rendered.asGiven) return undefined;
    if (typeof whole === 'string' && !rendered.hasContentType) fields += `content-type\n${type}\n`;
    return { status, statusText, fields, contentLength: rendered.contentLength, body: whole, used: false };
  } catch {
    return undefined;
  }
}

/** A copy of the body: it is to be sent as it was when the response was made. `undefined` for what is not whole. */
function wholeBody(body: unknown): string | Uint8Array | null | undefined {
  if (typeof body === 'string') return body;
  if (body === undefined || body === null) return null;
  const bytes = asBytes(body);
  return bytes === undefined ? undefined : new Uint8Array(bytes);
}
