import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { ListenOptions, ResolvedListenOptions } from './config-types.js';
import { AioError } from './errors.js';
import { resolveListenOptions } from './listen-options.js';
import { NATIVE_ERROR, type NativeEngine, type NativeFailure, type NativeListenOptions } from './native.js';
import type { Dispatcher } from './server-dispatch.js';
import type { Handler } from './types.js';

/** How long `close()` and `stop()` let requests finish unless told otherwise. */
export const DEFAULT_STOP_TIMEOUT_MS = 10_000;

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
   * Refuses new connections at once, lets requests in flight finish, then resets them. Calls share one promise; a
   * later one may shorten the time.
   */
  close(options?: { timeoutMs?: number | undefined }): Promise<void>;
  /** Keeps the process alive while it listens, as it does from the start. */
  ref(): this;
  /** Lets the process end though it listens. */
  unref(): this;
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
  const server = new EngineServer(host, id, resolved.host, result.port, healthPort);
  host.servers.set(id, server);
  host.updateRef();
  return server;
}

/** The error of a system that has been stopped. */
export function stopped(): AioError {
  return new AioError('ERR_VALK_AIO_STOPPED', 'The system has been stopped');
}

/** A number of milliseconds, or the default. */
export function timeoutOf(options: { timeoutMs?: number | undefined } | undefined): number {
  const timeoutMs = options?.timeoutMs ?? DEFAULT_STOP_TIMEOUT_MS;
  if (typeof timeoutMs !== 'number' || !(timeoutMs >= 0)) {
    throw new RangeError('timeoutMs must be a number of milliseconds, 0 or more');
  }
  return Math.min(Math.floor(timeoutMs), 0xffff_ffff);
}

export class EngineServer implements Server {
  readonly host: string;
  readonly port: number;
  readonly healthPort: number | undefined;
  readonly #host: ServerHost;
  readonly #id: number;
  readonly #closed: Promise<void>;
  #onClosed!: () => void;
  #alive = true;

  constructor(host: ServerHost, id: number, name: string, port: number, healthPort: number | undefined) {
    this.#host = host;
    this.#id = id;
    this.host = name;
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

  close(options?: { timeoutMs?: number | undefined }): Promise<void> {
    this.#host.engine.close(this.#id, timeoutOf(options));
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

function listenError(failure: NativeFailure, options: ResolvedListenOptions): Error {
  if (failure.code === NATIVE_ERROR.tls) return new AioError('ERR_VALK_AIO_TLS', sentence(failure.message));
  if (failure.code === NATIVE_ERROR.stopped) return stopped();
  if (failure.name === '') return new AioError('ERR_VALK_AIO_MEMORY', sentence(failure.message));
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
