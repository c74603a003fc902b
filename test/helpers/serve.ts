import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import type { ExecutionContext } from 'ava';
import { type Aio, type AioConfig, type Handler, type ListenOptions, type Server, start } from 'valk-aio';
import { cert, key } from './certificate.js';

/** A server in the test's own process. */
export interface Served {
  readonly aio: Aio;
  readonly server: Server;
  readonly url: string;
  /** What `onError` was given, in order. */
  readonly errors: { readonly error: unknown; readonly url: string }[];
}

/** Serves |handler| until the end of the test. Unless |config| says otherwise a request may wait for long. */
export async function serve(
  t: ExecutionContext,
  handler: Handler,
  options: Partial<ListenOptions> = {},
  config: AioConfig = {},
): Promise<Served> {
  const errors: { error: unknown; url: string }[] = [];
  const aio = start({ queueTimeoutMs: 60_000, ...config });
  t.teardown(() => aio.stop({ timeoutMs: 0 }));
  const onError = (error: unknown, { url }: Request): void => void errors.push({ error, url });
  const server = await aio.listen({ key, cert, onError, ...options }, handler);
  return { aio, server, url: server.url, errors };
}

/** A promise, and what settles it. */
export interface Gate<T> {
  readonly promise: Promise<T>;
  open(value: T): void;
}

export function gate<T = void>(): Gate<T> {
  let open: (value: T) => void = () => {};
  const promise = new Promise<T>((resolve) => {
    open = resolve;
  });
  return { promise, open: (value) => open(value) };
}

/** Threads of this process. */
export function threadCount(): number {
  return readdirSync('/proc/self/task').length;
}

/** Open descriptors of this process. */
export function descriptorCount(): number {
  return readdirSync('/proc/self/fd').length;
}

/** What becomes of a TCP connection to a port of 127.0.0.1: `open`, or the error's code. */
export function knock(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('connect', () => {
      socket.destroy();
      resolve('open');
    });
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}
