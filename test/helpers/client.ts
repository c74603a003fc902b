import { once } from 'node:events';
import { type ClientHttp2Session, type ClientHttp2Stream, connect, type IncomingHttpHeaders } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { cert } from './certificate.js';

/** How a request ended, as node:http2's client saw it. */
export interface Outcome {
  /** 0: no head came. */
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** The code of RST_STREAM, where the stream was reset (RFC 9113, section 7); 0 for an end in good order. */
  readonly resetCode: number;
  /** Whether the answer came to its END_STREAM. */
  readonly whole: boolean;
  /** performance.now() at its end. */
  readonly endedMs: number;
}

/** What a request has beside its path. */
export interface Ask {
  readonly method?: string;
  readonly headers?: Record<string, string | number>;
  readonly body?: Uint8Array | string | undefined;
}

/** Waits until a condition holds; fails the test after a time that no healthy machine needs. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, mostMs = 30_000): Promise<void> {
  for (const end = performance.now() + mostMs; !(await condition()); await sleep(5)) {
    if (performance.now() > end) throw new Error(`waited in vain: ${what}`);
  }
}

/** Begins to connect; the session is destroyed at the end of the test. */
export function dial(t: ExecutionContext, url: string): ClientHttp2Session {
  const session = connect(url, { ca: cert, settings: { enablePush: false } });
  session.on('error', () => {});
  t.teardown(() => session.destroy());
  return session;
}

/** Connects, and waits for the server's SETTINGS. */
export async function open(t: ExecutionContext, url: string): Promise<ClientHttp2Session> {
  const session = dial(t, url);
  await once(session, 'remoteSettings');
  return session;
}

export function openAll(t: ExecutionContext, url: string, count: number): Promise<ClientHttp2Session[]> {
  return Promise.all(Array.from({ length: count }, () => open(t, url)));
}

/** Sends a request; the outcome never rejects. */
export function send(
  session: ClientHttp2Session,
  path: string,
  { method, headers, body }: Ask = {},
): ClientHttp2Stream {
  const stream = session.request(
    { ':method': method ?? (body === undefined ? 'GET' : 'POST'), ':path': path, ...headers },
    { endStream: body === undefined },
  );
  if (body !== undefined) stream.end(body);
  return stream;
}

/** How a stream ends. */
export function outcome(stream: ClientHttp2Stream): Promise<Outcome> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let headers: IncomingHttpHeaders & { ':status'?: number } = {};
    let whole = false;
    stream.on('error', () => {});
    stream.on('response', (received) => {
      headers = received;
    });
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => {
      whole = headers[':status'] !== undefined && !stream.aborted;
      // Reset with NO_ERROR while its body is being written, a stream of node:http2 may wait for that body's end for ever.
      setTimeout(() => stream.closed && stream.destroy(), 200);
    });
    stream.on('close', () => {
      const resetCode = stream.rstCode ?? 0;
      const body = Buffer.concat(chunks);
      const status = headers[':status'] ?? 0;
      resolve({ status, headers, body, resetCode, whole: whole && resetCode === 0, endedMs: performance.now() });
    });
  });
}

export function ask(session: ClientHttp2Session, path: string, options?: Ask): Promise<Outcome> {
  return outcome(send(session, path, options));
}

/** A PING's way there and back, in milliseconds. */
export function ping(session: ClientHttp2Session): Promise<number> {
  return new Promise((resolve, reject) => {
    session.ping((error, durationMs) => (error === null ? resolve(durationMs) : reject(error)));
  });
}

/** How many outcomes there are of each status. */
export function statuses(outcomes: readonly Outcome[]): Record<number, number> {
  const counts: Record<number, number> = {};
  for (const { status } of outcomes) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
}
