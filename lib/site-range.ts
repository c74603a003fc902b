/**
 * Parsing of the conditional and range fields of a request (RFC 9110, sections 5.6.7, 8.8.3, 13 and
 * 14). Pure functions, defined for every string, in time linear in its length.
 */

/** What a `range` field asks of a representation of known size. */
export type ByteRange =
  | { readonly kind: 'whole' }
  | { readonly kind: 'part'; readonly first: number; readonly last: number }
  | { readonly kind: 'unsatisfiable' };

/** An entity-tag: its quoted part without the quotes, and whether `W/` stood before it. */
export interface EntityTag {
  readonly weak: boolean;
  readonly value: string;
}

/** The validators of a representation, as they are sent in `etag` and `last-modified`. */
export interface Validators {
  readonly etag: EntityTag;
  /** Milliseconds since 1970, whole seconds only, as in `last-modified`. */
  readonly lastModifiedMs: number;
}

const WHOLE: ByteRange = Object.freeze({ kind: 'whole' });
const UNSATISFIABLE: ByteRange = Object.freeze({ kind: 'unsatisfiable' });

/**
 * Reads a `range` field (RFC 9110, section 14.2).
 *
 * @param value - The field's value, or `null` where there is none.
 * @param size - The representation's size in bytes.
 * @returns `part` with both ends inclusive and `first <= last < size`; `whole` where the field is to
 *   be ignored (absent, malformed, another unit, more than one range, a suffix of nothing);
 *   `unsatisfiable` where the answer is 416.
 */
export function parseByteRange(value: string | null, size: number): ByteRange {
  const match = value === null ? null : /^bytes=[ \t]*(\d*)-(\d*)[ \t]*$/i.exec(value);
  if (match === null) return WHOLE;
  const [, from = '', to = ''] = match;
  // More digits than a number holds become Infinity, which is beyond every size: as it should be.
  if (from === '') {
    if (to === '') return WHOLE;
    const length = Number(to);
    if (length === 0) return UNSATISFIABLE;
    if (size === 0) return WHOLE;
    return { kind: 'part', first: Math.max(0, size - length), last: size - 1 };
  }
  const first = Number(from);
  const last = to === '' ? Number.POSITIVE_INFINITY : Number(to);
  if (to !== '' && isLess(to, from)) return WHOLE;
  if (first >= size) return UNSATISFIABLE;
  return { kind: 'part', first, last: Math.min(last, size - 1) };
}

/**
 * Reads a list of entity-tags, as in `if-none-match` and `if-match` (RFC 9110, section 13.1).
 *
 * @param value - The field's value; several fields joined by commas are one list.
 * @returns The tags, `'*'`, or `null` for a malformed value, which matches nothing.
 */
export function parseEntityTags(value: string): '*' | readonly EntityTag[] | null {
  if (/^[ \t]*\*[ \t]*$/.test(value)) return '*';
  const tags: EntityTag[] = [];
  const next = /[ \t,]*(W\/)?"([!\x23-\x7e\x80-\u{10ffff}]*)"[ \t]*(?=,|$)/uy;
  for (;;) {
    const from = next.lastIndex;
    const match = next.exec(value);
    if (match === null) return /[^ \t,]/.test(value.slice(from)) ? null : tags;
    tags.push({ weak: match[1] !== undefined, value: match[2] ?? '' });
  }
}

/**
 * Compares two entity-tags (RFC 9110, section 8.8.3.2).
 *
 * @param a - One tag.
 * @param b - The other.
 * @param comparison - `weak` looks at the values only; `strong` holds for no weak tag.
 */
export function entityTagsMatch(a: EntityTag, b: EntityTag, comparison: 'weak' | 'strong'): boolean {
  return a.value === b.value && (comparison === 'weak' || !(a.weak || b.weak));
}

/**
 * Writes an entity-tag as a field's value.
 *
 * @param tag - Its value holds no quote, space or control character.
 */
export function formatEntityTag(tag: EntityTag): string {
  return `${tag.weak ? 'W/' : ''}"${tag.value}"`;
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const DATE_FORMS = [
  /^[A-Z][a-z]{2}, (?<day>\d\d) (?<month>[A-Z][a-z]{2}) (?<year>\d{4}) (?<time>\d\d:\d\d:\d\d) GMT$/,
  /^[A-Z][a-z]{5,8}, (?<day>\d\d)-(?<month>[A-Z][a-z]{2})-(?<year>\d\d) (?<time>\d\d:\d\d:\d\d) GMT$/,
  /^[A-Z][a-z]{2} (?<month>[A-Z][a-z]{2}) (?<day>[ \d]\d) (?<time>\d\d:\d\d:\d\d) (?<year>\d{4})$/,
];

/**
 * Reads a date in any of HTTP's three forms (RFC 9110, section 5.6.7).
 *
 * @param value - For example `Sun, 06 Nov 1994 08:49:37 GMT`.
 * @param nowMs - The present, for the century of a year with two digits.
 * @returns Milliseconds since 1970, or `null` for what is no date from the year 1900 on.
 */
export function parseHttpDate(value: string, nowMs: number = Date.now()): number | null {
  const groups = DATE_FORMS.map((form) => form.exec(value)).find((match) => match !== null)?.groups;
  if (groups === undefined) return null;
  const { day = '', month = '', year = '', time = '' } = groups;
  const [hours = 0, minutes = 0, seconds = 0] = time.split(':').map(Number);
  const fullYear = year.length === 2 ? inCentury(Number(year), nowMs) : Number(year);
  const date = new Date(0);
  date.setUTCFullYear(fullYear, MONTHS.indexOf(month), Number(day));
  if (!MONTHS.includes(month) || date.getUTCDate() !== Number(day) || fullYear < 1900) return null;
  // 60 is a leap second; it counts as the second after 59.
  if (hours > 23 || minutes > 59 || seconds > 60) return null;
  return date.setUTCHours(hours, minutes, seconds);
}

/**
 * Evaluates the preconditions of a GET or HEAD in the order of RFC 9110, section 13.2.2.
 *
 * @param headers - The request's fields.
 * @param current - The validators of what would be sent.
 * @returns `failed` (412), `notModified` (304) or `proceed`.
 */
export function checkConditions(headers: Headers, current: Validators): 'proceed' | 'notModified' | 'failed' {
  const ifMatch = headers.get('if-match');
  if (ifMatch !== null) {
    if (!matchesAny(ifMatch, current.etag, 'strong')) return 'failed';
  } else {
    const unmodifiedSince = parseHttpDate(headers.get('if-unmodified-since') ?? '');
    if (unmodifiedSince !== null && current.lastModifiedMs > unmodifiedSince) return 'failed';
  }
  const ifNoneMatch = headers.get('if-none-match');
  if (ifNoneMatch !== null) return matchesAny(ifNoneMatch, current.etag, 'weak') ? 'notModified' : 'proceed';
  const modifiedSince = parseHttpDate(headers.get('if-modified-since') ?? '');
  return modifiedSince !== null && current.lastModifiedMs <= modifiedSince ? 'notModified' : 'proceed';
}

/**
 * Says whether a `range` field may be followed in spite of `if-range` (RFC 9110, section 13.1.5).
 *
 * @param value - The value of `if-range`, or `null` where there is none.
 * @param current - The validators of what would be sent; a date counts only beside a strong tag,
 *   since what makes the tag weak makes the date weak.
 */
export function ifRangeHolds(value: string | null, current: Validators): boolean {
  if (value === null) return true;
  const tags = parseEntityTags(value);
  if (tags !== null) {
    const [tag] = tags;
    return tags !== '*' && tags.length === 1 && typeof tag === 'object' && entityTagsMatch(tag, current.etag, 'strong');
  }
  return !current.etag.weak && parseHttpDate(value) === current.lastModifiedMs;
}

function matchesAny(value: string, etag: EntityTag, comparison: 'weak' | 'strong'): boolean {
  const tags = parseEntityTags(value);
  return tags === '*' || (tags?.some((tag) => entityTagsMatch(tag, etag, comparison)) ?? false);
}

/** Compares two strings of digits of any length as numbers. */
function isLess(a: string, b: string): boolean {
  const x = a.replace(/^0+/, '');
  const y = b.replace(/^0+/, '');
  return x.length === y.length ? x < y : x.length < y.length;
}

/** A year that would lie more than 50 years ahead is of the century before. */
function inCentury(year: number, nowMs: number): number {
  const now = new Date(nowMs).getUTCFullYear();
  const guess = now - (now % 100) + year;
  return guess > now + 50 ? guess - 100 : guess;
}
