import type { RawBuffer } from './exchange-outbox.js';
import { Repeats } from './exchange-repeats.js';

/** Bytes of a head that is kept, at most. */
const MAX_KEPT = 1024;

/**
 * Reads heads out of the ring of text. Where one repeats the last, the text of that is given again: comparing some words
 * is quicker than a call out of JavaScript and a new string, and whoever has read the other knows it by its identity.
 */
export class HeadReader {
  readonly #text: RawBuffer;
  readonly #words: Int32Array;
  readonly #repeats = new Repeats();
  readonly #kept = new Int32Array(MAX_KEPT >> 2);
  #last = '';

  /** @param text - the ring: each head begins at a multiple of four, and zeros fill its last word */
  constructor(text: Uint8Array) {
    const { buffer, byteOffset, byteLength } = text;
    this.#text = Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength) as RawBuffer;
    this.#words = new Int32Array(buffer, byteOffset, byteLength >> 2);
  }

  /** The |length| bytes from |start| on, as Latin-1. */
  read(start: number, length: number): string {
    if (length > MAX_KEPT || !this.#repeats.isDue()) return this.#text.latin1Slice(start, start + length);
    const same = length === this.#last.length && this.#isKept(start, length);
    this.#repeats.found(same);
    if (!same) {
      this.#last = this.#text.latin1Slice(start, start + length);
      for (let word = start >> 2, at = 0; at * 4 < length; at += 1) this.#kept[at] = this.#words[word + at] as number;
    }
    return this.#last;
  }

  #isKept(start: number, length: number): boolean {
    const word = start >> 2;
    for (let at = 0; at * 4 < length; at += 1) {
      if (this.#kept[at] !== this.#words[word + at]) return false;
    }
    return true;
  }
}
