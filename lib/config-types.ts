/**
 * The configuration of a system: what `start()`, `resolveConfig()` and `configForMemory()` take.
 *
 * Every field is a whole number and may be left out; `undefined` means "derive it, or take the default". For the derived
 * and size fields 0 means the same. Two numbers matter, `maxConnections` and `maxConcurrentStreams`; the rest follows
 * from them (specification, section 1).
 */
export interface AioConfig {
  /**
   * Connections at one time, pending handshakes included. More of them wait in the kernel's backlog. 1 to 100,000.
   * @default 100
   */
  maxConnections?: number | undefined;
  /**
   * Streams (requests) at one time on each connection, sent to the client in SETTINGS. 1 to 1,000.
   * @default 100
   */
  maxConcurrentStreams?: number | undefined;
  /**
   * TCP buffers that all connections share. At least `maxConnections`; 16 to 1,000,000.
   * @default floor(maxConnections × (16 + maxConcurrentStreams) / 8), held within the limits
   */
  tcpBufferPoolSize?: number | undefined;
  /**
   * Arenas, one for each request that a handler works on. At least floor(`maxConnections` / 10); 1 to 10,000.
   * @default maxConnections × 2, held within the limits
   */
  arenaPoolSize?: number | undefined;
  /**
   * Slots of the queue to JavaScript, and as many of the queue back. 16 to 100,000.
   * @default maxConnections × 2, held within the limits
   */
  queueCapacity?: number | undefined;
  /**
   * Bytes of address space of one arena, which holds a request's headers and its buffered body. 1 MiB to 256 MiB.
   * @default 67108864 (64 MiB)
   */
  arenaSize?: number | undefined;
  /**
   * Largest request body in bytes; 413 beyond it. 1 KiB to 1 GiB.
   * @default 8388608 (8 MiB)
   */
  maxRequestBodySize?: number | undefined;
  /**
   * Engine threads, each with an event loop of its own. 0 to the number of cores that the process may use. 0: the engine
   * lives on JavaScript's thread, which spares a single request two changes of threads; while JavaScript is busy nothing
   * is served then, health checks and refusals neither.
   * @default 1
   */
  ioThreads?: number | undefined;
  /**
   * Milliseconds that a request waits for an arena or a slot of the queue before it gets 503. 1 to 600,000.
   * @default 1000
   */
  queueTimeoutMs?: number | undefined;
  /**
   * Milliseconds that a handler may take before its client gets 503 or a reset. 1 to 86,400,000.
   * @default 300000
   */
  handlerTimeoutMs?: number | undefined;
  /**
   * Arenas that the pool may grow by beyond `arenaPoolSize`. 0 to 10,000.
   * @default 0
   */
  maxOverflowArenas?: number | undefined;
  /**
   * Bytes that one connection's TLS, HTTP/2 and waiting requests may take. 128 KiB to 1 GiB.
   * @default 262144 + 8192 × maxConcurrentStreams
   */
  connectionHeapSize?: number | undefined;
  /**
   * Milliseconds from accept to the client's SETTINGS. 1 to 600,000.
   * @default 10000
   */
  handshakeTimeoutMs?: number | undefined;
  /**
   * Milliseconds that a connection may stay without an open stream. 1 to 86,400,000.
   * @default 75000
   */
  idleTimeoutMs?: number | undefined;
  /**
   * Milliseconds from a header block's first byte to its end. 1 to 600,000.
   * @default 10000
   */
  headersTimeoutMs?: number | undefined;
  /**
   * Milliseconds without a byte of a request body that is still to come. 1 to 3,600,000.
   * @default 30000
   */
  bodyTimeoutMs?: number | undefined;
  /**
   * Bytes a second that a request body must bring after its first 10 s; 0 turns the limit off. 0 to 1,000,000.
   * @default 240
   */
  minBodyRate?: number | undefined;
  /**
   * Milliseconds in which the peer takes no byte of what it asked for. 1 to 3,600,000.
   * @default 30000
   */
  writeTimeoutMs?: number | undefined;
  /**
   * Largest header list in bytes, counted as RFC 9113, section 6.5.2 does and sent in SETTINGS; 431 beyond it.
   * 1 KiB to 64 KiB.
   * @default 32768 (32 KiB)
   */
  maxHeaderListSize?: number | undefined;
}

/** The name of a field of the configuration. */
export type ConfigField = keyof AioConfig;

/** A complete configuration whose fields may be changed: what `defaultConfig()` gives. */
export type ConfigValues = { [Field in ConfigField]-?: number };

/** A complete, valid, frozen configuration, as the engine receives it. Each field is described in {@link AioConfig}. */
export type ResolvedConfig = { readonly [Field in ConfigField]-?: number };

/** The stable codes of warnings. The last two come from the machine, at `start()`. */
export type ConfigWarningCode =
  | 'VALK_AIO_LOW_BUFFERS'
  | 'VALK_AIO_LOW_ARENAS'
  | 'VALK_AIO_CLAMPED'
  | 'VALK_AIO_LOW_DESCRIPTORS'
  | 'VALK_AIO_LOW_MEMORY';

/** Something that works and may not work well. `start()` emits it with `process.emitWarning` and goes on. */
export interface ConfigWarning {
  /** Which warning it is, for programs. */
  readonly code: ConfigWarningCode;
  /** The field that it is about. */
  readonly field: ConfigField;
  /** A sentence for people. */
  readonly message: string;
}

/** The memory that a configuration can take, in bytes: what `planMemory()` gives. */
export interface MemoryPlan {
  /** All TCP buffers, in whole pages. */
  readonly bufferBytes: number;
  /** All arenas, those of the overflow included. */
  readonly arenaBytes: number;
  /** All connections with all their streams: TLS, HTTP/2, waiting requests, records. */
  readonly connectionBytes: number;
  /** Threads, message rings, and what the native library itself takes. */
  readonly otherBytes: number;
  /** The sum of the four: the most that the system can take beside JavaScript's own heap. */
  readonly totalBytes: number;
  /** What is there right after `start()`, before the first connection, and stays. */
  readonly committedBytes: number;
}

/** A header block: names to values (an array gives a field for each value), or pairs, or `Headers`. */
export type HeaderSource =
  | { readonly [name: string]: string | number | readonly (string | number)[] }
  | Iterable<readonly [string, string | number]>;

/** An answer that the engine gives by itself, to GET and HEAD, without entering JavaScript. */
export interface StaticRoute {
  /**
   * 200 to 599.
   * @default 200
   */
  status?: number | undefined;
  /** Header fields; `date` and `content-length` are added by the engine. At most 16 KiB. */
  headers?: HeaderSource | undefined;
  /** The body; none for 204 and 304. Copied at `listen()`. */
  body?: string | Uint8Array | ArrayBuffer | null | undefined;
}

/** Health checks that the engine answers by itself (specification, section 3). */
export interface HealthOptions {
  /**
   * The path that tells whether the process lives.
   * @default '/livez'
   */
  live?: string | undefined;
  /**
   * The path that tells whether it should get requests.
   * @default '/readyz'
   */
  ready?: string | undefined;
  /** A listener of their own, with 16 connections of its own; 0 takes a free port. Without it: the server's own port. */
  port?: number | undefined;
  /**
   * Milliseconds that JavaScript may leave a wake-up unanswered and still count as alive. 1 to 86,400,000.
   * @default 30000
   */
  jsStallTimeoutMs?: number | undefined;
}

/** A private key and its certificate. */
export interface KeyAndCertificate {
  /** The private key in PEM (its contents, not a file's name): a string or bytes, such as a `Buffer`. */
  key: string | Uint8Array;
  /** The certificate in PEM, then its chain: a string or bytes, such as a `Buffer`. */
  cert: string | Uint8Array;
}

/** What `server.setSecureContext()` takes. What is left out stays as it was. */
export interface SecureContextOptions extends KeyAndCertificate {
  /**
   * Certificates by the server name that a client asks for (SNI): `a.example`, or `*.b.example` for names of exactly one
   * label more. An exact name goes before a wildcard; case does not matter; at most 1,000. All other clients, and those
   * that name no server, get `cert`.
   */
  contexts?: { readonly [name: string]: KeyAndCertificate } | undefined;
  /** The certificates in PEM that vouch for those of clients (with `requestCert`): one text of any number, or an array. */
  ca?: string | Uint8Array | readonly (string | Uint8Array)[] | undefined;
}

/** The options of `listen()`. */
export interface ListenOptions extends SecureContextOptions {
  /**
   * Whether clients are asked for a certificate. `connection.tls.peerCertificate` shows it. Clients of a health listener
   * of its own are not asked.
   * @default false
   */
  requestCert?: boolean | undefined;
  /**
   * With `requestCert`: whether a client without a certificate that `ca` vouches for is turned away in the handshake;
   * else `connection.tls.authorized` tells.
   * @default true
   */
  rejectUnauthorized?: boolean | undefined;
  /**
   * Whether other processes may listen on the same port (SO_REUSEPORT), all of them with this option and of one user.
   * The kernel spreads new connections over them.
   * @default false
   */
  reusePort?: boolean | undefined;
  /**
   * 0 to 65,535; 0 takes a free port.
   * @default 0
   */
  port?: number | undefined;
  /**
   * The address or name to listen on.
   * @default '127.0.0.1'
   */
  host?: string | undefined;
  /**
   * Largest response body in bytes. Bodies given whole are always held to it, streams only where it is set here;
   * `Infinity` lifts it, 0 means the default.
   * @default 67108864 (64 MiB)
   */
  maxResponseBodySize?: number | undefined;
  /**
   * The body of the 503 under overload; at most 64 KiB.
   * @default 'Service Unavailable\n'
   */
  error503Body?: string | Uint8Array | undefined;
  /**
   * Whether a handler is called when the whole body is there, or as soon as the headers are.
   * @default 'buffer'
   */
  bodyMode?: 'buffer' | 'stream' | undefined;
  /**
   * Called with what a handler or a body threw. What it throws itself is ignored.
   * @default writes to standard error
   */
  onError?: ((error: unknown, request: Request) => void) | undefined;
  /** Answers of the engine's own, by exact path. */
  staticRoutes?: { readonly [path: string]: StaticRoute } | undefined;
  /** Health checks; none without it. */
  health?: HealthOptions | undefined;
  /**
   * Whether answers carry `date` (RFC 9110, section 6.6.1).
   * @default true
   */
  sendDate?: boolean | undefined;
}

/** The name of an option of `listen()`. */
export type ListenField = keyof ListenOptions;

/** A static route as the engine receives it. */
export interface ResolvedStaticRoute {
  readonly path: string;
  readonly status: number;
  /** Lower-case names, trimmed values, in order; no connection-specific fields, no `content-length`. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Uint8Array;
}

/** {@link HealthOptions}, complete. */
export interface ResolvedHealth {
  readonly live: string;
  readonly ready: string;
  /** `undefined`: the server's own listener. */
  readonly port: number | undefined;
  readonly jsStallTimeoutMs: number;
}

/** {@link SecureContextOptions}, checked. */
export interface ResolvedSecureContext {
  readonly key: Uint8Array;
  readonly cert: Uint8Array;
  /** `name` is in lower case. */
  readonly contexts: readonly { readonly name: string; readonly key: Uint8Array; readonly cert: Uint8Array }[];
  readonly ca: Uint8Array | undefined;
}

/** {@link ListenOptions}, checked, complete and frozen; all bytes are copies. */
export interface ResolvedListenOptions extends ResolvedSecureContext {
  readonly requestCert: boolean;
  readonly rejectUnauthorized: boolean;
  readonly reusePort: boolean;
  readonly port: number;
  readonly host: string;
  /** The bound of bodies given whole, in bytes, or `Infinity`. */
  readonly maxResponseBodySize: number;
  /** The bound of streamed bodies: `Infinity` unless `maxResponseBodySize` was set. */
  readonly maxResponseStreamSize: number;
  readonly error503Body: Uint8Array;
  readonly bodyMode: 'buffer' | 'stream';
  readonly onError: ((error: unknown, request: Request) => void) | undefined;
  readonly staticRoutes: readonly ResolvedStaticRoute[];
  readonly health: ResolvedHealth | undefined;
  readonly sendDate: boolean;
}
