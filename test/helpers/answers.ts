import { setImmediate as turn } from 'node:timers/promises';
import { runHandler } from '../../lib/response.js';
import { type AnyHandler, FakeExchange, fakeServer } from './fake-exchange.js';

/** Runs a handler that fails before its head is out: 500, and the error goes to onError. */
export async function askFailing(handler: AnyHandler, request = {}, options = {}) {
  const server = fakeServer(handler, options);
  const exchange = new FakeExchange(request);
  runHandler(exchange, server);
  const answer = await exchange.answer();
  return { answer, errors: server.errors as Error[], exchange };
}

/** An asynchronous iterable of these pieces, a turn of the event loop before each. */
export async function* chunksOf(...chunks: unknown[]) {
  for (const chunk of chunks) {
    await turn();
    yield chunk;
  }
}

/** An endless body that tells how it was ended. */
export function endless(chunk: unknown = 'x') {
  const state = { asked: 0, returned: 0, body: undefined as unknown };
  state.body = {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      state.asked += 1;
      await turn();
      return { done: false, value: chunk };
    },
    async return() {
      state.returned += 1;
      return { done: true, value: undefined };
    },
  };
  return state;
}
