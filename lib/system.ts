import { readFileSync } from 'node:fs';
import { debuglog } from 'node:util';
import { configWarnings, resolveConfig } from './config.js';
import type { AioConfig, ConfigWarning, ListenOptions, ResolvedConfig } from './config-types.js';
import { AioError } from './errors.js';
import { loadNative, type Native, type NativeEngine } from './native.js';
import { planMemory } from './plan.js';
import { type EngineServer, listen, type Server, type ServerHost, stopped } from './server.js';
import { Dispatcher } from './server-dispatch.js';
import { checkStopOptions, DelayedEnd, type StopOptions } from './server-stopping.js';
import { makeMemory } from './system-memory.js';
import { type AioStats, StatsReader } from './system-stats.js';
import type { Handler } from './types.js';

const debug = debuglog('valk-aio');

/** Descriptors that the process needs beside its connections. */
const SPARE_DESCRIPTORS = 64;

/** A running system: the engine's threads and pools, and the servers over them (specification, section 2). */
export interface Aio {
  /** The configuration, complete and deep-frozen. */
  readonly config: ResolvedConfig;
  /**
   * Listens.
   *
   * @param options - a key, a certificate, and the rest with defaults
   * @param handler - answers the requests
   * @returns a promise that rejects with an `AioConfigError` (a bad option), an `AioError` (`ERR_VALK_AIO_TLS`: key or
   *   certificate; `ERR_VALK_AIO_STOPPED`; `ERR_VALK_AIO_MEMORY`) or the system's error (`EADDRINUSE`, …). The system stays usable.
   */
  listen(options: ListenOptions, handler: Handler): Promise<Server>;
  /** A snapshot (specification, section 7). After the end: how all stood then. */
  stats(): AioStats;
  /**
   * Fails readiness and serves on for `delayMs` (0 by default); then refuses new connections, sends GOAWAY, lets requests
   * in flight finish until `timeoutMs` (10,000 by default), then resets them. Settles when the engine's threads have
   * ended. Calls share one promise; a later one may shorten the times.
   *
   * @throws RangeError at once, and not through the promise, where a time is no number of milliseconds; nothing has
   *   changed then
   */
  stop(options?: StopOptions): Promise<void>;
  /** `stop()` with its default, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Starts a system. Several may run at a time, in worker threads too.
 *
 * @param config - the two numbers, and whatever else should not be derived from them
 * @throws AioConfigError (nothing has been started), or AioError `ERR_VALK_AIO_NATIVE` (no addon), `ERR_VALK_AIO_START`
 *   (threads or memory could not be had: the message says what to lower)
 */
export function start(config?: AioConfig): Aio {
  const resolved = resolveConfig(config);
  const native = loadNative();
  debug('resolved configuration %O', resolved);
  const system = new System(native, resolved);
  for (const { code, message } of [...configWarnings(resolved), ...machineWarnings(native, resolved)]) {
    process.emitWarning(message, { type: 'AioWarning', code });
  }
  return system;
}

class System implements Aio, ServerHost {
  readonly config: ResolvedConfig;
  readonly engine: NativeEngine;
  readonly dispatcher: Dispatcher;
  readonly servers = new Map<number, EngineServer>();
  readonly #stats: StatsReader;
  readonly #end = new DelayedEnd((timeoutMs) => this.engine.stop(timeoutMs));
  nextId = 1;
  #stopped: Promise<void> | undefined;
  #onStopped: (() => void) | undefined;

  constructor(native: Native, config: ResolvedConfig) {
    this.config = config;
    const memory = makeMemory(config);
    this.dispatcher = new Dispatcher(memory);
    const engine = native.start({
      config,
      memory,
      onTurn: () => this.dispatcher.turn(),
      onNotice: (what) => this.#notice(what),
    });
    if ('code' in engine)
      throw new AioError('ERR_VALK_AIO_START', `The engine could not be started: ${engine.message}`);
    this.engine = engine;
    this.dispatcher.attach(engine);
    this.#stats = new StatsReader(native, engine);
  }

  get stopping(): boolean {
    return this.#stopped !== undefined;
  }

  listen(options: ListenOptions, handler: Handler): Promise<Server> {
    if (this.stopping) return Promise.reject(stopped());
    return listen(this, options, handler);
  }

  stats(): AioStats {
    return this.#stats.read();
  }

  stop(options?: StopOptions): Promise<void> {
    const { delayMs, timeoutMs } = checkStopOptions(options);
    if (this.#stopped === undefined) {
      this.#stopped = new Promise((resolve) => {
        this.#onStopped = resolve;
      });
    }
    this.engine.setRef(true);
    this.engine.unready(-1);
    this.#end.begin(delayMs, timeoutMs);
    return this.#stopped;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  updateRef(): void {
    let alive = this.stopping;
    for (const server of this.servers.values()) alive ||= server.alive;
    this.engine.setRef(alive);
  }

  #notice(what: number): void {
    if (what >= 0) {
      this.servers.get(what)?.closed();
      return;
    }
    this.#end.cancel();
    for (const server of [...this.servers.values()]) server.closed();
    this.#onStopped?.();
  }
}

function machineWarnings(native: Native, config: ResolvedConfig): ConfigWarning[] {
  const warnings: ConfigWarning[] = [];
  const wanted = config.maxConnections + SPARE_DESCRIPTORS;
  const [soft, hard] = native.raiseDescriptorLimit(wanted);
  if (soft < wanted) {
    warnings.push({
      code: 'VALK_AIO_LOW_DESCRIPTORS',
      field: 'maxConnections',
      message:
        `maxConnections of ${config.maxConnections} needs about ${wanted} descriptors; ` +
        `the process may have ${soft} (hard limit ${hard}): raise it (ulimit -Hn)`,
    });
  }
  const limit = memoryLimitBytes();
  const { committedBytes } = planMemory(config);
  if (limit < committedBytes) {
    warnings.push({
      code: 'VALK_AIO_LOW_MEMORY',
      field: 'arenaPoolSize',
      message: `arenaPoolSize of ${config.arenaPoolSize} commits ${committedBytes} bytes at start; the container may have ${limit}`,
    });
  }
  return warnings;
}

/** The container's bound on memory, in bytes: cgroup v2, then v1; Infinity where there is none. */
function memoryLimitBytes(): number {
  for (const file of ['/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes']) {
    try {
      const bytes = Number(readFileSync(file, 'utf8'));
      if (bytes > 0) return bytes;
    } catch {
      // Not in such a container.
    }
  }
  return Number.POSITIVE_INFINITY;
}
