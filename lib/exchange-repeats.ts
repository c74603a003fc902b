/** Where things differ, no more than one of so many is compared. */
const MAX_SKIPPED = 63;

/**
 * Whether it pays to look if what comes is what came last. Many requests in a row are the same, and so are their answers;
 * where they aren't, looking and keeping is in vain, and is done for fewer and fewer.
 */
export class Repeats {
  #left = 0;
  /** How many are passed over after the next that differs. */
  #skip = 0;

  /** Whether the next one should be compared: to be asked once for each. */
  isDue(): boolean {
    if (this.#left === 0) return true;
    this.#left -= 1;
    return false;
  }

  /** What was due has been compared. */
  found(same: boolean): void {
    this.#skip = same ? 0 : Math.min(this.#skip * 2 + 1, MAX_SKIPPED);
    this.#left = this.#skip;
  }
}
