import { Repeats } from './exchange-repeats.js';
import { type NativeEngine, OUT } from './native.js';

/** The methods of Buffer that its types leave out: the quickest ways between strings and bytes. */
export interface RawBuffer extends Buffer {
  latin1Slice(start: number, end: number): string;
  latin1Write(text: string, offset: number): number;
  utf8Write(text: string, offset: number): number;
}

/** Bytes of fields and body that are kept to be repeated, at most. */
const MAX_REPEATED = 512;

/** The buffer of answers: records for the engine, handed over in one go (native/binding/bridge.h). */
export class Outbox {
  readonly engine: NativeEngine;
  readonly #bytes: RawBuffer;
  readonly #words: Int32Array;
  /** What the last answer was made of. The bytes are kept when it comes again: copying them is quicker than writing text. */
  #lastHead = '';
  #lastBody = '';
  readonly #repeated = new Int32Array(MAX_REPEATED >> 2);
  /** How many of those bytes are the body's; -1: they are not kept yet. */
  #repeatedBody = -1;
  readonly #repeats = new Repeats();
  readonly #flushLater = (): void => {
    this.#scheduled = false;
    this.engine.flush();
  };
  #scheduled = false;

  constructor(engine: NativeEngine, out: Uint8Array) {
    this.engine = engine;
    this.#bytes = Buffer.from(out.buffer, out.byteOffset, out.byteLength) as RawBuffer;
    this.#words = new Int32Array(out.buffer, out.byteOffset, out.byteLength >> 2);
  }

  /**
   * Adds a record.
   *
   * @param kind - a kind of `KIND`, with its flag and the status shifted to their places
   * @param head - fields as Latin-1 text, or the code of a reset
   * @param body - at most `INLINE_MAX` bytes as UTF-8
   * @param contentLength - -1 for none
   * @returns how many bytes the body had
   */
  add(
    kind: number,
    index: number,
    generation: number,
    head: string | number,
    body: string | Uint8Array | null,
    contentLength: number,
  ): number {
    const words = this.#words;
    const fields = typeof head === 'string' ? head : '';
    const text = typeof body === 'string' ? body : '';
    const bytes = typeof body === 'string' ? null : body;
    const room = OUT.recordBytes + fields.length + text.length * 3 + (bytes === null ? 0 : bytes.length) + 4;
    if ((words[OUT.used] as number) + room > this.#bytes.length) this.engine.flush();
    const start = words[OUT.used] as number;
    const at = start + OUT.recordBytes;
    const end = at + fields.length;
    const isShort = fields !== '' && fields.length + text.length * 3 <= MAX_REPEATED;
    let bodyLength = isShort ? this.#writeShort(fields, text, at) : this.#writeText(fields, text, at);
    if (bytes !== null) {
      bodyLength = bytes.length;
      this.#bytes.set(bytes, end);
    }
    const word = start >> 2;
    words[word] = kind;
    words[word + 1] = index;
    words[word + 2] = generation;
    words[word + 3] = typeof head === 'string' ? head.length : head;
    words[word + 4] = bodyLength;
    words[word + 5] = contentLength | 0;
    words[word + 6] = Math.floor(contentLength / 0x1_0000_0000);
    words[OUT.used] = (end + bodyLength + 3) & ~3;
    if (words[OUT.inTurn] === 0 && !this.#scheduled) {
      this.#scheduled = true;
      process.nextTick(this.#flushLater);
    }
    return bodyLength;
  }

  /**
   * Writes |head| and |body| to |start|, a multiple of four. Many answers in a row are the same, and copying some words is
   * quicker than two calls out of JavaScript.
   *
   * @returns how many bytes the body has
   */
  #writeShort(head: string, body: string, start: number): number {
    if (!this.#repeats.isDue()) return this.#writeText(head, body, start);
    const word = start >> 2;
    const same = body === this.#lastBody && head === this.#lastHead;
    this.#repeats.found(same);
    if (!same) {
      this.#lastHead = head;
      this.#lastBody = body;
      this.#repeatedBody = -1;
      return this.#writeText(head, body, start);
    }
    const words = this.#words;
    if (this.#repeatedBody === -1) {
      this.#repeatedBody = this.#writeText(head, body, start);
      this.#repeated.set(words.subarray(word, word + wordsOf(head.length + this.#repeatedBody)));
      return this.#repeatedBody;
    }
    const length = wordsOf(head.length + this.#repeatedBody);
    for (let at = 0; at < length; at += 1) words[word + at] = this.#repeated[at] as number;
    return this.#repeatedBody;
  }

  #writeText(head: string, body: string, start: number): number {
    if (head !== '') this.#bytes.latin1Write(head, start);
    return body === '' ? 0 : this.#bytes.utf8Write(body, start + head.length);
  }
}

function wordsOf(bytes: number): number {
  return (bytes + 3) >> 2;
}
