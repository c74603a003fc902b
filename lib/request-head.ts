/**
 * Reading of a request's head: `method\nscheme\nauthority\npath\n`, then `name\nvalue\n` for each field, as Latin-1 text
 * (see `RequestSource`).
 */

/** Where the line after the one that holds |from| begins. */
function nextLine(head: string, from: number): number {
  return head.indexOf('\n', from) + 1;
}

/** The request's method, as it was sent. */
export function methodOf(head: string): string {
  // The constant spares a string of its own, and compares quickly.
  return head.startsWith('GET\n') ? 'GET' : head.slice(0, head.indexOf('\n'));
}

/** Where the scheme begins. */
export function schemeStart(head: string): number {
  return nextLine(head, 0);
}

/** Where the first field begins. */
export function fieldsStart(head: string): number {
  return nextLine(head, nextLine(head, nextLine(head, schemeStart(head))));
}

/** A longer text is a large one. */
const LARGE_LENGTH = 2048;
/** What is shorter V8 copies by itself. */
const SLICE_LENGTH = 13;

/**
 * A part of |text|, in Latin-1. What V8 cuts out of a string keeps all of it, so that a value which outlives its request
 * would keep a large head in memory: that is copied.
 */
export function cut(text: string, start: number, end: number): string {
  const part = text.slice(start, end);
  const keepsMuch = text.length > LARGE_LENGTH && part.length >= SLICE_LENGTH && part.length * 2 < text.length;
  return keepsMuch ? Buffer.from(part, 'latin1').toString('latin1') : part;
}

/**
 * Appends fields to |headers|, each by itself.
 *
 * @param text - lines of names and values in turn
 * @param start - where the first name begins
 */
export function appendFields(headers: Pick<Headers, 'append'>, text: string, start: number): void {
  let position = start;
  while (position < text.length) {
    const nameEnd = text.indexOf('\n', position);
    const valueEnd = text.indexOf('\n', nameEnd + 1);
    headers.append(cut(text, position, nameEnd), cut(text, nameEnd + 1, valueEnd));
    position = valueEnd + 1;
  }
}
