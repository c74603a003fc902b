import { isAnyArrayBuffer } from 'node:util/types';
import type { ResolvedStaticRoute, StaticRoute } from './config-types.js';
import { AioConfigError } from './errors.js';
import { describeValue, formatBytes, STATUS_LIMITS } from './limits.js';
import { checkNumber, copyBytes, isPlainObject, type OptionSet, readOptions, valueOr } from './options.js';

/** Most bytes of a static route's names and values together: a client that keeps to the usual limits takes them. */
export const MAX_STATIC_HEADERS_SIZE = 16 * 1024;

const ROUTE_KEYS: readonly (keyof StaticRoute)[] = ['status', 'headers', 'body'];

/** Fields of one connection, which HTTP/2 forbids (RFC 9113, section 8.2.2). */
const CONNECTION_FIELDS = new Set(['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade']);

type HeaderField = readonly [name: string, value: string];

/**
 * Checks the option `staticRoutes` and renders each route.
 *
 * @param routes - what the caller gave; `undefined` for none
 * @returns frozen routes in the caller's order
 * @throws AioConfigError whose field is `staticRoutes`
 */
export function resolveStaticRoutes(routes: unknown): readonly ResolvedStaticRoute[] {
  if (routes === undefined) return Object.freeze([]);
  if (!isPlainObject(routes)) {
    throw new AioConfigError(`staticRoutes must be a plain object of paths, not ${describeValue(routes)}`, routes);
  }
  const resolved = Object.entries(routes).map(([key, route]) => {
    const subject = `staticRoutes ${JSON.stringify(key)}`;
    return resolveRoute(subject, checkPath(subject, key), route);
  });
  return Object.freeze(resolved);
}

/**
 * A path as it is, where a client that asks for it sends exactly that: absolute, without query and fragment, in the form
 * that WHATWG URLs are serialised to.
 *
 * @param subject - with which the message begins
 * @throws AioConfigError where it is not
 */
export function checkPath(subject: string, path: unknown): string {
  if (typeof path !== 'string' || !path.startsWith('/') || /[?#]/.test(path)) {
    throw new AioConfigError(`${subject} must be a path that begins with / and has no ? or #`, path);
  }
  const sent = new URL(`https://localhost${path}`).pathname;
  if (sent !== path) {
    throw new AioConfigError(`${subject} must be a path as clients send it: ${JSON.stringify(sent)}`, path);
  }
  return path;
}

function resolveRoute(subject: string, path: string, route: unknown): ResolvedStaticRoute {
  const options: OptionSet<keyof StaticRoute> = { whole: subject, prefix: `${subject} `, names: ROUTE_KEYS };
  const given = readOptions(route, options);
  const status = checkNumber(`${subject} status`, valueOr(given, 'status', 200), STATUS_LIMITS);
  const body = copyBody(`${subject} body`, valueOr(given, 'body', null));
  if (body.length > 0 && (status === 204 || status === 304)) {
    throw new AioConfigError(`${subject} body must be empty with status ${status}`, route);
  }
  const headers = renderHeaders(`${subject} headers`, valueOr(given, 'headers', {}), body.length);
  return Object.freeze({ path, status, headers, body });
}

function copyBody(subject: string, value: unknown): Uint8Array {
  if (value === null) return new Uint8Array(0);
  const bytes = isAnyArrayBuffer(value) ? new Uint8Array(value).slice() : copyBytes(value);
  if (bytes !== undefined) return bytes;
  throw new AioConfigError(`${subject} must be a string, bytes or null, not ${describeValue(value)}`, value);
}

function renderHeaders(subject: string, source: unknown, bodyLength: number): readonly HeaderField[] {
  const fields: HeaderField[] = [];
  let size = 0;
  for (const [rawName, rawValue] of headerPairs(subject, source)) {
    const name = checkName(subject, rawName);
    const value = checkValue(`${subject} ${name}`, rawValue);
    // The engine writes its own, which is the time of the answer: a client would get both.
    if (name === 'date') {
      throw new AioConfigError(`${subject} must have no date: sendDate says whether answers have one`, rawValue);
    }
    if (name === 'content-length' && value !== String(bodyLength)) {
      throw new AioConfigError(`${subject} content-length must be ${bodyLength}, the length of the body`, rawValue);
    }
    // The engine writes the length itself, so that HEAD and GET agree.
    if (name === 'content-length' || CONNECTION_FIELDS.has(name)) continue;
    size += name.length + value.length;
    fields.push(Object.freeze([name, value] as const));
  }
  if (size <= MAX_STATIC_HEADERS_SIZE) return Object.freeze(fields);
  throw new AioConfigError(`${subject} must be at most ${formatBytes(MAX_STATIC_HEADERS_SIZE)}`, source);
}

/** Pairs of anything: of `Headers` and other iterables as they are, of a plain object with arrays spread out. */
function* headerPairs(subject: string, source: unknown): Generator<readonly [unknown, unknown]> {
  if (isIterable(source)) {
    for (const pair of source) {
      if (!Array.isArray(pair) || pair.length !== 2) {
        throw new AioConfigError(`${subject} must be pairs of a name and a value`, source);
      }
      yield [pair[0], pair[1]];
    }
  } else if (isPlainObject(source)) {
    for (const [name, value] of Object.entries(source)) {
      for (const item of Array.isArray(value) ? value : [value]) yield [name, item];
    }
  } else {
    throw new AioConfigError(`${subject} must be an object, pairs or Headers, not ${describeValue(source)}`, source);
  }
}

function isIterable(value: unknown): value is Iterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.iterator in value;
}

/** A field's name in lower case (RFC 9110, section 5.1; RFC 9113, section 8.2.1). */
function checkName(subject: string, name: unknown): string {
  if (typeof name === 'string' && /^[!#$%&'*+.^_`|~\w-]+$/.test(name)) return name.toLowerCase();
  const found = typeof name === 'string' ? JSON.stringify(name) : describeValue(name);
  throw new AioConfigError(`${subject} must have names that are tokens, not ${found}`, name);
}

/** A field's value without blanks around it (RFC 9110, section 5.5): visible characters, blanks, U+0080 to U+00FF. */
function checkValue(subject: string, value: unknown): string {
  if (typeof value !== 'string' && typeof value !== 'number') {
    throw new AioConfigError(`${subject} must be a string or a number, not ${describeValue(value)}`, value);
  }
  const text = String(value).replace(/^[\t ]+|[\t ]+$/g, '');
  if (/^[\t\x20-\x7e\x80-\xff]*$/.test(text)) return text;
  throw new AioConfigError(`${subject} must have no CR, LF, NUL or other control, and nothing above U+00FF`, value);
}
