import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type ClientHttp2Session, connect } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import type { AioConfig, AioStats } from 'valk-aio';
import { cert } from '../helpers/certificate.js';
import { outcome, send, until } from '../helpers/client.js';
import { counter } from '../helpers/counter.js';
import type { LabLog } from '../helpers/lab.js';
import { type PlainListenOptions, ServerProcess } from '../helpers/server-process.js';
import type { Order } from './attacker.js';
import type { Report } from './peer.js';

const MIB = 2 ** 20;

/** How long a flood lasts. */
export const DURATION_MS = Number(process.env.VALK_ATTACK_MS ?? 2000);

/** The good client's slowest hundredth may take no longer. */
export const P99_MS = 1000;

/** JavaScript's own heap in the server's process. */
const JAVASCRIPT_BYTES = 64 * MIB;

/** What may stay resident after an attack: heaps of malloc and of V8 that are warm now. */
const WARM_BYTES = 48 * MIB;

/** How much more may be resident after the third time of the same attack than after the first. */
const GROWTH_BYTES = 8 * MIB;

/** How long the second and the third time last. */
const AGAIN_MS = Math.min(DURATION_MS, 1000);

/**
 * malloc gives large blocks back as they are freed. By default it raises that threshold to the size of the first one
 * freed (mallopt(3)), and how much it then keeps is chance, more than GROWTH_BYTES.
 */
const ENV = { MALLOC_MMAP_THRESHOLD_: '131072' };

/** Small pools, so that the plan bounds them tightly. */
const CONFIG: AioConfig = { maxConnections: 64, arenaSize: MIB, arenaPoolSize: 96, maxRequestBodySize: MIB / 4 };

export interface Battle {
  readonly config?: AioConfig;
  readonly options?: PlainListenOptions;
  readonly durationMs?: number;
  readonly connections?: number;
  /** Counters of stats(), as paths: each must have moved. Of a list in the list one must. */
  readonly counters: readonly (string | readonly string[])[];
  /** The most handlers that may run at a time; 0: none may have been called by the attack. */
  readonly handlers: number;
  readonly check?: (t: ExecutionContext, outcome: Aftermath) => void;
}

export interface Aftermath {
  readonly report: Report;
  readonly before: AioStats;
  readonly after: AioStats;
  readonly log: LabLog;
}

/** A figure of a process's /proc/self/status, in bytes. */
function status(pid: number, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
}

const descriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;
const mib = (bytes: number): number => Math.round(bytes / MIB);

/** Tells a process of its own to attack. */
export class Attacker {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(t: ExecutionContext): Promise<Attacker> {
    const child = fork(fileURLToPath(new URL('attacker.ts', import.meta.url)), {
      execArgv: ['--no-warnings', ...process.execArgv],
    });
    t.teardown(() => child.kill('SIGKILL'));
    await once(child, 'message');
    return new Attacker(child);
  }

  async run(order: Order): Promise<Report> {
    this.#child.send(order);
    const [{ report, error }] = (await once(this.#child, 'message')) as [{ report: Report; error?: string }];
    if (error !== undefined) throw new Error(error);
    return report;
  }
}

/** A client that behaves: two requests at a time on one connection, and the time that each took. */
export class GoodClient {
  readonly times: number[] = [];
  readonly failures: string[] = [];
  readonly #session: ClientHttp2Session;
  readonly #path: string;
  #isRunning = false;
  #loops: Promise<void>[] = [];

  private constructor(session: ClientHttp2Session, path: string) {
    this.#session = session;
    this.#path = path;
  }

  static async open(t: ExecutionContext, url: string, ca = cert, path = '/good'): Promise<GoodClient> {
    const session = connect(url, { ca, settings: { enablePush: false } });
    session.on('error', () => {});
    t.teardown(() => session.destroy());
    await once(session, 'remoteSettings');
    return new GoodClient(session, path);
  }

  begin(): void {
    this.#isRunning = true;
    this.#loops = [0, 1].map(async () => {
      while (this.#isRunning) {
        await this.#ask();
        await sleep(4);
      }
    });
  }

  async end(): Promise<void> {
    this.#isRunning = false;
    await Promise.all(this.#loops);
  }

  async #ask(): Promise<void> {
    const begin = performance.now();
    try {
      const { status: code, whole, resetCode } = await outcome(send(this.#session, this.#path));
      if (code !== 200 || !whole) this.failures.push(`status ${code}, reset ${resetCode}`);
    } catch (error) {
      this.failures.push(String(error));
      await sleep(50);
    }
    this.times.push(performance.now() - begin);
  }

  /** A quantile of the times, in milliseconds. */
  quantile(q: number): number {
    const sorted = this.times.toSorted((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;
  }
}

/** Waits for the RSS to come down to |most|, and gives it. */
async function settledRss(server: ServerProcess, most: number): Promise<number> {
  for (const end = performance.now() + 20_000; ; await sleep(100)) {
    const { rssBytes: rss } = await server.memory();
    if (rss <= most || performance.now() > end) return rss;
  }
}

/** Runs an attack against a server of its own while a good client measures, and asserts what must hold whatever it was. */
export async function battle(t: ExecutionContext, name: string, how: Battle): Promise<void> {
  const [server, attacker] = await Promise.all([
    ServerProcess.start(t, { ...CONFIG, ...how.config }, how.options, { env: ENV }),
    Attacker.start(t),
  ]);
  const { pid } = server;
  const good = await GoodClient.open(t, server.url);
  // Warm: what the first requests allocate is not the attack's.
  good.begin();
  await sleep(300);
  await good.end();
  good.times.length = 0;
  const before = await server.stats();
  const descriptorsBefore = descriptors(pid);
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
  const { rssBytes: rssBefore } = await server.memory();

  const order = { name, port: server.port, connections: how.connections ?? 8 };
  good.begin();
  const durationMs = how.durationMs ?? DURATION_MS;
  let report = await attacker.run({ ...order, durationMs });
  // A slow machine needs longer to spend a budget.
  const hasMoved = (stats: AioStats): boolean =>
    how.counters.every((entry) => [entry].flat().some((path) => counter(stats, path) > counter(before, path)));
  if (!hasMoved(await server.stats())) report = await attacker.run({ ...order, durationMs: 4 * durationMs });
  await server.release();
  await good.end();
  const peak = status(pid, 'VmHWM');

  const nothingLeft = async (clients: number): Promise<AioStats> => {
    let now = before;
    const left = (): string =>
      [
        now.connection.active - clients,
        now.connection.waiting,
        now.request.active,
        now.request.waiting,
        now.queue.inUse,
        now.arenas.inUse,
        now.buffers.inUse,
        descriptors(pid) - descriptorsBefore - (clients - 1),
      ].join(' ');
    await until('nothing is left', async () => {
      await server.release();
      now = await server.stats();
      return /^[0 ]+$/.test(left());
    }).catch(() =>
      t.is(left(), '0 0 0 0 0 0 0 0', 'connections, waiting, requests, waiting, queue, arenas, buffers, fds'),
    );
    return now;
  };
  const after = await nothingLeft(1);
  const fresh = await GoodClient.open(t, server.url);
  fresh.begin();
  await sleep(50);
  await fresh.end();
  t.deepEqual(fresh.failures, [], 'a new connection is served');
  const rssAfter = await settledRss(server, rssBefore + WARM_BYTES);
  const log = await server.log();
  const { restBytes, plan } = await server.memory();
  // What an attack leaves behind each time adds up.
  for (let time = 2; time <= 3; time++) {
    await attacker.run({ ...order, durationMs: AGAIN_MS });
    await nothingLeft(2);
  }
  const rssThird = await settledRss(server, rssAfter + GROWTH_BYTES);
  const p99 = good.quantile(0.99);

  const moved = how.counters.flatMap((entry) => {
    const names = typeof entry === 'string' ? [entry] : entry;
    return names.map((path) => [path, counter(after, path) - counter(before, path)] as const).filter(([, n]) => n > 0);
  });
  t.log(
    `${name}: good ${good.times.length} answered, p50 ${good.quantile(0.5).toFixed(1)} ms, p99 ${p99.toFixed(1)} ms; ` +
      `RSS ${mib(rssBefore)} / ${mib(peak)} / ${mib(rssAfter)} / ${mib(rssThird)} MiB; ` +
      `${report.opened} connections, ${report.sent} sent; ` +
      moved.map(([path, change]) => `${path} ${change}`).join(', '),
  );
  if (process.env.VALK_ATTACK_SHOW)
    t.log(JSON.stringify({ report, connection: after.connection, request: after.request }));

  for (const entry of how.counters) {
    const names = typeof entry === 'string' ? [entry] : entry;
    t.true(
      moved.some(([path]) => names.includes(path)),
      `${names.join(' or ')} has moved`,
    );
  }
  t.deepEqual(good.failures, [], 'each request of the good client is answered');
  t.true(good.times.length >= 20, `only ${good.times.length} requests of the good client`);
  t.true(p99 < P99_MS, `p99 ${p99} ms`);
  const most = plan.totalBytes + JAVASCRIPT_BYTES;
  t.true(peak - restBytes <= most, `${mib(peak - restBytes)} MiB of ${mib(most)} MiB`);
  t.true(rssAfter <= rssBefore + WARM_BYTES, `RSS ${mib(rssBefore)} MiB before, ${mib(rssAfter)} MiB after`);
  t.true(rssThird <= rssAfter + GROWTH_BYTES, `RSS ${mib(rssAfter)} MiB once, ${mib(rssThird)} MiB thrice`);
  const calls = log.calls.filter((path) => path !== '/good');
  t.false(calls.includes('/never'), 'no handler was called that should not');
  if (how.handlers === 0) t.deepEqual(calls.slice(0, 5), []);
  // The good client has two of its own.
  else t.true(log.peak <= how.handlers + 2, `${log.peak} handlers at a time`);
  t.deepEqual(log.errors, []);
  how.check?.(t, { report, before, after, log });
}
