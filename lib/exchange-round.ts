/** What is done at once before the event loop goes round: 2 MiB of bodies at most, in pieces of 64 KiB. */
const MAX_AT_ONCE = 32;

let count = 0;
let round: Promise<void> | undefined;

/** Something was done at once that a promise could have been given for. */
export function countAtOnce(): void {
  count++;
}

/**
 * To be asked before such a thing is done. Who finds more to do each time would else keep the event loop from all others:
 * promises that are settled already do not let it go on.
 *
 * @returns `undefined`: go on; otherwise resolves when all that waits for the loop has had its turn, and is to be asked again
 */
export function dueRound(): Promise<void> | undefined {
  if (count < MAX_AT_ONCE) return undefined;
  round ??= new Promise((resolve) => {
    setImmediate(() => {
      count = 0;
      round = undefined;
      resolve();
    });
  });
  return round;
}
