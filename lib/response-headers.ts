import { AioError } from './errors.js';
import type { HeadersInput, HeaderValue } from './types.js';

/** What `renderFields` found beside the fields themselves. Valid until its next call. */
export const rendered = {
  /** The `content-length` that was given, in bytes; -1 for none. It is never among the fields. */
  contentLength: -1,
  /** Whether there is a `content-type`. */
  hasContentType: false,
  /** Whether each field that was given became one line. */
  asGiven: true,
};

/** Fields of an answer, or those after its body, in bytes of {@link renderFields}: they cross to the engine in one buffer. */
export const MAX_FIELDS_SIZE = 60 * 1024;

/** How many of them the engine takes. */
export const MAX_FIELDS_COUNT = 1000;

/** A field has a name, and a line's end behind that and its value: what is no longer than this breaks neither bound. */
const MAY_BREAK_BOUND = 3 * MAX_FIELDS_COUNT;

/** What is done with fields of a name. */
type Treatment = 'send' | 'drop' | 'length' | 'type';

/** Stands for the value of a name that came with none yet: no caller can give it. */
const UNSEEN = Symbol('unseen');

/** A name that was found good, in one of its spellings, and the last value that was found good with it. */
interface KnownName {
  readonly name: string;
  readonly treatment: Treatment;
  value: HeaderValue | typeof UNSEEN;
  line: string;
  /** The lines that stood before this one last, and what the two come to. */
  before: string;
  joined: string;
}

/** Names are few; a handler that makes them up must not fill the memory. */
const MAX_KNOWN_NAMES = 500;
const MAX_KNOWN_LENGTH = 128;
/** Of the lines before one, for both together to be kept. */
const MAX_JOINED_LENGTH = 512;
const knownNames = new Map<string, KnownName>();

/** RFC 9110, section 5.6.2. */
const TOKEN = /^[!#$%&'*+\-.^_`|~\w]+$/;

/** What no value may hold: controls but the tab, and what Latin-1 has no byte for (RFC 9110, section 5.5). */
const FORBIDDEN_IN_VALUE = /[^\t -~\x80-\xff]/;

/** Fields of one connection, which HTTP/2 forbids (RFC 9113, section 8.2.2). */
const CONNECTION_FIELDS = new Set(['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade']);

/**
 * Checks header fields and renders them as `name\nvalue\n`…, names in lower case, each `set-cookie` a field of its own.
 * Fields of a connection are left out, and `content-length`, which is in {@link rendered} as are other findings.
 *
 * The input is read anew each time: only names, and a value that is the same as the last one with its name, are known.
 *
 * @throws AioError (`ERR_VALK_AIO_RESPONSE`) for a bad name or value, and for more than {@link checkBounds} lets pass; a
 *   `TypeError` for what is no input
 */
export function renderFields(headers: HeadersInput | null | undefined): string {
  rendered.contentLength = -1;
  rendered.hasContentType = false;
  rendered.asGiven = true;
  if (headers === undefined || headers === null) return '';
  if (typeof headers !== 'object') throw new TypeError(`headers must be an object, not a ${typeof headers}`);
  const found: Found = { contentLength: -1, hasContentType: false, asGiven: true };
  const fields = Symbol.iterator in headers ? renderPairs(headers, found) : renderObject(headers, found);
  checkBounds(fields);
  // Only now: the input's own getters and iterators may have come here for an answer of their own.
  rendered.contentLength = found.contentLength;
  rendered.hasContentType = found.hasContentType;
  rendered.asGiven = found.asGiven;
  return fields;
}

/**
 * Renders the fields after a body.
 *
 * @throws as {@link renderFields}, and for a `content-length`, which has no place there (RFC 9110, section 6.5.1)
 */
export function renderTrailers(trailers: HeadersInput | null | undefined): string {
  const fields = renderFields(trailers);
  if (rendered.contentLength !== -1) throw responseError('content-length cannot be a trailer');
  return fields;
}

/**
 * Holds rendered fields to what the engine sends: it would reset the stream, or answer 500 itself, and nobody would be told.
 *
 * @throws AioError (`ERR_VALK_AIO_RESPONSE`)
 */
export function checkBounds(fields: string): void {
  if (fields.length <= MAY_BREAK_BOUND) return;
  if (fields.length > MAX_FIELDS_SIZE) {
    throw responseError(`The header fields have ${fields.length} bytes, more than ${MAX_FIELDS_SIZE}`);
  }
  let ends = 0;
  for (let at = fields.indexOf('\n'); at !== -1; at = fields.indexOf('\n', at + 1)) ends += 1;
  const count = ends / 2;
  if (count > MAX_FIELDS_COUNT) throw responseError(`There are ${count} header fields, more than ${MAX_FIELDS_COUNT}`);
}

/** An error for an answer that breaks HTTP or one of its own bounds. */
export function responseError(message: string): AioError {
  return new AioError('ERR_VALK_AIO_RESPONSE', message);
}

type Found = { -readonly [Name in keyof typeof rendered]: (typeof rendered)[Name] };

function renderObject(headers: { readonly [name: string]: HeaderValue }, found: Found): string {
  let fields = '';
  for (const name of Object.keys(headers)) fields = appendField(fields, name, headers[name], found);
  return fields;
}

function renderPairs(headers: Iterable<readonly [string, HeaderValue]>, found: Found): string {
  let fields = '';
  for (const pair of headers) {
    if (!Array.isArray(pair) || pair.length !== 2) throw new TypeError('headers must hold pairs of a name and a value');
    fields = appendField(fields, String(pair[0]), pair[1], found);
  }
  return fields;
}

function appendField(fields: string, name: string, value: HeaderValue, found: Found): string {
  const known = knownNames.get(name) ?? learnName(name);
  if (known.treatment === 'type') found.hasContentType ||= value !== undefined;
  if (value === known.value) return appendLine(fields, known);
  if (typeof value === 'string' || typeof value === 'number') {
    if (known.treatment === 'drop') {
      found.asGiven = false;
      return fields;
    }
    if (known.treatment === 'length') {
      readLength(value, found);
      return fields;
    }
    const text = checkValue(known.name, value);
    const line = `${known.name}\n${text}\n`;
    if (text.length <= MAX_KNOWN_LENGTH) {
      known.value = value;
      known.line = line;
      known.before = '';
    }
    return fields + line;
  }
  found.asGiven = false;
  if (value === undefined) return fields;
  if (!Array.isArray(value)) throw new TypeError(`header ${known.name} must be a string, a number or an array of them`);
  let all = fields;
  for (const item of value) {
    // Else an array in an array would be taken, and one that holds itself.
    if (typeof item === 'object') throw new TypeError(`header ${known.name} must hold strings or numbers`);
    all = appendField(all, name, item, found);
  }
  return all;
}

/** Appends a name's last line. Where it stood behind the same fields last time, it gives the string that came of it. */
function appendLine(fields: string, known: KnownName): string {
  if (fields === '') return known.line;
  if (fields.length > MAX_JOINED_LENGTH) return fields + known.line;
  if (fields !== known.before) {
    known.before = fields;
    known.joined = fields + known.line;
  }
  return known.joined;
}

function learnName(name: string): KnownName {
  if (!TOKEN.test(name)) throw responseError(`header name ${JSON.stringify(name)} is not a token`);
  const lower = name.toLowerCase();
  const known: KnownName = {
    name: lower,
    treatment: treatmentOf(lower),
    value: UNSEEN,
    line: '',
    before: '',
    joined: '',
  };
  if (name.length <= MAX_KNOWN_LENGTH) {
    if (knownNames.size >= MAX_KNOWN_NAMES) knownNames.clear();
    knownNames.set(name, known);
  }
  return known;
}

function treatmentOf(name: string): Treatment {
  if (CONNECTION_FIELDS.has(name)) return 'drop';
  if (name === 'content-length') return 'length';
  return name === 'content-type' ? 'type' : 'send';
}

function checkValue(name: string, value: string | number): string {
  const text = String(value);
  // The value is not shown: it may be a secret, or someone's who wants to be in the log.
  if (FORBIDDEN_IN_VALUE.test(text)) throw responseError(`header ${name} has a character that no value may hold`);
  return text.replace(/^[\t ]+|[\t ]+$/g, '');
}

function readLength(value: string | number, found: Found): void {
  const text = String(value);
  const length = /^\d{1,16}$/.test(text) ? Number(text) : -1;
  if (length < 0 || length > Number.MAX_SAFE_INTEGER) throw responseError('content-length must be a whole number');
  if (found.contentLength !== -1 && found.contentLength !== length) {
    throw responseError('content-length is given twice, with different values');
  }
  found.contentLength = length;
}
