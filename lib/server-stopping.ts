import { type OptionSet, readOptions } from './options.js';

/** How long `close()` and `stop()` let requests finish unless told otherwise. */
export const DEFAULT_STOP_TIMEOUT_MS = 10_000;

/** The longest that a timer of JavaScript's can wait. */
const MAX_DELAY_MS = 0x7fff_ffff;

/** What `close()` and `stop()` take. */
export interface StopOptions {
  /**
   * Milliseconds to go on serving first, while the ready path answers 503: so that a balancer has seen it before
   * connections are refused. JavaScript's own timer measures it: where JavaScript is blocked as it ends, the server goes
   * on serving until it is not.
   * @default 0
   */
  delayMs?: number | undefined;
  /**
   * Milliseconds that requests in flight have to finish, after that delay.
   * @default 10000
   */
  timeoutMs?: number | undefined;
}

function milliseconds(name: keyof StopOptions, value: unknown, most: number): number {
  if (typeof value !== 'number' || !(value >= 0)) {
    const error = new RangeError(`${name} must be a number of milliseconds, 0 or more`);
    throw Object.assign(error, { code: 'ERR_VALK_AIO_CONFIG', field: name });
  }
  return Math.min(Math.floor(value), most);
}

const STOP_OPTIONS: OptionSet<keyof StopOptions> = { whole: 'options', prefix: '', names: ['delayMs', 'timeoutMs'] };

/** @throws RangeError for a time that is none, AioConfigError for what else is wrong; both have a `code` and a `field` */
export function checkStopOptions(options: StopOptions | undefined): { delayMs: number; timeoutMs: number } {
  const given = readOptions(options ?? {}, STOP_OPTIONS);
  return {
    delayMs: milliseconds('delayMs', given.get('delayMs') ?? 0, MAX_DELAY_MS),
    timeoutMs: milliseconds('timeoutMs', given.get('timeoutMs') ?? DEFAULT_STOP_TIMEOUT_MS, 0xffff_ffff),
  };
}

/** Ends something after a delay, which later calls may shorten and not lengthen. */
export class DelayedEnd {
  readonly #end: (timeoutMs: number) => void;
  #timer: NodeJS.Timeout | undefined;
  #dueMs = Number.POSITIVE_INFINITY;
  #timeoutMs = Number.POSITIVE_INFINITY;

  constructor(end: (timeoutMs: number) => void) {
    this.#end = end;
  }

  begin(delayMs: number, timeoutMs: number): void {
    this.#timeoutMs = Math.min(this.#timeoutMs, timeoutMs);
    const dueMs = performance.now() + delayMs;
    if (dueMs >= this.#dueMs) {
      // Under way already, or sooner than asked for now.
      if (this.#timer === undefined) this.#end(this.#timeoutMs);
      return;
    }
    this.#dueMs = dueMs;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (delayMs === 0) this.#run();
    else this.#timer = setTimeout(() => this.#run(), delayMs);
  }

  cancel(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    // What has ended is not begun again.
    this.#dueMs = Number.NEGATIVE_INFINITY;
  }

  #run(): void {
    this.#timer = undefined;
    this.#dueMs = Number.NEGATIVE_INFINITY;
    this.#end(this.#timeoutMs);
  }
}
