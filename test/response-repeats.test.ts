import test from 'ava';
import type { Handler } from 'valk-aio';
import { ask, open } from './helpers/client.js';
import { serve } from './helpers/serve.js';

const PlatformResponse = globalThis.Response;
await import('valk-aio/globals');
const LightResponse = globalThis.Response;

// What the engine is told of one answer is kept for the next, where it repeats: fields, bodies, heads of requests.

const COUNT = 600;
const headers: Record<string, string> = {};
const answer: { status: number; headers: Record<string, string>; body: string | Uint8Array } = {
  status: 200,
  headers,
  body: '',
};

/** Changes the objects that were returned before: most requests change nothing, some one thing, some all. */
function change(n: number): void {
  const step = n >> 2;
  answer.status = [200, 201, 404][step % 3] ?? 500;
  headers['x-step'] = String(step % 5);
  if (step % 2 === 0) headers['x-even'] = 'yes';
  else delete headers['x-even'];
  const text = step % 7 === 0 ? `of ${n}` : `of ${step % 4}`;
  answer.body = step % 8 < 4 ? text : Buffer.from(text);
}

/** What is expected of request |n|. */
function expected(n: number): object {
  const step = n >> 2;
  return {
    status: [200, 201, 404][step % 3],
    step: String(step % 5),
    even: step % 2 === 0 ? 'yes' : undefined,
    body: step % 7 === 0 ? `of ${n}` : `of ${step % 4}`,
  };
}

/** The number is in the target of every second pair of requests, in a field of the others, whose targets repeat. */
function numbered(n: number): { path: string; headers: Record<string, string> } {
  return n & 2 ? { path: '/same', headers: { 'x-n': String(n) } } : { path: `/${n}`, headers: {} };
}

const numberOf = (request: { url: string; headers: { get(name: string): string | null } }): number =>
  Number(request.headers.get('x-n') ?? new URL(request.url).pathname.slice(1));

const handlers: Record<string, Handler> = {
  'the same object, changed': (request) => {
    change(numberOf(request));
    return answer;
  },
  'the same object, changed, after a turn': async (request) => {
    await new Promise(setImmediate);
    change(numberOf(request));
    return answer;
  },
  'a Response of the same headers, changed': (request) => {
    change(numberOf(request));
    return new PlatformResponse(answer.body, answer);
  },
  'a light Response of the same headers, changed': (request) => {
    change(numberOf(request));
    return new LightResponse(answer.body, answer);
  },
};

for (const [name, handler] of Object.entries(handlers)) {
  test.serial(`${name}: each request gets its own answer`, async (t) => {
    t.not(PlatformResponse, LightResponse);
    const { url, errors } = await serve(t, handler);
    const session = await open(t, url);
    // One after another, and all at once.
    for (const parallel of [1, 50]) {
      for (let first = 0; first < COUNT; first += parallel) {
        const numbers = Array.from({ length: parallel }, (_, index) => first + index);
        const outcomes = await Promise.all(
          numbers.map((n) => {
            const { path, ...more } = numbered(n);
            return ask(session, path, more);
          }),
        );
        const found = outcomes.map((outcome) => ({
          status: outcome.status,
          step: outcome.headers['x-step'],
          even: outcome.headers['x-even'],
          body: outcome.body.toString(),
        }));
        t.deepEqual(found, numbers.map(expected));
      }
    }
    t.deepEqual(errors, []);
  });
}
