import { inspect } from 'node:util';
import { findField, markedFields } from './request-fields.js';
import { appendFields, fieldsStart } from './request-head.js';

let latestHead = '';
let latestFields = '';

/** The part of |head| that is searched. One that repeats is the same string (see `HeadReader`), and known by that. */
function fieldsOf(head: string): string {
  if (head !== latestHead) {
    latestHead = head;
    latestFields = head.slice(fieldsStart(head));
  }
  return markedFields(latestFields);
}

const StandardHeaders = Headers;

/**
 * The `Headers` of a request that hold no field until something other than `get` or `has` is asked: making the standard's
 * and filling them costs many times a search in the head's text.
 *
 * They are `Headers` by their prototype alone. The web's own constructors read the fields of plain `Headers` past their
 * methods; those of an object with an iterator of its own they iterate.
 */
export class RequestHeaders {
  readonly #head: string;
  /** The part of it that is searched, once it is. */
  #fields: string | undefined;
  /** The standard's own, with the fields, once they are needed. */
  #standard: Headers | undefined;

  /** @param head - the request's head, see `RequestSource` */
  constructor(head: string) {
    this.#head = head;
  }

  #filled(): Headers {
    let standard = this.#standard;
    if (standard === undefined) {
      standard = new StandardHeaders();
      appendFields(standard, this.#head, fieldsStart(this.#head));
      this.#standard = standard;
    }
    return standard;
  }

  /** The value of a field; `undefined` where the fields have been filled in, or for what is no name. */
  #find(name: string): string | null | undefined {
    if (this.#standard !== undefined) return undefined;
    this.#fields ??= fieldsOf(this.#head);
    return findField(this.#fields, name);
  }

  get(...args: Parameters<Headers['get']>): string | null {
    const value = this.#find(args[0]);
    return value === undefined ? this.#filled().get(...args) : value;
  }

  has(...args: Parameters<Headers['has']>): boolean {
    const value = this.#find(args[0]);
    return value === undefined ? this.#filled().has(...args) : value !== null;
  }

  append(...args: Parameters<Headers['append']>): void {
    this.#filled().append(...args);
  }

  set(...args: Parameters<Headers['set']>): void {
    this.#filled().set(...args);
  }

  delete(...args: Parameters<Headers['delete']>): void {
    this.#filled().delete(...args);
  }

  getSetCookie(): string[] {
    return this.#filled().getSetCookie();
  }

  forEach(callback: (value: string, name: string, parent: RequestHeaders) => void, thisArg?: unknown): void {
    const each = (value: string, name: string): void => callback.call(thisArg, value, name, this);
    // What is no function is the standard's to refuse.
    this.#filled().forEach(typeof callback === 'function' ? each : callback);
  }

  keys(): ReturnType<Headers['keys']> {
    return this.#filled().keys();
  }

  values(): ReturnType<Headers['values']> {
    return this.#filled().values();
  }

  entries(): ReturnType<Headers['entries']> {
    return this.#filled().entries();
  }

  [Symbol.iterator](): ReturnType<Headers['entries']> {
    return this.#filled().entries();
  }

  [inspect.custom](_depth: number, options: object): string {
    return inspect(this.#filled(), options);
  }
}

// It is the standard's, by its prototype.
Reflect.deleteProperty(RequestHeaders.prototype, 'constructor');

Object.setPrototypeOf(RequestHeaders.prototype, StandardHeaders.prototype);
