// Bodies that nobody reads: what ends them must end nothing else.
import { EventEmitter } from 'node:events';
import { Readable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import test from 'ava';
import { discardBody, openChunks } from '../lib/response-body.js';
import { ask, open, outcome, send } from './helpers/client.js';
import { runSource } from './helpers/program.js';

/** A server whose bodies are files that are missing. It tells its address, and when a request or a stream has come to its end. */
const SERVER = `
import { createReadStream } from 'node:fs';
const missing = () => createReadStream('/missing/file').once('close', () => console.log('closed'));
const answers = {
  '/': () => ({ body: missing() }),
  '/304': () => ({ status: 304, body: missing() }),
  '/99': () => ({ status: 99, body: missing() }),
  '/left': async (request) => {
    console.log('asked');
    await new Promise((resolve) => request.signal.addEventListener('abort', resolve));
    return { body: missing() };
  },
  '/alive': () => ({ body: 'alive' }),
};
const server = await start({ maxConnections: 10 }).listen({ key, cert, onError() {} }, (request) =>
  answers[new URL(request.url).pathname](request));
console.log(server.url);
`;

for (const [what, path, method, status] of [
  ['of an answer to HEAD', '/', 'HEAD', 200],
  ['of an answer without content', '/304', 'GET', 304],
  ['of an answer that is none', '/99', 'GET', 500],
  ['of a client that has left', '/left', 'GET', 0],
] as const) {
  test(`a file that cannot be opened, the body ${what}, ends no process`, async (t) => {
    const program = runSource(t, SERVER);
    const session = await open(t, await program.line());
    const stream = send(session, path, { method });
    const ended = outcome(stream);
    if (status === 0) {
      t.is(await program.line(), 'asked');
      stream.close(8);
    }
    t.is((await ended).status, status);
    t.is(await program.line(), 'closed');
    t.is((await ask(session, '/alive')).body.toString(), 'alive');
    t.is(program.child.exitCode, null);
  });
}

test('a Node.js stream that is discarded may fail', async (t) => {
  const body = new Readable({ destroy: (_error, callback) => callback(new Error('destroyed')) });
  discardBody(body, new Error('reason'));
  await new Promise((resolve) => body.on('close', resolve));
  t.true(body.destroyed);
});

test('what a body throws while it is ended stays there', async (t) => {
  const failure = (): never => {
    throw new Error('escaped');
  };
  const escaped: unknown[] = [];
  const listener = (reason: unknown) => void escaped.push(reason);
  process.on('unhandledRejection', listener);
  t.teardown(() => process.off('unhandledRejection', listener));
  for (const [name, property] of [
    ['destroy', { get: failure }],
    ['destroy', { value: failure }],
    ['on', { get: failure }],
    ['on', { value: failure }],
  ] as const) {
    let returned = 0;
    const iterator = { next: () => ({ done: false, value: 'a' }), return: () => ({ done: true, value: ++returned }) };
    const body = Object.assign(new EventEmitter(), { destroy() {}, [Symbol.iterator]: () => iterator });
    Object.defineProperty(body, name, property);
    const chunks = openChunks(body);
    t.notThrows(() => chunks?.cancel(new Error('reason')));
    t.is(returned, 1);
  }
  await turn();
  t.deepEqual(escaped, []);
});
