import { addAbortListener, EventEmitter, getEventListeners, once, setMaxListeners } from 'node:events';
import { readFile } from 'node:fs/promises';
import { PassThrough, Readable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { aborted, inspect } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import test, { type ExecutionContext } from 'ava';
import { createRequest } from '../lib/request.js';
import { FakeExchange } from './helpers/fake-exchange.js';

/** A signal with what aborts it. */
interface Made {
  readonly signal: AbortSignal;
  abort(): void;
}

function ours(): Made {
  const exchange = new FakeExchange();
  return { signal: createRequest(exchange).signal, abort: () => exchange.abort('reset') };
}

function platforms(): Made {
  const controller = new AbortController();
  return {
    signal: controller.signal,
    abort: () => controller.abort(new DOMException('The client has left', 'AbortError')),
  };
}

/** Both must pass: ours, and what shows that the test is right, the platform's own. */
function testBoth(title: string, run: (t: ExecutionContext, made: Made) => unknown): void {
  test(`${title}: ours`, async (t) => void (await run(t, ours())));
  test(`${title}: the platform's`, async (t) => void (await run(t, platforms())));
}

// What is thrown need be no Error to ava: a DOMException of the platform's own is none.
const ABORT_ERROR = { any: true, name: 'AbortError' } as const;

testBoth('a signal is an AbortSignal', (t, { signal, abort }) => {
  t.true(signal instanceof AbortSignal);
  t.true(signal instanceof EventTarget);
  t.is(signal.constructor, AbortSignal);
  t.is(Object.prototype.toString.call(signal), '[object AbortSignal]');
  t.deepEqual(Object.keys(signal), []);
  t.regex(inspect(signal), /^AbortSignal \{ aborted: false \}/);
  t.false(signal.aborted);
  t.is(signal.reason, undefined);
  t.notThrows(() => signal.throwIfAborted());
  abort();
  t.regex(inspect(signal), /^AbortSignal \{ aborted: true \}/);
  t.true(signal.aborted);
  t.true(signal.reason instanceof DOMException);
  t.is(signal.reason, signal.reason);
  t.is(t.throws(() => signal.throwIfAborted(), ABORT_ERROR) as unknown, signal.reason);
});

testBoth('the members of the prototype apply to a signal', (t, { signal, abort }) => {
  const get = (name: string): unknown => Reflect.get(AbortSignal.prototype, name, signal);
  t.false(get('aborted'));
  t.is(get('reason'), undefined);
  t.is(get('onabort'), null);
  abort();
  t.true(get('aborted'));
  t.is(get('reason'), signal.reason);
  t.throws(() => AbortSignal.prototype.throwIfAborted.call(signal), ABORT_ERROR);
});

testBoth('listeners are called once, in order, with the signal as target', (t, { signal, abort }) => {
  const told: unknown[] = [];
  const removed = () => told.push('removed');
  const twice = () => told.push('twice');
  const unlisten = new AbortController();
  signal.addEventListener('abort', function (this: AbortSignal, event) {
    told.push('first', this === signal, event.target === signal, event.currentTarget === signal, event.isTrusted);
    told.push(event.type, signal.aborted, event.composedPath()[0] === signal);
  });
  signal.onabort = () => told.push('onabort');
  signal.addEventListener('abort', twice);
  signal.addEventListener('abort', twice);
  signal.addEventListener('abort', removed);
  signal.addEventListener('abort', { handleEvent: () => void told.push('object') }, { once: true });
  signal.addEventListener('abort', removed, { signal: unlisten.signal });
  signal.addEventListener('abort', () => void told.push('unlistened'), { signal: unlisten.signal });
  signal.removeEventListener('abort', removed);
  unlisten.abort();
  t.is(getEventListeners(signal, 'abort').length, 4);
  abort();
  abort();
  const first = ['first', true, true, true, true, 'abort', true, true];
  t.deepEqual(told, [...first, 'onabort', 'twice', 'object']);
  signal.addEventListener('abort', () => void told.push('late'));
  t.is(told.length, 11);
});

testBoth('onabort is what was set, and can be taken back', (t, { signal, abort }) => {
  const handler = () => t.fail();
  t.is(signal.onabort, null);
  signal.onabort = handler;
  t.is(signal.onabort, handler);
  signal.onabort = null;
  t.is(signal.onabort, null);
  abort();
});

testBoth('a signal takes other events, and abort ones that do not abort it', (t, { signal, abort }) => {
  let told = 0;
  signal.addEventListener('abort', () => {
    told += 1;
  });
  signal.addEventListener('other', () => {
    told += 10;
  });
  t.true(signal.dispatchEvent(new Event('other')));
  t.true(signal.dispatchEvent(new Event('abort')));
  t.is(told, 11);
  t.false(signal.aborted);
  abort();
  t.is(told, 12);
});

testBoth('signals made of others follow, and theirs', (t, { signal, abort }) => {
  const other = new AbortController();
  const order: string[] = [];
  const follower = AbortSignal.any([other.signal, signal]);
  const second = AbortSignal.any([follower]);
  const third = AbortSignal.any([signal, signal, second]);
  for (const [name, each] of Object.entries({ third, second, follower, signal })) {
    each.addEventListener('abort', () => order.push(name));
  }
  t.false(follower.aborted || second.aborted || third.aborted);
  abort();
  t.deepEqual(order.toSorted(), ['follower', 'second', 'signal', 'third']);
  t.is(order[0], 'signal');
  for (const each of [follower, second, third]) t.is(each.reason, signal.reason);
  const late = AbortSignal.any([signal]);
  t.true(late.aborted);
  t.is(late.reason, signal.reason);
});

testBoth('a follower of a signal that another aborted stays as it is', (t, { signal, abort }) => {
  const other = new AbortController();
  const follower = AbortSignal.any([signal, other.signal]);
  other.abort('other');
  t.is(follower.reason, 'other');
  t.false(signal.aborted);
  abort();
  t.is(follower.reason, 'other');
});

testBoth('waiting ends with the signal', async (t, { signal, abort }) => {
  const emitter = new EventEmitter();
  const target = new EventTarget();
  const stream = new PassThrough();
  const waits = [
    once(emitter, 'never', { signal }),
    once(target, 'never', { signal }),
    sleep(60_000, undefined, { signal }),
    finished(stream, { signal }),
    pipeline(Readable.from(['a']), new PassThrough({ highWaterMark: 1 }), { signal }),
    new ReadableStream().pipeTo(new WritableStream(), { signal }),
  ];
  const told = aborted(signal, emitter);
  let listened = 0;
  const disposable = addAbortListener(signal, () => {
    listened += 1;
  });
  addAbortListener(signal, () => t.fail())[Symbol.dispose]();
  setMaxListeners(20, signal);
  target.addEventListener('event', () => t.fail(), { signal });
  const settled = Promise.allSettled(waits);
  abort();
  for (const { status, reason } of (await settled) as PromiseRejectedResult[]) {
    t.is(status, 'rejected');
    t.is(reason.name, 'AbortError');
  }
  await told;
  t.is(listened, 1);
  disposable[Symbol.dispose]();
  target.dispatchEvent(new Event('event'));
  await t.throwsAsync(readFile(new URL(import.meta.url), { signal }), ABORT_ERROR);
  await t.throwsAsync(sleep(1, undefined, { signal }), ABORT_ERROR);
});

testBoth('fetch takes a signal, and requests follow it', async (t, { signal, abort }) => {
  const request = new Request('http://127.0.0.1:1/', { signal });
  const copy = request.clone();
  t.false(request.signal.aborted);
  const fetching = fetch(new Request('http://127.0.0.1:1/', { signal }));
  abort();
  await t.throwsAsync(fetching, ABORT_ERROR);
  await t.throwsAsync(fetch('http://127.0.0.1:1/', { signal }), ABORT_ERROR);
  t.true(request.signal.aborted && copy.signal.aborted);
  t.is(request.signal.reason, signal.reason);
});

testBoth('a signal that has aborted before it was listened to calls nobody', async (t, { signal, abort }) => {
  abort();
  signal.addEventListener('abort', () => t.fail());
  signal.onabort = () => t.fail();
  t.true(signal.aborted);
  await t.throwsAsync(once(new EventEmitter(), 'never', { signal }), ABORT_ERROR);
});

test('a signal aborts its followers when nobody else holds it', async (t) => {
  setFlagsFromString('--expose-gc');
  const gc: () => void = runInNewContext('gc');
  const exchange = new FakeExchange();
  let told = 0;
  const follow = () => {
    const { signal } = createRequest(exchange);
    signal.addEventListener('abort', () => {
      told += 1;
    });
    return AbortSignal.any([signal]);
  };
  const follower = follow();
  await sleep(0);
  gc();
  await sleep(0);
  exchange.abort('timeout');
  t.is(told, 1);
  t.true(follower.aborted);
  t.is((follower.reason as DOMException).name, 'TimeoutError');
});

test('a signal can be listened to after the answer', (t) => {
  const exchange = new FakeExchange();
  const { signal } = createRequest(exchange);
  exchange.respond(200, '', null);
  t.false(signal.aborted);
  signal.addEventListener('abort', () => t.fail());
  signal.throwIfAborted();
  t.false(AbortSignal.any([signal]).aborted);
});

test('where the platform makes signals slowly, one that is only read gets no state', (t) => {
  const isSlow = Number.parseInt(process.versions.node, 10) < 24;
  const { signal } = createRequest(new FakeExchange());
  t.false(signal.aborted);
  if (isSlow) t.deepEqual(Object.getOwnPropertySymbols(signal), []);
  signal.addEventListener('abort', () => {});
  t.not(Object.getOwnPropertySymbols(signal).length, 0);
});
