import { type ChildProcess, execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { ClientHttp2Session } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import type { AioConfig, AioStats, ListenOptions, MemoryPlan } from 'valk-aio';
import { cert, key } from './certificate.js';
import { ask, type Outcome, until } from './client.js';
import type { LabLog } from './lab.js';

/** What can be asked of the process. */
export type Command = 'start' | 'listen' | 'stats' | 'memory' | 'log' | 'release' | 'threads' | 'stop';

/** The memory of the server's process, in bytes. */
export interface Memory {
  /** Resident before `start()`. */
  readonly restBytes: number;
  /** Resident now. */
  readonly rssBytes: number;
  /** The most that was resident since then. */
  readonly peakBytes: number;
  /** What the configuration may take. */
  readonly plan: MemoryPlan;
}

/** JavaScript's own heap in these tests: the rest above the plan of the engine. */
const JAVASCRIPT_BYTES = 64 * 2 ** 20;

const CHILD = fileURLToPath(new URL('server-child.ts', import.meta.url));

/** The options of `listen()` that can be sent to another process. */
export type PlainListenOptions = Omit<ListenOptions, 'key' | 'cert' | 'onError'>;

/** What ends things at the end of a test, or of a program. */
export interface Teardown {
  teardown(end: () => unknown): unknown;
}

/** A server in a process of its own, whose event loop and memory it does not share with the client. */
export class ServerProcess {
  readonly #child: ChildProcess;
  readonly #answers = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #nextId = 1;
  url = '';
  port = 0;
  healthPort: number | undefined;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', ({ id, result, error }: { id: number; result?: unknown; error?: string }) => {
      const answer = this.#answers.get(id);
      this.#answers.delete(id);
      if (error === undefined) answer?.resolve(result);
      else answer?.reject(new Error(error));
    });
    child.on('exit', (code, signal) => {
      for (const { reject } of this.#answers.values()) reject(new Error(`the server ended: ${signal ?? code}`));
    });
  }

  /**
   * Starts one; it is stopped at the end of the test. Unless `config` says otherwise a request may wait for long: how
   * quickly a busy machine comes to it is not what tests are about.
   *
   * @param limits - `descriptors`: the most that the process may have; `env`: added to its environment
   */
  static async start(
    t: Teardown,
    config: AioConfig = {},
    options: PlainListenOptions = {},
    limits: { descriptors?: number; env?: Record<string, string> } = {},
  ): Promise<ServerProcess> {
    const child = fork(CHILD, {
      serialization: 'advanced',
      env: { ...process.env, ...limits.env },
      execArgv: ['--expose-gc', '--no-warnings', ...process.execArgv],
    });
    if (limits.descriptors !== undefined) {
      execFileSync('prlimit', ['--pid', String(child.pid), `--nofile=${limits.descriptors}`]);
    }
    const server = new ServerProcess(child);
    t.teardown(() => server.stop());
    Object.assign(server, await server.ask('start', { queueTimeoutMs: 60_000, ...config }, { key, cert, ...options }));
    return server;
  }

  ask(name: Command, ...args: unknown[]): Promise<unknown> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#answers.set(id, { resolve, reject });
      this.#child.send({ id, name, args }, (error) => error !== null && reject(error));
    });
  }

  async stats(): Promise<AioStats> {
    return (await this.ask('stats')) as AioStats;
  }

  async log(): Promise<LabLog> {
    return (await this.ask('log')) as LabLog;
  }

  async memory(): Promise<Memory> {
    return (await this.ask('memory')) as Memory;
  }

  async release(): Promise<void> {
    await this.ask('release');
  }

  /** Releases again and again, until |all| has settled: those that came to their handlers later too. */
  async releaseUntil<T>(all: Promise<T>): Promise<T> {
    let settled = false;
    const result = all.finally(() => {
      settled = true;
    });
    await until('all are released', async () => {
      await this.release();
      return settled;
    });
    return result;
  }

  /** Has a handler block JavaScript until `unblock` is called; resolves when it does. */
  async block(t: Teardown, session: ClientHttp2Session): Promise<{ answer: Promise<Outcome>; unblock: () => void }> {
    const folder = mkdtempSync(join(tmpdir(), 'valk-aio-block-'));
    const unblock = (): void => rmSync(folder, { recursive: true, force: true });
    t.teardown(unblock);
    const file = join(folder, 'blocks');
    writeFileSync(file, '');
    const answer = ask(session, `/block?while=${encodeURIComponent(file)}`);
    await until('JavaScript is blocked', () => readFileSync(file, 'utf8') !== '');
    return { answer, unblock };
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** Asserts what holds for every pool at all times: no high-water mark above its size, memory within the plan. */
  async assertBounds(t: ExecutionContext): Promise<void> {
    const stats = await this.stats();
    for (const name of ['connections', 'buffers', 'arenas', 'queue'] as const) {
      const { highWater, size } = stats[name];
      t.true(highWater <= size, `${name}: ${highWater} of ${size}`);
    }
    const { restBytes, peakBytes, plan } = await this.memory();
    const mebibytes = Math.round((peakBytes - restBytes) / 2 ** 20);
    const most = plan.totalBytes + JAVASCRIPT_BYTES;
    t.true(peakBytes - restBytes <= most, `${mebibytes} MiB of ${Math.round(most / 2 ** 20)} MiB`);
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    const late = setTimeout(() => this.#child.kill('SIGKILL'), 15_000);
    await this.ask('stop').catch(() => {});
    await ended;
    clearTimeout(late);
    const { exitCode, signalCode } = this.#child;
    if (exitCode !== 0) throw new Error(`the server ended with ${signalCode ?? exitCode}`);
  }
}
