import { createHash } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import type { AioRequest, AioResponse } from 'valk-aio';

/** What a lab's handler has seen. */
export interface LabLog {
  /** Path and query of each request that reached the handler, in order. */
  readonly calls: string[];
  /** Handlers that run now, and the most that ran at a time. */
  running: number;
  peak: number;
  /** Messages of what `onError` was given. */
  readonly errors: string[];
  /** Paths of requests whose signal aborted. */
  readonly aborted: string[];
}

/** Bytes of a body of the lab's, which repeat a pattern that no shift by a frame or a buffer maps onto itself. */
export function pattern(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < Math.min(length, 65_521); at++) bytes[at] = (at * 31 + (at >> 8)) & 0xff;
  for (let filled = 65_521; filled < length; filled *= 2)
    bytes.copyWithin(filled, 0, Math.min(filled, length - filled));
  return bytes;
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/**
 * A handler for tests, which does what the path says:
 *
 * - `/hold`: answers when `release` is called
 * - `/late?ms=`: answers after a while
 * - `/busy?ms=`: keeps JavaScript busy for a while
 * - `/block?while=`: blocks JavaScript while a file is there, into which it writes as it begins; a minute at most
 * - `/big?size=`: a body given whole; `/big?size=&as=response|blob|string` the same in other ways
 * - `/pieces?size=&piece=`: a body streamed in pieces
 * - `/flow?size=`: a body streamed from one block of memory, which `flowHash` knows the hash of
 * - `/events`: server-sent events, one a second, until the client leaves
 * - `/open`: a stream that begins at once and ends when `release` is called
 * - `/fields?size=`: a header field of a size, when `release` is called
 * - `/sum`: reads the body, answers its length and hash
 * - anything else: a short answer
 */
export class Lab {
  readonly log: LabLog = { calls: [], running: 0, peak: 0, errors: [], aborted: [] };
  #released: Promise<void>;
  #release: () => void = () => {};

  constructor() {
    this.#released = new Promise((resolve) => {
      this.#release = resolve;
    });
  }

  /** Lets all go that wait now, and none that comes later. */
  release(): void {
    this.#release();
    this.#released = new Promise((resolve) => {
      this.#release = resolve;
    });
  }

  readonly onError = (error: unknown): void => {
    this.log.errors.push(error instanceof Error ? error.message : String(error));
  };

  readonly handler = async (request: AioRequest): Promise<AioResponse | Response> => {
    const { log } = this;
    const { pathname, search, searchParams } = new URL(request.url);
    const path = pathname + search;
    log.calls.push(path);
    log.peak = Math.max(log.peak, ++log.running);
    if (pathname === '/hold' || pathname === '/open' || pathname === '/late') {
      request.signal.addEventListener('abort', () => log.aborted.push(path));
    }
    try {
      return await this.#answer(request, pathname, searchParams);
    } finally {
      log.running--;
    }
  };

  async #answer(request: AioRequest, path: string, query: URLSearchParams): Promise<AioResponse | Response> {
    const number = (name: string, other: number): number => Number(query.get(name) ?? other);
    switch (path) {
      case '/hold':
        await this.#released;
        return { body: 'held\n' };
      case '/late':
        await sleep(number('ms', 10));
        return { body: 'late\n' };
      case '/busy':
        for (const end = performance.now() + number('ms', 1); performance.now() < end; );
        return { body: 'busy\n' };
      case '/block':
        block(query.get('while') as string);
        return { body: 'blocked\n' };
      case '/big':
        return whole(pattern(number('size', 1)), query.get('as'));
      case '/pieces':
        return { body: pieces(number('size', 1), number('piece', 16_384)) };
      case '/flow':
        return { body: flow(number('size', 1)) };
      case '/events':
        return { headers: { 'content-type': 'text/event-stream' }, body: ticks() };
      case '/open':
        return { body: openUntil(this.#released) };
      case '/fields':
        await this.#released;
        return { headers: { 'x-field': 'f'.repeat(number('size', 1)) } };
      case '/sum':
        return { body: await sum(request) };
      default:
        return { body: 'Hello, world!\n' };
    }
  }
}

function whole(bytes: Uint8Array, as: string | null): AioResponse | Response {
  if (as === 'response') return new Response(bytes);
  if (as === 'blob') return { body: new Blob([bytes]) };
  return { body: as === 'string' ? Buffer.from(bytes.map((byte) => byte & 0x7f)).toString('latin1') : bytes };
}

async function* pieces(size: number, piece: number): AsyncGenerator<Uint8Array> {
  const bytes = pattern(size);
  for (let at = 0; at < size; at += piece) {
    yield bytes.subarray(at, at + piece);
    await turn();
  }
}

const BLOCK = pattern(1 << 20);

/** |size| bytes, in pieces that lie in one block of memory. */
export function* flow(size: number): Generator<Uint8Array> {
  for (let at = 0; at < size; at += BLOCK.length) yield BLOCK.subarray(0, Math.min(BLOCK.length, size - at));
}

export function flowHash(size: number): string {
  const hash = createHash('sha256');
  for (const piece of flow(size)) hash.update(piece);
  return hash.digest('hex');
}

function block(file: string): void {
  const never = new Int32Array(new SharedArrayBuffer(4));
  writeFileSync(file, 'blocked');
  for (const end = performance.now() + 60_000; existsSync(file) && performance.now() < end; ) {
    Atomics.wait(never, 0, 0, 5);
  }
}

async function* ticks(): AsyncGenerator<string> {
  for (let count = 0; ; count++) {
    yield `data: ${count}\n\n`;
    await sleep(1000);
  }
}

async function* openUntil(released: Promise<void>): AsyncGenerator<string> {
  yield 'open\n';
  await released;
  yield 'done\n';
}

async function sum(request: AioRequest): Promise<string> {
  const hash = createHash('sha256');
  let length = 0;
  for await (const chunk of request.body ?? []) {
    hash.update(chunk as Uint8Array);
    length += (chunk as Uint8Array).length;
  }
  return `${length} ${hash.digest('hex')}`;
}
