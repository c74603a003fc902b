import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { ListenOptions, ResolvedListenOptions, SecureContextOptions } from './config-types.js';
import { AioError } from './errors.js';
import { resolveListenOptions } from './listen-options.js';
import {
  NATIVE_ERROR,
  type NativeEngine,
  type NativeFailure,
  type NativeListenOptions,
  type NativeSecureContext,
} from './native.js';
import { checkTrust, resolveSecureContext } from './secure-context.js';
import type { Dispatcher } from './server-dispatch.js';
import { checkStopOptions, DelayedEnd, type StopOptions } from './server-stopping.js';
import type { Handler } from './types.js';

/** A server: one listening address of a system (specification, section 2). Made by `aio.listen()`. */
export interface Server {
  /** `https://host:port/`. */
  readonly url: string;
  /** The host as it was given to `listen()`. */
  readonly host: string;
  /** The port that it listens on. */
  readonly port: number;
  /** The port of the health endpoints' own listener, where there is one. */
  readonly healthPort: number | undefined;
  /**
   * Changes the certificates for new connections; those that are there go on with what they began with, and sessions can
   * still be resumed unless `ca` changed. `contexts` and `ca` stay as they were where they are left out.
   *
   * @throws AioConfigError (a bad option) or AioError (`ERR_VALK_AIO_TLS`: a key or certificate; `ERR_VALK_AIO_STOPPED`:
   *   the server is closing or closed; `ERR_VALK_AIO_MEMORY`: no memory for it). Nothing has changed then.
   */
  setSecureContext(options: SecureContextOptions): void;
  /**
   * Fails readiness and serves on for `delayMs`; then refuses new connections, lets requests in flight finish until
   * `timeoutMs`, then resets them. Calls share one promise; a later one may shorten the times.
   *
   * @throws RangeError at once, and not through the promise, where a time is no number of milliseconds; nothing has
   *   changed then
   */
  close(options?: StopOptions): Promise<void>;
  /** Keeps the process alive while it listens, as it does from the start. */
  ref(): this;
  /** Lets the process end though it listens. */
  unref(): this;
  /** `close()` with its default, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** What servers share with the system that they belong to. */
export interface ServerHost {
  readonly engine: NativeEngine;
  readonly dispatcher: Dispatcher;
  readonly stopping: boolean;
  readonly servers: Map<number, EngineServer>;
  nextId: number;
  /** Servers that keep the process alive have come or gone. */
  updateRef(): void;
}

/** @throws AioConfigError and everything that `listen()` rejects with */
export async function listen(host: ServerHost, options: ListenOptions, handler: Handler): Promise<Server> {
  const resolved = resolveListenOptions(options);
  if (typeof handler !== 'function') throw new TypeError('handler must be a function');
  const address = isIP(resolved.host) !== 0 ? resolved.host : (await lookup(resolved.host)).address;
  if (host.stopping) throw stopped();
  const id = host.nextId++;
  host.dispatcher.addServer(id, {
    handler,
    onError: resolved.onError,
    maxResponseBodySize: resolved.maxResponseBodySize,
    limitStreams: resolved.maxResponseStreamSize !== Number.POSITIVE_INFINITY,
  });
  const result = host.engine.listen(nativeOptions(id, address, resolved));
  if ('code' in result) {
    host.dispatcher.removeServer(id);
    throw listenError(result, resolved);
  }
  const healthPort = resolved.health?.port === undefined ? undefined : result.healthPort;
  const server = new EngineServer(host, id, resolved, result.port, healthPort);
  host.servers.set(id, server);
  host.updateRef();
  return server;
}

/** The error of a system that has been stopped. */
export function stopped(): AioError {
  return new AioError('ERR_VALK_AIO_STOPPED', 'The system has been stopped');
}

/**
 * A server of the engine's, by the number that both sides know it by. It lives in its host's `servers` from a `listen()`
 * that succeeded until the engine has said that the server is closed.
 */
export class EngineServer implements Server {
  readonly host: string;
  readonly port: number;
  readonly healthPort: number | undefined;
  readonly #host: ServerHost;
  readonly #id: number;
  readonly #closed: Promise<void>;
  #onClosed!: () => void;
  readonly #end: DelayedEnd;
  #secure: NativeSecureContext;
  #alive = true;
  #closing = false;

  constructor(
    host: ServerHost,
    id: number,
    options: ResolvedListenOptions,
    port: number,
    healthPort: number | undefined,
  ) {
    const { key, cert, contexts, ca, requestCert, rejectUnauthorized } = options;
    this.#host = host;
    this.#id = id;
    this.#secure = { key, cert, contexts, ca, requestCert, rejectUnauthorized };
    this.#end = new DelayedEnd((timeoutMs) => host.engine.close(id, timeoutMs));
    this.host = options.host;
    this.port = port;
    this.healthPort = healthPort;
    this.#closed = new Promise((resolve) => {
      this.#onClosed = resolve;
    });
  }

  get url(): string {
    return `https://${isIP(this.host) === 6 ? `[${this.host}]` : this.host}:${this.port}/`;
  }

  /** Whether it keeps the process alive. */
  get alive(): boolean {
    return this.#alive;
  }

  setSecureContext(options: SecureContextOptions): void {
    const secure: NativeSecureContext = { ...this.#secure, ...resolveSecureContext(options, this.#secure) };
    checkTrust(secure, secure.requestCert, secure.rejectUnauthorized);
    if (this.#closing || this.#host.stopping) {
      throw new AioError('ERR_VALK_AIO_STOPPED', 'The server has been closed');
    }
    const failed = this.#host.engine.setSecureContext(this.#id, secure);
    if (failed !== undefined) throw engineError(failed);
    this.#secure = secure;
  }

  close(options?: StopOptions): Promise<void> {
    const { delayMs, timeoutMs } = checkStopOptions(options);
    this.#closing = true;
    this.#host.engine.unready(this.#id);
    this.#end.begin(delayMs, timeoutMs);
    return this.#closed;
  }

  ref(): this {
    this.#alive = true;
    this.#host.updateRef();
    return this;
  }

  unref(): this {
    this.#alive = false;
    this.#host.updateRef();
    return this;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The engine has closed it. */
  closed(): void {
    this.#closing = true;
    this.#end.cancel();
    this.#host.servers.delete(this.#id);
    this.#host.dispatcher.removeServer(this.#id);
    this.#onClosed();
    this.#host.updateRef();
  }
}

function nativeOptions(id: number, address: string, options: ResolvedListenOptions): NativeListenOptions {
  const { health } = options;
  return {
    id,
    host: address,
    port: options.port,
    key: options.key,
    cert: options.cert,
    contexts: options.contexts,
    ca: options.ca,
    requestCert: options.requestCert,
    rejectUnauthorized: options.rejectUnauthorized,
    reusePort: options.reusePort,
    error503Body: options.error503Body,
    streamBodies: options.bodyMode === 'stream',
    sendDate: options.sendDate,
    routes: options.staticRoutes.map(({ path, status, headers, body }) => {
      const fields = headers.map(([name, value]) => `${name}\n${value}\n`).join('');
      return { path, status, fields, body };
    }),
    livePath: health?.live ?? '',
    readyPath: health?.ready ?? '',
    healthPort: health?.port,
    jsStallTimeoutMs: health?.jsStallTimeoutMs ?? 0,
  };
}

/** The error of a failure that is the engine's own. */
function engineError({ code, message }: NativeFailure): AioError {
  if (code === NATIVE_ERROR.tls) return new AioError('ERR_VALK_AIO_TLS', sentence(message));
  if (code === NATIVE_ERROR.stopped) return stopped();
  return new AioError('ERR_VALK_AIO_MEMORY', sentence(message));
}

function listenError(failure: NativeFailure, options: ResolvedListenOptions): Error {
  if (failure.name === '') return engineError(failure);
  const message = `listen ${failure.name}: ${failure.message}`;
  const { host: address, port } = options;
  return Object.assign(new Error(message), {
    code: failure.name,
    errno: failure.code,
    syscall: 'listen',
    address,
    port,
  });
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
