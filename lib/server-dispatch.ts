import type { AbortCause } from './exchange.js';
import { EngineExchange, type OpenExchanges } from './exchange-engine.js';
import { Outbox } from './exchange-outbox.js';
import { CONTROL, EVENT, type NativeEngine, type NativeMemory, RECORD } from './native.js';
import { runHandler, type ServerContext } from './response.js';
import { HeadReader } from './server-heads.js';
import { Peer } from './server-peer.js';

/** How long one turn may call handlers before the rest of the event loop has its turn. */
const SLICE_MS = 2;

/** A look at the clock takes as long as a fortieth of a small request: one for this many that take next to nothing. */
const LIGHT_REQUESTS = 8;
const LIGHT_MS = 0.025;

/** The engine's numbers of causes (valk_abort_t). */
const CAUSES: readonly AbortCause[] = ['closed', 'reset', 'closed', 'timeout', 'stopped', 'limit'];

/**
 * What is known of the latest connection in a slot. Nobody tells JavaScript that it has ended: a client's certificate,
 * which may have 32 KiB, is held only as long as a request or a handler holds it, and asked for again after that.
 */
interface LatestPeer {
  readonly serial: number;
  readonly peer: Peer | undefined;
  readonly large: WeakRef<Peer> | undefined;
}

/**
 * JavaScript's end of the crossing: claims requests out of the shared ring, each just before its handler runs, and passes
 * on events. The protocol is described in native/binding/bridge.h.
 */
export class Dispatcher {
  readonly #memory: NativeMemory;
  readonly #heads: HeadReader;
  readonly #mask: number;
  readonly #open: OpenExchanges = [];
  readonly #peers: (LatestPeer | undefined)[] = [];
  readonly #servers = new Map<number, ServerContext>();
  #engine: NativeEngine | undefined;
  #outbox: Outbox | undefined;

  constructor(memory: NativeMemory) {
    this.#memory = memory;
    this.#heads = new HeadReader(memory.text);
    this.#mask = memory.records.length / RECORD.words - 1;
  }

  /** The engine runs. */
  attach(engine: NativeEngine): void {
    this.#engine = engine;
    this.#outbox = new Outbox(engine, this.#memory.out);
  }

  /** Requests of the server |id| go to |context|. */
  addServer(id: number, context: ServerContext): void {
    this.#servers.set(id, context);
  }

  removeServer(id: number): void {
    this.#servers.delete(id);
  }

  /** Takes a turn. True: work is left. */
  turn(): boolean {
    let seen = performance.now();
    const end = seen + SLICE_MS;
    let group = 1;
    let left = group;
    const { control } = this.#memory;
    if (Atomics.load(control, CONTROL.events) === 1) this.#takeEvents();
    const { records } = this.#memory;
    let read = control[CONTROL.read] as number;
    let write = Atomics.load(control, CONTROL.write);
    while (read !== write) {
      const base = (read & this.#mask) * RECORD.words;
      read = (read + 1) | 0;
      if (Atomics.compareExchange(records, base, RECORD.queued, RECORD.claimed) === RECORD.queued) {
        const exchange = this.#claim(base);
        const server = this.#servers.get(records[base + RECORD.server] as number);
        // Before the handler runs, which may take long.
        this.#advance(read);
        if (server === undefined) exchange.reset(2);
        else runHandler(exchange, server);
        if (--left === 0) {
          const now = performance.now();
          if (now >= end) return true;
          group = now - seen < group * LIGHT_MS ? LIGHT_REQUESTS : 1;
          left = group;
          seen = now;
        }
      } else {
        this.#advance(read);
      }
      if (read === write) write = Atomics.load(control, CONTROL.write);
    }
    return Atomics.load(control, CONTROL.events) === 1;
  }

  /** Frees the records before |read|, which have been claimed or dropped, and their text. */
  #advance(read: number): void {
    const { control } = this.#memory;
    Atomics.store(control, CONTROL.read, read);
    if (Atomics.load(control, CONTROL.blocked) === 1) {
      if (((read - Atomics.load(control, CONTROL.unblockAt)) | 0) >= 0) this.#engine?.unblock();
    }
  }

  /** Reads a request's record. */
  #claim(base: number): EngineExchange {
    const { records } = this.#memory;
    const index = records[base + RECORD.index] as number;
    const generation = records[base + RECORD.generation] as number;
    const head = this.#heads.read(records[base + RECORD.text] as number, records[base + RECORD.textLength] as number);
    const flags = records[base + RECORD.flags] as number;
    const bodyLength = (records[base + RECORD.bodyLength] as number) >>> 0;
    const slot = records[base + RECORD.slot] as number;
    const peer = this.#peer(index, generation, slot, records[base + RECORD.peer] as number);
    const outbox = this.#outbox as Outbox;
    const exchange = new EngineExchange(outbox, this.#open, head, peer, index, generation, flags, bodyLength);
    this.#open[index] = exchange;
    return exchange;
  }

  /**
   * What is known of a request's connection. The engine tells until `#advance`: from then on it may forget the
   * connection of a handler that runs, which has its own copy here.
   */
  #peer(index: number, generation: number, slot: number, serial: number): Peer {
    const last = this.#peers[slot];
    const known = last?.serial === serial ? (last.peer ?? last.large?.deref()) : undefined;
    if (known !== undefined) return known;
    const peer = new Peer(this.#engine?.peer(index, generation) ?? null);
    this.#peers[slot] = peer.isLarge
      ? { serial, peer: undefined, large: new WeakRef(peer) }
      : { serial, peer, large: undefined };
    return peer;
  }

  #takeEvents(): void {
    const { events } = this.#memory;
    const count = this.#engine?.takeEvents() ?? 0;
    for (let at = 0; at < count * EVENT.words; at += EVENT.words) {
      const exchange = this.#open[events[at] as number];
      if (exchange === undefined || exchange.generation !== (events[at + 1] as number)) continue;
      const bits = events[at + 2] as number;
      if ((bits & (EVENT.body | EVENT.trailers)) !== 0) exchange.readable((bits & EVENT.trailers) !== 0);
      if ((bits & EVENT.abort) !== 0) exchange.abort(CAUSES[(bits >> 8) & 0xff] ?? 'closed');
      if ((bits & EVENT.writable) !== 0) exchange.writable();
      if ((bits & EVENT.end) !== 0) exchange.end();
    }
  }
}
