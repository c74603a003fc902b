import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ResolvedConfig, ResolvedSecureContext } from './config-types.js';
import { AioError } from './errors.js';

// The layout of the memory that the addon and this side share: native/binding/bridge.h explains every name.

/** Words of the control block (`VALK_BRIDGE_…`). */
export const CONTROL = { write: 0, read: 16, awake: 32, events: 33, blocked: 34, unblockAt: 35, words: 48 } as const;

/** Words of a request's record (`VALK_RECORD_…`), and the two states that matter here. */
export const RECORD = {
  state: 0,
  index: 1,
  generation: 2,
  text: 3,
  textLength: 4,
  flags: 5,
  server: 6,
  bodyLength: 7,
  slot: 8,
  peer: 9,
  words: 16,
  queued: 1,
  claimed: 2,
} as const;

/** Bits of a record's flags (`VALK_REQUEST_…`). */
export const REQUEST_FLAG = { hasBody: 1, streams: 2, isHead: 4, hasTrailers: 8 } as const;

/** Bits of an event (`VALK_EVENT_…`), and its words: index, generation, bits. */
export const EVENT = { abort: 1, body: 2, trailers: 4, writable: 8, end: 16, words: 3 } as const;

/** Words of the buffer of answers and of its records (`VALK_OUT_…`). */
export const OUT = { used: 0, inTurn: 1, startBytes: 16, recordBytes: 28 } as const;

/** Kinds of records in the buffer of answers (`VALK_OUT_…`), and the flag of a whole answer (`VALK_ANSWER_END`). */
export const KIND = {
  respond: 1,
  write: 2,
  finish: 3,
  reset: 4,
  settle: 5,
  ignoreBody: 6,
  endFlag: 1 << 8,
  lentFlag: 1 << 15,
} as const;

/** Bytes of an answer's body, with `BUFFER_COST` for each write, that may be sent without asking for budget (`VALK_INLINE_MAX`). */
export const INLINE_MAX = 2048;
/** What a write takes beside its bytes (`VALK_BUFFER_COST`). */
export const BUFFER_COST = 64;

/** The memory that both sides use, made by JavaScript and kept alive by the addon. */
export interface NativeMemory {
  readonly control: Int32Array;
  readonly records: Int32Array;
  readonly text: Uint8Array;
  readonly out: Uint8Array;
  readonly events: Int32Array;
}

/** What could not be done: the engine's number, the system's name for it or '', a sentence. */
export interface NativeFailure {
  readonly code: number;
  readonly name: string;
  readonly message: string;
}

/** Numbers of the engine's own failures (`VALK_E…` in valk.h). */
export const NATIVE_ERROR = { tls: -5003, stopped: -5004 } as const;

/**
 * What the addon tells about a connection's other end: lines of its address and port, ours, the version of TLS, the
 * cipher, why its certificate was not verified ('' if it was), the server name; and the certificate (DER) if it showed
 * one.
 */
export type NativePeer = string | readonly [lines: string, certificate: Buffer];

/** What TLS needs to know of a server. */
export interface NativeSecureContext extends ResolvedSecureContext {
  readonly requestCert: boolean;
  readonly rejectUnauthorized: boolean;
}

/** A server's options as the addon takes them. */
export interface NativeListenOptions extends NativeSecureContext {
  readonly id: number;
  readonly host: string;
  readonly port: number;
  readonly reusePort: boolean;
  readonly error503Body: Uint8Array;
  readonly streamBodies: boolean;
  readonly sendDate: boolean;
  /** `fields` is Latin-1 text, `name\nvalue\n` each. */
  readonly routes: readonly { path: string; status: number; fields: string; body: Uint8Array }[];
  /** '' for none. */
  readonly livePath: string;
  readonly readyPath: string;
  readonly healthPort: number | undefined;
  readonly jsStallTimeoutMs: number;
}

/**
 * The functions of one running engine. After its end they do nothing. An exchange is named by index and generation; one
 * that has ended, or never was, does no harm.
 */
export interface NativeEngine {
  /** Hands over what is in the buffer of answers. */
  flush(): void;
  /** To be called once `CONTROL.read` has come to `CONTROL.unblockAt` with `CONTROL.blocked` set. */
  unblock(): void;
  /** Puts events into the events' memory: how many. */
  takeEvents(): number;
  /** Fills |target| with the body; false: it is gone. */
  takeBody(index: number, generation: number, target: ArrayBuffer): boolean;
  /** Bytes of a streamed body; `undefined`: none now; `null`: none any more; `false`: the exchange has ended. */
  read(index: number, generation: number): Uint8Array<ArrayBuffer> | undefined | null | false;
  /**
   * Flushes, then sends |bytes| from |offset| on: how many of them. 0: none now, a writable event follows. -1: the exchange
   * has ended. -2: there are no such bytes any more, or no memory for them.
   */
  write(index: number, generation: number, bytes: Uint8Array, offset: number): number;
  /**
   * Lends bytes for the body of the next answer that has `KIND.lentFlag`: they are read, not copied, and stay in memory
   * until they are sent. False: they cannot be lent.
   */
  lend(bytes: Uint8Array): boolean;
  /** Given once: the engine keeps none. */
  trailers(index: number, generation: number): string;
  peer(index: number, generation: number): NativePeer | null;
  listen(options: NativeListenOptions): { port: number; healthPort: number } | NativeFailure;
  /** For new connections; on a failure nothing has changed. */
  setSecureContext(id: number, context: NativeSecureContext): undefined | NativeFailure;
  /** The ready path of a server, or of all of them (-1), answers 503 from now on. */
  unready(id: number): void;
  /** Closes a server: `onNotice(id)` follows, once. A later call may shorten the time. */
  close(id: number, timeoutMs: number): void;
  /** Stops the engine: `onNotice(-1)` follows, once its threads have ended. A later call may shorten the time. */
  stop(timeoutMs: number): void;
  /** Whether the engine keeps the event loop alive; at first it does not. */
  setRef(alive: boolean): void;
  /** Fills |target| in the order of `statNames`, then the histograms. */
  stats(target: Float64Array): void;
}

/** The addon. */
export interface Native {
  start(options: {
    readonly config: ResolvedConfig;
    readonly memory: NativeMemory;
    /** Takes a turn; true: work is left. */
    readonly onTurn: () => boolean;
    readonly onNotice: (what: number) => void;
  }): NativeEngine | NativeFailure;
  /** Lifts the soft limit of descriptors as far as the hard one allows: both as they are now. */
  raiseDescriptorLimit(wanted: number): [soft: number, hard: number];
  versions(): {
    /** The version of the OpenSSL it was compiled with. Another library of this interface names itself: `AWS-LC 5.1.0`. */
    opensslCompiled: string;
    /** The one it runs with, in the same way. */
    opensslRuntime: string;
    nghttp2Compiled: string;
    nghttp2Runtime: string;
    uvRuntime: string;
  };
  readonly statNames: readonly string[];
  readonly histogramSize: number;
}

let loaded: Native | undefined;

/**
 * Loads the addon: a shipped prebuild or a build of one's own. Once a thread; nothing native is loaded before.
 *
 * @throws AioError `ERR_VALK_AIO_NATIVE` where there is none for this platform, or it does not load
 */
export function loadNative(): Native {
  if (loaded !== undefined) return loaded;
  const require = createRequire(import.meta.url);
  try {
    const build = require('node-gyp-build') as (folder: string) => Native;
    loaded = build(dirname(dirname(fileURLToPath(import.meta.url))));
  } catch (error) {
    const { platform, arch, version } = process;
    throw new AioError(
      'ERR_VALK_AIO_NATIVE',
      `The native engine could not be loaded on ${platform} ${arch}, Node.js ${version}: ` +
        'there is no prebuild for it. In a clone of the repository `npm run build` builds one; for an installed package, ' +
        '`npm run prebuild && npm pack` there makes a tarball that holds one for this platform',
      { cause: error },
    );
  }
  return loaded;
}
