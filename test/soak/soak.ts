// Mixed traffic, attacks, restarts and certificate changes for a long time: `npm run test:soak [-- --minutes N]`. The server
// is another process. Ends with 1 unless every good request was answered and the server is back where it was after the
// first minute.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { type ClientHttp2Session, connect } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { KeyAndCertificate } from 'valk-aio';
import { Authority } from '../helpers/authority.js';
import { ask } from '../helpers/client.js';
import { counter } from '../helpers/counter.js';
import { ATTACKS, CAUSES } from './attacks.js';
import type { Figures, Order } from './server.js';

// How much more than after the first minute there may be at the end.
const MORE = { rssBytes: 48 * 2 ** 20, descriptors: 4, threads: 2 };
const GOOD_CLIENTS = 8;
const RESTART_EVERY_MS = 12_000;
const CERTIFICATE_EVERY_MS = 5000;
/** No request, attack or order takes this long on a healthy machine. */
const MOST_MS = 60_000;

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '30' } } });
const minutes = Number(values.minutes);
if (!(minutes > 0)) throw new RangeError('--minutes must be a number above 0');

// Good clients verify the server; the attackers, which share the tests' raw client, take any certificate.
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
const authority = new Authority('soak');
const certificates = [authority.server('127.0.0.1'), authority.server('127.0.0.1', 'soak.example')];

class Server {
  readonly #child: ChildProcess;
  #last: Promise<unknown> = Promise.resolve();
  /** Restarts that have begun, and that have ended. */
  begun = 0;
  ended = 0;
  port = 0;

  constructor() {
    const file = fileURLToPath(new URL('server.ts', import.meta.url));
    this.#child = fork(file, { execArgv: ['--expose-gc', '--no-warnings', ...process.execArgv] });
    this.#child.on('exit', (code, signal) => {
      if (this.#child.connected || code !== 0) console.error(`the server ended: ${signal ?? code}`);
      if (code !== 0) process.exit(1);
    });
  }

  order(order: Order): Promise<Figures> {
    const result = this.#last.then(async () => {
      const answer = once(this.#child, 'message');
      this.#child.send(order);
      const [figures] = (await named(`order to the server: ${order.what}`, answer)) as [Figures];
      return figures;
    });
    this.#last = result;
    return result;
  }

  async restart(): Promise<void> {
    // The counters end with the system that they belong to.
    const { stats } = await this.order({ what: 'figures' });
    for (const path of COUNTERS) moved[path] = (moved[path] ?? 0) + counter(stats, path);
    this.begun++;
    await this.order({ what: 'restart' });
    this.ended++;
    // node:http2's client may never notice the end of a connection, when it was a write that failed.
    for (const session of sessions) session.destroy();
  }

  end(): void {
    this.#child.disconnect();
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}

const COUNTERS = [...new Set(Object.values(CAUSES).flat())];
/** What the counters of all systems that have ended add up to. */
const moved: Record<string, number> = {};

const server = new Server();
const counts = { answered: 0, retried: 0, lost: 0, certificates: 0, attacks: {} as Record<string, number> };
const leaks: string[] = [];
const sessions = new Set<ClientHttp2Session>();
let paused = false;
let stopped = false;
/** What has begun and not ended, and when it began. */
const underWay = new Map<string, number>();

async function named<T>(name: string, work: Promise<T>): Promise<T> {
  underWay.set(name, performance.now());
  try {
    return await work;
  } finally {
    underWay.delete(name);
  }
}

/** One request of a kind that turns; whether its answer was right. */
async function request(session: ClientHttp2Session, round: number): Promise<boolean> {
  const body = Buffer.alloc(1 + ((round * 7919) % 100_000), 97);
  switch (round % 5) {
    case 0:
      return (await ask(session, '/')).body.toString() === '0';
    case 1:
      return (await ask(session, '/', { body })).body.toString() === String(body.length);
    case 2:
      return (await ask(session, '/echo', { body })).body.equals(body);
    case 3:
      return (await ask(session, '/down')).body.length === 16 * 16_384;
    default:
      return (await ask(session, '/events')).body.toString().endsWith('data: 4\n\n');
  }
}

async function dial(): Promise<ClientHttp2Session> {
  const session = connect(`https://127.0.0.1:${server.port}`, { ca: authority.cert, rejectUnauthorized: true });
  session.on('error', () => {});
  sessions.add(session.on('close', () => sessions.delete(session)));
  await Promise.race([once(session, 'remoteSettings'), once(session, 'close')]).catch(() => {});
  return session;
}

/** Ends the soak by name of what never ends, with what the server says of it. */
async function watch(): Promise<void> {
  for (; !stopped; await sleep(1000)) {
    const late = [...underWay].filter(([, beganMs]) => performance.now() > beganMs + MOST_MS).map(([name]) => name);
    if (late.length === 0) continue;
    console.log(`no end after ${MOST_MS} ms: ${late.join(', ')}`);
    const figures = server.order({ what: 'figures' }).then(({ stats }) => JSON.stringify(stats));
    console.log(await Promise.race([figures, sleep(5000, 'the server does not answer')]));
    server.kill();
    process.exit(1);
  }
}

/** Asks until there is an answer. Only a restart may cut a request off, and only once. */
async function insist(session: ClientHttp2Session | undefined, round: number): Promise<ClientHttp2Session> {
  let used = session;
  for (let attempt = 0; ; attempt++) {
    if (used === undefined || used.closed || used.destroyed) used = await dial();
    const before = server.ended;
    const ok = await request(used, round).catch(() => false);
    if (ok) {
      counts.answered++;
      return used;
    }
    used.destroy();
    if (attempt > 0 || server.begun === before) {
      counts.lost++;
      console.log(`lost: request of kind ${round % 5}, attempt ${attempt + 1}`);
      return used;
    }
    counts.retried++;
    while (server.ended !== server.begun) await sleep(10);
  }
}

async function goodClient(number: number): Promise<void> {
  let session: ClientHttp2Session | undefined;
  for (let round = number; !stopped; round++) {
    if (paused) {
      session?.close();
      session = undefined;
      await sleep(50);
      continue;
    }
    // A new connection now and then, so that all certificates are seen.
    if (round % 50 === 0) session?.close();
    session = await named(`good client ${number}, request of kind ${round % 5}`, insist(session, round));
  }
  session?.close();
}

async function attacker(number: number): Promise<void> {
  const names = Object.keys(ATTACKS) as (keyof typeof ATTACKS)[];
  for (let round = number; !stopped; round++) {
    if (!paused) {
      const name = names[round % names.length] as keyof typeof ATTACKS;
      await named(`attacker ${number}, ${name}`, ATTACKS[name](server.port)).catch(() => {});
      counts.attacks[name] = (counts.attacks[name] ?? 0) + 1;
    }
    await sleep(200);
  }
}

async function every(milliseconds: number, act: (round: number) => Promise<unknown>): Promise<void> {
  for (let round = 1; !stopped; round++) {
    for (const end = performance.now() + milliseconds; performance.now() < end && !stopped; await sleep(50));
    if (!stopped && !paused) await act(round);
  }
}

/** What a system must have given back once its clients have gone. */
const HELD = [
  'connection.active',
  'connection.waiting',
  'request.active',
  'request.waiting',
  'arenas.inUse',
  'buffers.inUse',
  'queue.inUse',
];

/** What is still held some seconds after the clients have gone. */
async function held(): Promise<string[]> {
  for (const end = performance.now() + 15_000; ; await sleep(100)) {
    const { stats } = await server.order({ what: 'figures' });
    const left = HELD.filter((path) => counter(stats, path) > 0).map((path) => `${path} ${counter(stats, path)}`);
    if (left.length === 0 || performance.now() > end) return left;
  }
}

/** The server's figures at rest: no traffic, no connection, what arenas hold given back. */
async function rest(): Promise<Figures> {
  paused = true;
  while (underWay.size > 0) await sleep(50);
  // Of the system that had the traffic, before another takes its place.
  for (const path of await held()) leaks.push(path);
  await server.restart();
  await sleep(3000);
  const figures = await server.order({ what: 'figures' });
  paused = false;
  return figures;
}

function show(name: string, { rssBytes, descriptors, threads, stats }: Figures): void {
  const mebibytes = (rssBytes / 2 ** 20).toFixed(1);
  const { active } = stats.connection;
  console.log(`${name}: ${mebibytes} MiB, ${descriptors} descriptors, ${threads} threads, ${active} connections`);
}

const [certificate] = certificates as [KeyAndCertificate];
const config = { maxConnections: 200, handshakeTimeoutMs: 2000, headersTimeoutMs: 2000, writeTimeoutMs: 2000 };
({ port: server.port } = await server.order({ what: 'start', config, certificate }));
const totalMs = minutes * 60_000;
const warmMs = Math.min(60_000, totalMs / 2);
const running = [
  ...Array.from({ length: GOOD_CLIENTS }, (_, number) => goodClient(number)),
  ...Array.from({ length: 3 }, (_, number) => attacker(number * 2)),
  every(RESTART_EVERY_MS, () => server.restart()),
  every(CERTIFICATE_EVERY_MS, (round) => {
    counts.certificates++;
    return server.order({ what: 'certificate', certificate: certificates[round % 2] as KeyAndCertificate });
  }),
];
watch();
await sleep(warmMs);
const first = await rest();
show('after the first minute', first);
await sleep(totalMs - warmMs);
const last = await rest();
stopped = true;
await Promise.all(running);
server.end();
show('at the end', last);
console.log(JSON.stringify({ minutes, restarts: server.ended, ...counts, moved }));
const grown = (['rssBytes', 'descriptors', 'threads'] as const).filter((name) => last[name] > first[name] + MORE[name]);
for (const name of grown) console.log(`grown: ${name}, from ${first[name]} to ${last[name]}`);
for (const leak of leaks) console.log(`still held at rest: ${leak}`);
const unmoved = Object.entries(CAUSES).flatMap(([name, paths]) => {
  const missing = (counts.attacks[name] ?? 0) === 0 ? ['was never run'] : paths.filter((path) => moved[path] === 0);
  return missing.map((what) => `${name}: ${what}`);
});
for (const what of unmoved) console.log(`not moved by ${what}`);
const failed = [grown, leaks, unmoved].some((found) => found.length > 0) || counts.lost > 0 || counts.answered === 0;
console.log(failed ? 'not ok' : 'ok');
process.exitCode = failed ? 1 : 0;
