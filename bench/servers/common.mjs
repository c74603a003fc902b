// What the JavaScript servers share: what they are started with, and what they answer. Runs in Node, Deno and Bun.
import { readFileSync } from 'node:fs';

const settings = JSON.parse(process.argv[2]);

export const { port, connections, streams, queueTimeoutMs, ioThreads, listen } = settings;
export const host = '127.0.0.1';
export const key = readFileSync(settings.key, 'utf8');
export const cert = readFileSync(settings.cert, 'utf8');

export const hello = 'Hello, world\n';
export const k100 = Buffer.alloc(100 * 1024, 'x');
export const m10 = Buffer.alloc(10 * 1024 * 1024, 'x');

/** Five milliseconds of work. */
export function work() {
  for (const end = performance.now() + 5; performance.now() < end; );
}
