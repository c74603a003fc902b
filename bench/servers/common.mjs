// What the JavaScript servers share: what they are started with, and what they answer. Runs in Node, Deno and Bun.
import { readFileSync } from 'node:fs';

const settings = JSON.parse(process.argv[2]);

export const { port, connections, streams, queueTimeoutMs, ioThreads, listen, sessionMemoryMb } = settings;
export const host = '127.0.0.1';
export const key = readFileSync(settings.key, 'utf8');
export const cert = readFileSync(settings.cert, 'utf8');

export const hello = 'Hello, world\n';
export const k100 = Buffer.alloc(100 * 1024, 'x');
export const m10 = Buffer.alloc(10 * 1024 * 1024, 'x');

let sum = 1;
function spin(rounds) {
  let x = sum;
  for (let i = 0; i < rounds; i++) x = (Math.imul(x, 1664525) + 1013904223) | 0;
  sum = x;
}

// Until the clock has shown five milliseconds it would be less work, the more the core has to do beside it.
const ROUNDS = 2_000_000;
const ATTEMPTS = 81;
const attemptsMs = [];
for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
  const begin = performance.now();
  spin(ROUNDS);
  attemptsMs.push(performance.now() - begin);
}
// The median: the first ones are not compiled yet, and whatever else the machine does makes some slow.
const attemptMs = attemptsMs.sort((a, b) => a - b)[(ATTEMPTS - 1) / 2];
const WORK_ROUNDS = Math.round((ROUNDS * 5) / attemptMs);

/** Five milliseconds of a core that does nothing else. */
export function work() {
  spin(WORK_ROUNDS);
}
