/** What is done at once before the event loop goes round: 2 MiB of bodies, in pieces of 64 KiB. */
const MAX_AT_ONCE = 32;

let count = 0;
let round: Promise<void> | undefined;

/**
 * To be asked before something is done at once that a promise could be given for. Who finds more to do each time would
 * else keep the loop from all others: promises that are settled already do not let it go on.
 *
 * @returns `undefined`: go on; otherwise resolves when all that waits for the loop has had its turn
 */
export function loopRound(): Promise<void> | undefined {
  if (++count <= MAX_AT_ONCE) return undefined;
  round ??= new Promise((resolve) => {
    setImmediate(() => {
      count = 0;
      round = undefined;
      resolve();
    });
  });
  return round;
}
