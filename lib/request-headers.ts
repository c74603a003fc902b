import { inspect } from 'node:util';
import { findField, markedFields } from './request-fields.js';
import { appendFields, fieldsStart } from './request-head.js';

/** `Headers` as the standard has it: with methods, which a subclass may override. */
interface HeadersMethods {
  append(name: string, value: string): void;
  delete(name: string): void;
  entries(): ReturnType<Headers['entries']>;
  forEach(...args: Parameters<Headers['forEach']>): void;
  get(name: string): string | null;
  getSetCookie(): string[];
  has(name: string): boolean;
  keys(): ReturnType<Headers['keys']>;
  set(name: string, value: string): void;
  values(): ReturnType<Headers['values']>;
}

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

const StandardHeaders = Headers as unknown as new () => HeadersMethods;

/**
 * The `Headers` of a request that hold no field until something other than `get` or `has` is asked: filling them costs
 * many times a search in the head's text.
 *
 * The web's own constructors read the fields of plain `Headers` past their methods; those of a class with an iterator of
 * its own they iterate, so that they never find these ones empty.
 */
export class RequestHeaders extends StandardHeaders {
  #head: string | undefined;
  /** The part of it that is searched, once it is. */
  #fields: string | undefined;

  /** @param head - the request's head, see `RequestSource` */
  constructor(head: string) {
    super();
    this.#head = head;
  }

  #fill(): void {
    const head = this.#head;
    if (head === undefined) return;
    this.#head = undefined;
    this.#fields = undefined;
    appendFields(this, head, fieldsStart(head));
  }

  /** The value of a field; `undefined` where the fields have been filled in, or for what is no name. */
  #find(name: string): string | null | undefined {
    const head = this.#head;
    if (head === undefined) return undefined;
    this.#fields ??= fieldsOf(head);
    return findField(this.#fields, name);
  }

  override get(name: string): string | null {
    const value = this.#find(name);
    if (value !== undefined) return value;
    this.#fill();
    return super.get(name);
  }

  override has(name: string): boolean {
    const value = this.#find(name);
    if (value !== undefined) return value !== null;
    this.#fill();
    return super.has(name);
  }

  override append(name: string, value: string): void {
    this.#fill();
    super.append(name, value);
  }

  override set(name: string, value: string): void {
    this.#fill();
    super.set(name, value);
  }

  override delete(name: string): void {
    this.#fill();
    super.delete(name);
  }

  override getSetCookie(): string[] {
    this.#fill();
    return super.getSetCookie();
  }

  override forEach(...args: Parameters<Headers['forEach']>): void {
    this.#fill();
    super.forEach(...args);
  }

  override keys(): ReturnType<Headers['keys']> {
    this.#fill();
    return super.keys();
  }

  override values(): ReturnType<Headers['values']> {
    this.#fill();
    return super.values();
  }

  override entries(): ReturnType<Headers['entries']> {
    this.#fill();
    return super.entries();
  }

  [Symbol.iterator](): ReturnType<Headers['entries']> {
    return this.entries();
  }

  [inspect.custom](_depth: number, options: object): string {
    return `Headers ${inspect(Object.fromEntries(this.entries()), options)}`;
  }
}
