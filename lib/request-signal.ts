import { types } from 'node:util';
import type { AbortListener, RequestSource } from './exchange.js';
import { abortReason } from './request-abort.js';

/**
 * A request's `signal`. Where the platform makes its own slowly (Node 20 and 22, which change an object's prototype for each),
 * a light one is handed out, which knows whether its request has ended and takes a signal's state when more is asked of it.
 */

type SignalSource = Pick<RequestSource, 'aborted' | 'onAbort'>;

const NativeController = globalThis.AbortController;
const NativeSignal = globalThis.AbortSignal;
const nativePrototype: AbortSignal = NativeSignal.prototype;

/** Under which symbol the platform keeps the signals that follow one: a set of weak references. */
const dependants = dependantsSymbol();

/** A base that makes nothing, whose instances are `instanceof AbortSignal` all the same. */
function Blank(): void {}
Blank.prototype = nativePrototype;

/**
 * A signal without state, until someone listens or follows it. The platform finds a signal's state under symbols: each of
 * them is an accessor here, which first gives the object all the state that a signal is made with. From then on it is one
 * of the platform's, and all that remains of this class is in its chain of prototypes.
 */
class LightSignal extends (Blank as unknown as new () => object) {
  /** `undefined` once the object has a signal's state. */
  #source: SignalSource | undefined;

  constructor(source: SignalSource) {
    super();
    this.#source = source;
  }

  /** Gives a light signal the state of one; does nothing to any other object. */
  static fill(signal: object): void {
    if (!(#source in signal)) return;
    const source = signal.#source;
    if (source === undefined) return;
    signal.#source = undefined;
    copyState(new NativeController().signal, signal);
    source.onAbort({ onAbort: (cause) => abort(signal as unknown as AbortSignal, abortReason(cause)) });
  }

  get aborted(): boolean {
    const source = this.#source;
    return source === undefined ? Reflect.get(nativePrototype, 'aborted', this) : source.aborted !== undefined;
  }

  get reason(): unknown {
    const source = this.#source;
    return source !== undefined && source.aborted === undefined
      ? undefined
      : Reflect.get(nativePrototype, 'reason', this);
  }

  /** The platform asks whether the state is the object's own. */
  get onabort(): AbortSignal['onabort'] {
    LightSignal.fill(this);
    return Reflect.get(nativePrototype, 'onabort', this);
  }

  set onabort(handler: AbortSignal['onabort']) {
    LightSignal.fill(this);
    Reflect.set(nativePrototype, 'onabort', handler, this);
  }

  throwIfAborted(): void {
    if (this.aborted) nativePrototype.throwIfAborted.call(this);
  }
}
// What `constructor` is belongs to the class in whose place this one stands.
Reflect.deleteProperty(LightSignal.prototype, 'constructor');

for (const symbol of Object.getOwnPropertySymbols(new NativeController().signal)) {
  Object.defineProperty(LightSignal.prototype, symbol, {
    configurable: true,
    get() {
      LightSignal.fill(this);
      return Object.getOwnPropertyDescriptor(this, symbol)?.value;
    },
    set(value: unknown) {
      LightSignal.fill(this);
      Object.defineProperty(this, symbol, { configurable: true, enumerable: true, writable: true, value });
    },
  });
}

/** |from| must not be used any more: the two would share their listeners. */
function copyState(from: object, to: object): void {
  for (const symbol of Object.getOwnPropertySymbols(from)) {
    Object.defineProperty(to, symbol, Object.getOwnPropertyDescriptor(from, symbol) as PropertyDescriptor);
  }
}

/**
 * Aborts a signal that has no controller: as one that follows another, which has. Those that follow it are put beside it,
 * since the platform may go one step only.
 */
function abort(signal: AbortSignal, reason: unknown): void {
  const controller = new NativeController();
  const followers: Set<WeakRef<AbortSignal>> = new Set([new WeakRef(signal)]);
  const own = Reflect.get(signal, dependants as symbol) as typeof followers | undefined;
  own?.forEach((follower) => void followers.add(follower));
  Reflect.set(controller.signal, dependants as symbol, followers);
  controller.abort(reason);
}

function dependantsSymbol(): symbol | undefined {
  const { signal } = new NativeController();
  const before = Object.getOwnPropertySymbols(signal);
  const follower = AbortSignal.any([signal]);
  const symbol = Object.getOwnPropertySymbols(signal).find((symbol) => !before.includes(symbol));
  const found: unknown = symbol === undefined ? undefined : Reflect.get(signal, symbol);
  if (!types.isSet(found)) return undefined;
  let isThere = false;
  // A set of the platform's own kind, whose chain of prototypes is cut off: `instanceof` says no.
  (found as Set<WeakRef<AbortSignal>>).forEach((reference) => {
    isThere ||= reference.deref() === follower;
  });
  return isThere ? symbol : undefined;
}

/** Whether a light signal does, in this version of the platform, what one of the platform's own does. */
function lightSignalsWork(): boolean {
  if (dependants === undefined) return false;
  let listening: AbortListener | undefined;
  const source = {
    aborted: undefined,
    onAbort(listener: AbortListener) {
      listening = listener;
    },
  };
  try {
    const signal = createLight(source);
    const follower = NativeSignal.any([signal]);
    const second = NativeSignal.any([follower, signal]);
    const told: unknown[] = [];
    signal.onabort = (event) => told.push(event.target, event.isTrusted);
    follower.addEventListener('abort', (event) => told.push(event.target));
    second.addEventListener('abort', (event) => told.push(event.target));
    const early = signal.aborted || follower.aborted || second.aborted || signal.reason !== undefined;
    listening?.onAbort('reset');
    const all = [signal, true, follower, second];
    const { reason } = signal;
    return (
      !early &&
      all.length === told.length &&
      all.every((expected, index) => expected === told[index]) &&
      reason instanceof DOMException &&
      [signal, follower, second].every((each) => each.aborted && each.reason === reason)
    );
  } catch {
    return false;
  }
}

function createLight(source: SignalSource): AbortSignal {
  return new LightSignal(source) as unknown as AbortSignal;
}

function createNative(source: SignalSource): AbortSignal {
  const controller = new NativeController();
  source.onAbort({ onAbort: (cause) => controller.abort(abortReason(cause)) });
  return controller.signal;
}

/** Makes a signal that aborts when the stream of |source| ends early. */
export const createSignal: (source: SignalSource) => AbortSignal = lightSignalsWork() ? createLight : createNative;
