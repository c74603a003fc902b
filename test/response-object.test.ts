import { Readable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import test from 'ava';
import { runHandler } from '../lib/response.js';
import { askFailing } from './helpers/answers.js';
import { ask, FakeExchange, fakeServer } from './helpers/fake-exchange.js';

test('a Response is sent with its status, headers and body', async (t) => {
  const init = { status: 201, headers: { 'x-a': 'b' } };
  const answer = await ask(() => new Response('Hällo', init));
  t.is(answer.status, 201);
  t.is(answer.text, 'Hällo');
  t.is(answer.contentLength, 6);
  t.is(answer.headers.get('x-a'), 'b');
  t.is(answer.headers.get('content-type'), 'text/plain;charset=UTF-8');
  t.true(answer.whole);
  const bytes = await ask(async () => new Response(Buffer.alloc(100_000, 'a')));
  t.is(bytes.contentLength, 100_000);
  t.is(bytes.text, 'a'.repeat(100_000));
  const json = await ask(() => Response.json({ a: [1] }));
  t.is(json.text, '{"a":[1]}');
  t.is(json.contentLength, 9);
  t.is(json.headers.get('content-type'), 'application/json');
  const redirect = await ask(() => Response.redirect('https://localhost/a', 303));
  t.is(redirect.status, 303);
  t.is(redirect.headers.get('location'), 'https://localhost/a');
  t.is(redirect.contentLength, 0);
  t.is((await ask(() => new Response(null, { status: 204 }))).contentLength, undefined);
  const empty = await ask(() => new Response(''));
  t.is(empty.text, '');
  t.is(empty.contentLength, 0);
});

test('a Response may hold anything that it takes', async (t) => {
  const form = new FormData();
  form.append('a', 'b');
  form.append('file', new File(['content'], 'a.txt'));
  const answer = await ask(() => new Response(form));
  const parsed = await new Response(answer.body, { headers: answer.headers }).formData();
  t.is(parsed.get('a'), 'b');
  t.is(await (parsed.get('file') as File).text(), 'content');
  t.is((await ask(() => new Response(new URLSearchParams({ a: 'é' })))).text, 'a=%C3%A9');
  t.is((await ask(() => new Response(new Blob(['blob'], { type: 'a/b' })))).text, 'blob');
  const stream = new ReadableStream({
    async pull(controller) {
      await turn();
      controller.enqueue(Buffer.from('late'));
      controller.close();
    },
  });
  const late = await ask(() => new Response(stream));
  t.is(late.text, 'late');
  t.is(late.contentLength, undefined);
  const response = new Response('twice');
  const copy = response.clone();
  t.is((await ask(() => response)).text, 'twice');
  t.is((await ask(() => copy)).text, 'twice');
  t.is((await ask(() => new Response(new Response('moved').body))).text, 'moved');
});

test('the head of a streaming Response does not wait for its body', async (t) => {
  const exchange = new FakeExchange();
  runHandler(
    exchange,
    fakeServer(() => new Response(new ReadableStream({}))),
  );
  await turn();
  t.true(exchange.settled);
  exchange.abort('reset');
});

test('a Response whose body was read or is locked, or that was sent, is 500', async (t) => {
  const read = new Response('a');
  await read.text();
  const locked = new Response('a');
  locked.body?.getReader();
  const sent = new Response('a');
  await ask(() => sent);
  const stream = new Response(new ReadableStream({ start: (controller) => controller.close() }));
  await ask(() => stream);
  for (const response of [read, locked, sent, stream, { body: locked.body }, { body: read.body }]) {
    const { answer, errors } = await askFailing(() => response);
    t.is(answer.status, 500);
    t.true(errors[0] instanceof TypeError);
  }
});

test('a Response of another realm or kind is sent as well', async (t) => {
  const foreign = {
    status: 201,
    ok: true,
    headers: new Map([['x-a', 'b']]),
    body: Readable.from(['a', 'b']),
  };
  Object.setPrototypeOf(foreign, { [Symbol.toStringTag]: 'Response' });
  const answer = await ask(() => foreign);
  t.is(answer.status, 201);
  t.is(answer.text, 'ab');
  t.deepEqual(answer.fields, [['x-a', 'b']]);
});
