/**
 * Searching for fields of a request's head, of which most handlers ask for several: where they lie is marked at the first
 * question. The marks serve until fields of another text are asked for; and since HTTP/2's clients repeat their fields
 * from request to request, they often serve the next request as well.
 */

import { cut } from './request-head.js';

/** A name that was found good, in one of its spellings. */
interface KnownName {
  /** In lower case. */
  readonly name: string;
  readonly mark: number;
  /** In which marking it was looked for last. */
  marking: number;
  /** Where its words are in that; -1: it has none; -2: it has several. */
  at: number;
}

/** Names are few; a handler that makes them up must not fill the memory. */
const MAX_KNOWN_NAMES = 500;
const MAX_KNOWN_LENGTH = 128;
const knownNames = new Map<string, KnownName>();

/** RFC 9110, section 5.6.2. */
const TOKEN = /^[!#$%&'*+\-.^_`|~\w]+$/;

/** Of each field in turn: the mark of its name, where the name begins, where the value begins, where it ends. */
const WORDS = 4;
let marks = new Int32Array(64 * WORDS);
/** How many of the words are in use. */
let used = 0;
/** The text whose fields they mark: one request's, however many there were. */
let marked = '';
/** Goes up with each text. */
let marking = 0;

const NONE = -1;
const SEVERAL = -2;

/** A number that few names share, of those in |text| from |start| to |end|: their length, first and last letters. */
function markOf(text: string, start: number, end: number): number {
  return ((end - start) << 16) | (text.charCodeAt(start) << 8) | text.charCodeAt(end - 1);
}

function learnName(name: string): KnownName | undefined {
  if (typeof name !== 'string' || !TOKEN.test(name)) return undefined;
  // Through a Buffer: what was cut out of a larger string keeps all of it.
  const own = name.length <= MAX_KNOWN_LENGTH ? Buffer.from(name, 'latin1').toString('latin1') : name;
  const lower = own.toLowerCase();
  const known: KnownName = { name: lower, mark: markOf(lower, 0, lower.length), marking: -1, at: NONE };
  if (name.length <= MAX_KNOWN_LENGTH) {
    if (knownNames.size >= MAX_KNOWN_NAMES) knownNames.clear();
    knownNames.set(own, known);
  }
  return known;
}

function markFields(text: string): void {
  used = 0;
  marked = text;
  marking += 1;
  let position = 0;
  while (position < text.length) {
    const nameEnd = text.indexOf('\n', position);
    const valueEnd = text.indexOf('\n', nameEnd + 1);
    if (used === marks.length) {
      const more = new Int32Array(marks.length * 2);
      more.set(marks);
      marks = more;
    }
    marks[used] = markOf(text, position, nameEnd);
    marks[used + 1] = position;
    marks[used + 2] = nameEnd + 1;
    marks[used + 3] = valueEnd;
    used += WORDS;
    position = valueEnd + 1;
  }
}

/**
 * Marks the fields of |text|, lines of names and values in turn.
 *
 * @returns the same text, as the string that `findField` recognises without a look at its characters
 */
export function markedFields(text: string): string {
  if (text !== marked) markFields(text);
  return marked;
}

/**
 * The value of a field, several of one name joined by a comma (RFC 9110, section 5.3), or `null`.
 *
 * @param text - lines of names and values in turn, names in lower case
 * @param name - in any case
 * @returns `undefined` for what is no name
 */
export function findField(text: string, name: string): string | null | undefined {
  const known = knownNames.get(name) ?? learnName(name);
  if (known === undefined) return undefined;
  if (marked !== text) markFields(text);
  if (known.marking !== marking) locate(text, known);
  const { at } = known;
  if (at >= 0) return cut(text, marks[at + 2] as number, marks[at + 3] as number);
  return at === NONE ? null : join(text, known);
}

function locate(text: string, known: KnownName): void {
  known.marking = marking;
  known.at = NONE;
  for (let at = 0; at < used; at += WORDS) {
    if (isAt(text, at, known)) known.at = known.at === NONE ? at : SEVERAL;
  }
}

function join(text: string, known: KnownName): string {
  const values: string[] = [];
  for (let at = 0; at < used; at += WORDS) {
    if (isAt(text, at, known)) values.push(cut(text, marks[at + 2] as number, marks[at + 3] as number));
  }
  return values.join(', ');
}

/** Whether the field whose words are |at| has a name. */
function isAt(text: string, at: number, { name, mark }: KnownName): boolean {
  if (marks[at] !== mark) return false;
  const start = marks[at + 1] as number;
  const end = (marks[at + 2] as number) - 1;
  return end - start === name.length && text.slice(start, end) === name;
}
