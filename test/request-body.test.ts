import test from 'ava';
import { make, POST } from './helpers/requests.js';

test('a body can be read in each way', async (t) => {
  const text = 'é{"a":1}';
  t.is(await make({ ...POST, body: text }).request.text(), text);
  t.deepEqual(await make({ ...POST, body: '{"a":1}' }).request.json(), { a: 1 });
  t.deepEqual(await make({ ...POST, body: text }).request.bytes(), new TextEncoder().encode(text));
  t.deepEqual(
    new Uint8Array(await make({ ...POST, body: text }).request.arrayBuffer()),
    new TextEncoder().encode(text),
  );
  const blob = await make({ ...POST, body: text }).request.blob();
  t.is(blob.type, 'text/plain');
  t.is(await blob.text(), text);
  const chunks: Uint8Array[] = [];
  for await (const chunk of make({ ...POST, body: text }).request.body ?? []) chunks.push(chunk);
  t.is(Buffer.concat(chunks).toString(), text);
});

test('a byte order mark is no part of the text, and bad UTF-8 is replaced', async (t) => {
  t.is(await make({ ...POST, body: '\ufeffa' }).request.text(), 'a');
  t.deepEqual(await make({ ...POST, body: '\ufeff[1]' }).request.json(), [1]);
  t.is(await make({ ...POST, body: Uint8Array.of(0x61, 0xff) }).request.text(), 'a\ufffd');
});

test('JSON that is none rejects', async (t) => {
  await t.throwsAsync(make({ ...POST, body: '{' }).request.json(), { instanceOf: SyntaxError });
  await t.throwsAsync(make({ ...POST }).request.json(), { instanceOf: SyntaxError });
});

test('forms are parsed, with files', async (t) => {
  const fields = [['content-type', 'application/x-www-form-urlencoded']] as const;
  const form = await make({ method: 'POST', fields, body: 'a=1&b=%C3%A9' }).request.formData();
  t.deepEqual(
    [...form],
    [
      ['a', '1'],
      ['b', 'é'],
    ],
  );
  const data = new FormData();
  data.append('name', 'value');
  data.append('file', new File(['content'], 'a.txt', { type: 'text/plain' }));
  const source = new Response(data);
  const type = source.headers.get('content-type') ?? '';
  const request = {
    method: 'POST',
    fields: [['content-type', type]],
    body: new Uint8Array(await source.arrayBuffer()),
  } as const;
  const parsed = await make(request).request.formData();
  t.is(parsed.get('name'), 'value');
  const file = parsed.get('file') as File;
  t.is(file.name, 'a.txt');
  t.is(await file.text(), 'content');
  await t.throwsAsync(make({ ...POST, body: 'a' }).request.formData(), { instanceOf: TypeError });
});

test('a body is read once', async (t) => {
  const { request, exchange } = make({ ...POST, body: 'a' });
  t.false(request.bodyUsed);
  const reading = request.text();
  t.true(request.bodyUsed);
  t.is(await reading, 'a');
  for (const kind of ['text', 'json', 'bytes', 'arrayBuffer', 'blob', 'formData'] as const) {
    await t.throwsAsync(request[kind](), { instanceOf: TypeError });
  }
  t.throws(() => request.clone(), { instanceOf: TypeError });
  t.throws(() => new Request(request), { instanceOf: TypeError });
  t.is(request.mode, 'cors');
  t.is(exchange.bodiesTaken, 1);
});

test('a body whose stream was read, or is being read, is not read again', async (t) => {
  const { request } = make({ ...POST, body: 'ab' });
  t.is(request.body, request.body);
  const reader = request.body?.getReader();
  await t.throwsAsync(request.text(), { instanceOf: TypeError });
  t.false(request.bodyUsed);
  t.is((await reader?.read())?.value.byteLength, 2);
  t.true(request.bodyUsed);
  reader?.releaseLock();
  await t.throwsAsync(request.text(), { instanceOf: TypeError });
});

test('a body that was looked at can be read', async (t) => {
  const { request } = make({ ...POST, body: 'a' });
  const { body } = request;
  t.truthy(body);
  t.is(await request.text(), 'a');
  t.true(request.bodyUsed);
  t.true((await body?.getReader().read())?.done);
});

test('a reader with its own buffer gets the bytes and the end', async (t) => {
  const { request } = make({ ...POST, body: 'abc' });
  const reader = request.body?.getReader({ mode: 'byob' });
  const first = await reader?.read(new Uint8Array(2));
  const second = await reader?.read(new Uint8Array(2));
  const end = await reader?.read(new Uint8Array(2));
  t.is(Buffer.concat([first?.value ?? Buffer.of(), second?.value ?? Buffer.of()]).toString(), 'abc');
  t.true(end?.done);
});

test('without a body there is null, and every way gives nothing', async (t) => {
  const { request } = make(POST);
  t.is(request.body, null);
  t.is(await request.text(), '');
  t.is((await request.bytes()).byteLength, 0);
  t.is((await request.arrayBuffer()).byteLength, 0);
  t.is((await request.blob()).size, 0);
  t.false(request.bodyUsed);
  t.is(await new Request(request).text(), '');
});

test('an empty body is one', async (t) => {
  const { request } = make({ ...POST, body: '' });
  t.truthy(request.body);
  t.is(await request.text(), '');
  t.true(request.bodyUsed);
});

test('a body that comes with GET can be read', async (t) => {
  const { request } = make({ body: 'a' });
  t.is(await request.text(), 'a');
  const other = make({ method: 'HEAD', body: 'b' });
  t.is(new Request(other.request).method, 'HEAD');
  t.is(await new Response(other.request.body).text(), 'b');
  t.true(other.request.bodyUsed);
});

test('a body is gone with the answer, and the rest stays', async (t) => {
  const { request, exchange } = make({ ...POST, body: 'a' });
  const clone = make({ ...POST, body: 'kept' });
  const kept = clone.request.clone();
  exchange.respond(200, '', null);
  clone.exchange.respond(200, '', null);
  await t.throwsAsync(request.text(), { code: 'ERR_VALK_AIO_BODY_GONE' });
  t.is(request.url, 'https://localhost:8443/form?a=b');
  t.is(request.headers.get('cookie'), 'a=b; c=d');
  t.is(await kept.text(), 'kept');
  t.is(await clone.request.text(), 'kept');
  const stream = make({ ...POST, body: 'a' });
  const { body } = stream.request;
  stream.exchange.respond(200, '', null);
  await t.throwsAsync(new Response(body).text());
});

test('clones are read beside the original', async (t) => {
  for (const streaming of [false, true]) {
    const { request } = make({ ...POST, streaming, body: streaming ? ['a', 'b'] : 'ab' });
    const first = request.clone();
    const second = request.clone();
    t.true(first instanceof Request);
    t.is(first.method, 'POST');
    t.is(first.url, request.url);
    t.deepEqual([...first.headers], [...request.headers]);
    t.is(await first.text(), 'ab');
    t.is(await request.text(), 'ab');
    t.is(await second.clone().text(), 'ab');
    t.true(request.bodyUsed);
    t.false(second.bodyUsed);
  }
  t.is(await make(POST).request.clone().text(), '');
});

test('a Request is made from a request, with changes and without', async (t) => {
  for (const streaming of [false, true]) {
    const body = streaming ? ['a', 'b'] : 'ab';
    const { request } = make({ ...POST, streaming, body });
    const copy = new Request(request);
    t.is(copy.url, request.url);
    t.is(copy.method, 'POST');
    t.deepEqual([...copy.headers], [...request.headers]);
    t.true(request.bodyUsed);
    t.is(await copy.text(), 'ab');

    const other = make({ ...POST, streaming, body }).request;
    const changed = new Request(other, { method: 'PUT', headers: { a: 'b' }, body: 'new' });
    t.is(changed.method, 'PUT');
    t.is(await changed.text(), 'new');
    t.is(await other.text(), 'ab');

    const init = make({ ...POST, streaming, body }).request;
    const elsewhere = new Request('https://elsewhere/', init);
    t.is(elsewhere.url, 'https://elsewhere/');
    t.is(elsewhere.headers.get('x-twice'), '1, 2');
    t.is(await elsewhere.text(), 'ab');
  }
});

test('fetch takes a request', async (t) => {
  const { request } = make({ scheme: 'http', authority: '127.0.0.1:1' });
  const error = await t.throwsAsync(fetch(request), { instanceOf: TypeError });
  t.is(error?.message, 'fetch failed');
});

test('in stream mode the body comes as it is read', async (t) => {
  const body = ['a', Promise.resolve('b'), 'c'];
  const { request, exchange } = make({ ...POST, streaming: true, body });
  const reader = request.body?.getReader();
  t.is(exchange.chunksRead, 0);
  t.is(Buffer.from((await reader?.read())?.value ?? '').toString(), 'a');
  t.is(exchange.chunksRead, 1);
  t.is(Buffer.from((await reader?.read())?.value ?? '').toString(), 'b');
  t.is(exchange.chunksRead, 2);
  t.is(Buffer.from((await reader?.read())?.value ?? '').toString(), 'c');
  t.true((await reader?.read())?.done);

  t.is(await make({ ...POST, streaming: true, body }).request.text(), 'abc');
  t.deepEqual(await make({ ...POST, streaming: true, body: ['[1', ',2]'] }).request.json(), [1, 2]);
  t.is(await make({ ...POST, streaming: true, body: [] }).request.text(), '');
  for (const pieces of [[], ['abc'], ['a', 'bc']]) {
    const { request: whole } = make({ ...POST, streaming: true, body: pieces });
    t.is(Buffer.from(await whole.arrayBuffer()).toString(), pieces.join(''));
  }
});

test('in stream mode a cancelled body is no longer wanted', async (t) => {
  const { request, exchange } = make({ ...POST, streaming: true, body: ['a', 'b'] });
  await request.body?.cancel();
  t.true(exchange.bodyCancelled);
  const read = make({ ...POST, streaming: true, body: ['a'] });
  t.truthy(read.request.body);
  t.is(await read.request.text(), 'a');
  t.false(read.exchange.bodyCancelled);
});

test('in stream mode an early end makes the body fail', async (t) => {
  const { request, exchange } = make({ ...POST, streaming: true, body: ['a', 'b'] });
  const reader = request.body?.getReader();
  await reader?.read();
  exchange.abort('reset');
  await t.throwsAsync(reader?.read() ?? Promise.resolve(), { code: 'ERR_VALK_AIO_BODY_GONE' });
  const other = make({ ...POST, streaming: true, body: ['a', 'b'] });
  other.exchange.abort('reset');
  await t.throwsAsync(other.request.text(), { code: 'ERR_VALK_AIO_BODY_GONE' });
});

test('trailers are there once the body has ended', async (t) => {
  const trailers = 'x-sum\n1\nx-sum\n2\n';
  const { request } = make({ ...POST, streaming: true, body: ['a'], trailers });
  const before = request.trailers;
  t.deepEqual([...before], []);
  await request.text();
  t.is(request.trailers, before);
  t.deepEqual([...request.trailers], [['x-sum', '1, 2']]);
  t.deepEqual([...request.trailers], [['x-sum', '1, 2']]);
});
