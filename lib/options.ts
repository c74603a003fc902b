import { isUint8Array } from 'node:util/types';
import { AioConfigError } from './errors.js';
import { describeValue, type NumberLimits, numberProblem } from './limits.js';

/** How an object of options is called in messages, and what it may hold. */
export interface OptionSet<Name extends string> {
  /** The first word of a message about the object as a whole: `config`, `options`, `health`. */
  readonly whole: string;
  /** What stands before a key in a message: nothing at the top level, else the option's name and a space. */
  readonly prefix: string;
  /** Every key that is known. */
  readonly names: readonly Name[];
  /** Keys that belong to another function, and a sentence's end that says so. */
  readonly misplaced?: { readonly names: readonly string[]; readonly hint: string };
}

/**
 * Reads each own key of an object of options once, so that what is checked is what is used.
 *
 * @returns the values that are not `undefined`
 * @throws AioConfigError when it is no plain object, has an unknown key or cannot be read
 */
export function readOptions<Name extends string>(options: unknown, set: OptionSet<Name>): Map<Name, unknown> {
  return guarded(set.whole, options, () => {
    if (!isPlainObject(options)) {
      throw new AioConfigError(`${set.whole} must be a plain object, not ${describeOptions(options)}`, options);
    }
    const values = new Map<Name, unknown>();
    for (const key of Reflect.ownKeys(options)) {
      const value: unknown = options[key];
      if (!isOneOf(key, set.names)) throw new AioConfigError(unknownKeyMessage(key, set), value);
      if (value !== undefined) values.set(key, value);
    }
    return values;
  });
}

/**
 * Runs |read| over an object that is not ours: what its getters or a proxy throw becomes an error with our code.
 *
 * @param field - the first word of the message
 */
export function guarded<Result>(field: string, value: unknown, read: () => Result): Result {
  try {
    return read();
  } catch (cause) {
    if (cause instanceof AioConfigError) throw cause;
    throw new AioConfigError(`${field} could not be read`, value, { cause });
  }
}

/**
 * Whether a value is an object literal, of this realm or another, or an object without a prototype. Arrays, `null`,
 * functions and instances of classes are not.
 */
export function isPlainObject(value: unknown): value is Record<PropertyKey, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === null || prototype === Object.prototype) return true;
  // Another realm's Object.prototype: nothing above it, and the one object with an isPrototypeOf of its own. The
  // prototype of a class that extends null has no such method.
  return Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype as object, 'isPrototypeOf');
}

/** The value of |key|, or |fallback| where none is set. Unlike `??` it lets `null` through, to be found wrong. */
export function valueOr<Name>(values: ReadonlyMap<Name, unknown>, key: Name, fallback: unknown): unknown {
  return values.has(key) ? values.get(key) : fallback;
}

/**
 * A number as it is, where it is one within its limits.
 *
 * @param name - with which the message begins
 * @throws AioConfigError where it is not
 */
export function checkNumber(name: string, value: unknown, limits: NumberLimits): number {
  const problem = numberProblem(name, value, limits);
  if (problem !== null) throw new AioConfigError(problem, value);
  // A literal 0, because -0 equals 0 and prints differently.
  return value === 0 ? 0 : (value as number);
}

/** A copy of bytes, or of a string in UTF-8; `undefined` for anything else. */
export function copyBytes(value: unknown): Uint8Array | undefined {
  if (typeof value === 'string') return new TextEncoder().encode(value);
  return isUint8Array(value) ? new Uint8Array(value) : undefined;
}

/** The name of |names| that is meant by |key| most likely, or `undefined` where none is near. */
export function nearestName(key: string, names: readonly string[]): string | undefined {
  // Bounds the work: the distance takes time with the product of both lengths.
  if (key.length > 64) return undefined;
  const wanted = foldName(key);
  let nearest: string | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const name of names) {
    const folded = foldName(name);
    const distance = editDistance(wanted, folded);
    if (distance < least && distance * 2 <= Math.max(wanted.length, folded.length)) {
      nearest = name;
      least = distance;
    }
  }
  return nearest;
}

function isOneOf<Name extends string>(key: PropertyKey, names: readonly Name[]): key is Name {
  return (names as readonly PropertyKey[]).includes(key);
}

function unknownKeyMessage(key: string | symbol, set: OptionSet<string>): string {
  const text = String(key);
  // The message begins with the key, and its first word is the error's field: a key of several words cannot stand there.
  const isWord = /^\S+$/.test(text);
  const subject = isWord ? `${set.prefix}${text}` : `${set.whole} key ${JSON.stringify(text)}`;
  if (set.misplaced !== undefined && isOneOf(key, set.misplaced.names)) return `${subject} ${set.misplaced.hint}`;
  const nearest = nearestName(text, set.names);
  const help = nearest === undefined ? `the known ones are ${set.names.join(', ')}` : `did you mean ${nearest}?`;
  return `${subject} is not a known option; ${help}`;
}

function describeOptions(value: unknown): string {
  const kind = describeValue(value);
  return kind === 'an object' ? 'an instance of a class' : kind;
}

/** So that `max_connections`, `max-connections` and `MAXCONNECTIONS` are all nearest to `maxConnections`. */
function foldName(name: string): string {
  return name.replace(/[-_]/g, '').toLowerCase();
}

/** Levenshtein's distance: insertions, deletions and substitutions. */
function editDistance(a: string, b: string): number {
  let above = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const substitution = (above[column - 1] ?? 0) + (a[row - 1] === b[column - 1] ? 0 : 1);
      const gap = Math.min(above[column] ?? 0, current[column - 1] ?? 0) + 1;
      current.push(Math.min(substitution, gap));
    }
    above = current;
  }
  return above[b.length] ?? 0;
}
