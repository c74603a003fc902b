import vm from 'node:vm';
import test from 'ava';
import { runHandler } from '../lib/response.js';
import type { AioRequest, ConnectionInfo } from '../lib/types.js';
import { askFailing, chunksOf } from './helpers/answers.js';
import { ask, CONNECTION, FakeExchange, fakeServer } from './helpers/fake-exchange.js';

test('a string is sent whole', async (t) => {
  const answer = await ask(() => ({ body: 'Hällo\n' }));
  t.is(answer.status, 200);
  t.is(answer.text, 'Hällo\n');
  t.is(answer.contentLength, 7);
  t.deepEqual(answer.fields, []);
  t.true(answer.whole);
});

test('an answer may be empty', async (t) => {
  for (const result of [{}, { body: null }, { body: undefined }, Object.create(null), { status: undefined }]) {
    const answer = await ask(() => result);
    t.is(answer.status, 200);
    t.is(answer.contentLength, 0);
    t.is(answer.text, '');
  }
});

test('a handler gets the request and the connection', async (t) => {
  const seen: unknown[] = [];
  const answer = await ask((request: AioRequest, connection: ConnectionInfo) => {
    seen.push(request.method, connection.remoteAddress);
    return { status: 201 };
  });
  t.is(answer.status, 201);
  t.deepEqual(seen, ['GET', CONNECTION.remoteAddress]);
});

test('a handler that cannot see its request is called without', async (t) => {
  t.is((await ask(() => ({ body: 'a' }))).text, 'a');
  t.is((await ask(async () => ({ body: 'a' }))).text, 'a');
  const rest = (...args: unknown[]) => ({ body: String(args.length) });
  t.is((await ask(rest)).text, '2');
  t.is((await ask((request = null) => ({ body: String(request instanceof Request) }))).text, 'true');
  const old = function (this: unknown) {
    // biome-ignore lint/complexity/noArguments: it is what is tested
    return { body: `${this} ${arguments.length}` };
  };
  t.is((await ask(old)).text, 'undefined 2');
  t.is((await ask(((...args: unknown[]) => rest(...args)).bind(null))).text, '2');
});

test('an answer may come later, from any thenable', async (t) => {
  t.is((await ask(async () => ({ body: 'a' }))).text, 'a');
  t.is((await ask(() => new Promise((resolve) => setTimeout(resolve, 1, { body: 'a' })))).text, 'a');
  // biome-ignore lint/suspicious/noThenProperty: it is what is tested
  t.is((await ask(() => ({ then: (resolve: (value: unknown) => void) => resolve({ body: 'a' }) }))).text, 'a');
  t.is((await ask(() => vm.runInNewContext('Promise.resolve({ body: "a" })'))).text, 'a');
});

test('a promise is waited for as await does, whatever was put on it', async (t) => {
  const bad = () => {
    throw new Error('not to be called');
  };
  const replaced = Promise.resolve({ body: 'a' });
  Reflect.set(replaced, 'then', bad);
  t.is((await ask(() => replaced)).text, 'a');
  const promise = Object.defineProperty(Promise.resolve({ body: 'a' }), 'constructor', { get: bad });
  const { answer, errors } = await askFailing(() => promise);
  t.is(answer.status, 500);
  t.is(errors[0]?.message, 'not to be called');
});

test('headers come in each form', async (t) => {
  const expected = [
    ['x-a', '1'],
    ['set-cookie', 'a=b'],
    ['set-cookie', 'c=d'],
    ['x-b', 'two words'],
  ];
  const forms = [
    { 'X-A': 1, 'Set-Cookie': ['a=b', 'c=d'], 'x-b': ' two words\t', 'x-none': undefined },
    [
      ['X-A', 1],
      ['set-cookie', 'a=b'],
      ['SET-COOKIE', 'c=d'],
      ['x-b', 'two words'],
    ],
    new Map<string, unknown>([
      ['x-a', '1'],
      ['set-cookie', ['a=b', 'c=d']],
      ['x-b', 'two words'],
    ]),
  ];
  for (const headers of forms) t.deepEqual((await ask(() => ({ headers }))).fields, expected);
  const headers = new Headers({ 'X-B': 'two words', 'X-A': '1' });
  headers.append('set-cookie', 'a=b');
  headers.append('set-cookie', 'c=d');
  for (const result of [{ headers }, new Response(null, { headers }), new Response('', { headers })]) {
    const { fields } = await ask(() => result);
    t.deepEqual(
      fields.filter(([name]) => name === 'set-cookie').map(([, value]) => value),
      ['a=b', 'c=d'],
    );
    t.deepEqual(fields.filter(([name]) => name.startsWith('x-')).sort(), [
      ['x-a', '1'],
      ['x-b', 'two words'],
    ]);
  }
});

test('fields of a connection are dropped', async (t) => {
  const headers = {
    Connection: 'close',
    'keep-alive': 'timeout=5',
    'Proxy-Connection': 'a',
    'Transfer-Encoding': 'chunked',
    upgrade: ['a', 'b'],
    kept: '1',
  };
  t.deepEqual((await ask(() => ({ headers }))).fields, [['kept', '1']]);
  t.deepEqual((await ask(() => new Response(null, { headers: { connection: 'close', kept: '1' } }))).fields, [
    ['kept', '1'],
  ]);
});

test('values hold Latin-1', async (t) => {
  t.deepEqual((await ask(() => ({ headers: { a: 'é\ttab', b: '' } }))).fields, [
    ['a', 'é\ttab'],
    ['b', ''],
  ]);
});

test('headers that change between answers are never sent as they were', async (t) => {
  const headers: Record<string, string | string[]> = { a: '1' };
  const result = { headers, body: 'a' };
  const server = fakeServer(() => result);
  t.deepEqual((await ask(server)).fields, [['a', '1']]);
  headers.a = '2';
  t.deepEqual((await ask(server)).fields, [['a', '2']]);
  const list = ['3'];
  headers.a = list;
  t.deepEqual((await ask(server)).fields, [['a', '3']]);
  list.push('4');
  t.deepEqual((await ask(server)).fields, [
    ['a', '3'],
    ['a', '4'],
  ]);
  delete headers.a;
  headers.b = 'c';
  result.body = 'b';
  const answer = await ask(server);
  t.deepEqual(answer.fields, [['b', 'c']]);
  t.is(answer.text, 'b');
});

test('an answer that asks for another while its headers are read stays its own', async (t) => {
  const inner = fakeServer(() => ({ headers: { 'content-length': 3, 'content-type': 'a/b' }, body: 'abc' }));
  const answers: Promise<unknown>[] = [];
  const headers = {
    get a() {
      answers.push(ask(inner));
      return '1';
    },
  };
  const blob = new Blob(['ab'], { type: 'c/d' });
  const answer = await ask(() => ({ headers, body: blob }));
  t.is(answer.contentLength, 2);
  t.is(answer.headers.get('content-type'), 'c/d');
  t.is(answers.length, 1);
  await Promise.all(answers);
});

test('many names and long values are sent alike', async (t) => {
  const value = 'v'.repeat(300);
  for (let index = 0; index < 1200; index += 1) {
    const name = `x-${index}`;
    const { fields } = await ask(() => ({ headers: { [name]: value, 'x-last': String(index) } }));
    if (index % 100 === 0) {
      t.deepEqual(fields, [
        [name, value],
        ['x-last', String(index)],
      ]);
    }
  }
});

test('bytes are sent whole, of whatever kind', async (t) => {
  const bytes = new TextEncoder().encode('0123456789');
  const shared = new Uint8Array(new SharedArrayBuffer(100));
  shared.fill(0x61);
  const Resizable = ArrayBuffer as new (length: number, options: object) => ArrayBuffer;
  const resizable = new Resizable(4, { maxByteLength: 8 });
  const bodies: [unknown, string][] = [
    [bytes, '0123456789'],
    [bytes.subarray(2, 4), '23'],
    [bytes.buffer, '0123456789'],
    [new DataView(bytes.buffer, 1, 3), '123'],
    [new Uint16Array(bytes.buffer, 2, 2), '2345'],
    [Buffer.from('abc'), 'abc'],
    [shared, 'a'.repeat(100)],
    [shared.buffer, 'a'.repeat(100)],
    [shared.subarray(0, 3), 'aaa'],
    [resizable, '\0\0\0\0'],
    [vm.runInNewContext('new Uint8Array([97, 98])'), 'ab'],
    [vm.runInNewContext('new ArrayBuffer(2)'), '\0\0'],
    [new Uint8Array(0), ''],
    ['', ''],
  ];
  for (const [body, text] of bodies) {
    const answer = await ask(() => ({ body }));
    t.is(answer.text, text);
    t.is(answer.contentLength, text.length);
    t.true(answer.whole);
  }
});

test('a buffer that is gone does no harm', async (t) => {
  const view = new Uint8Array(100);
  const words = new Uint16Array(100);
  const { buffer } = new Uint8Array(100);
  structuredClone(null, { transfer: [view.buffer, words.buffer, buffer] });
  for (const body of [view, words, buffer]) {
    const { answer, errors } = await askFailing(() => ({ body }));
    t.is(answer.status, 500);
    t.true(errors[0] instanceof TypeError);
    const server = fakeServer(() => ({ body: chunksOf('a', body) }));
    const exchange = new FakeExchange();
    runHandler(exchange, server);
    await exchange.ended();
    t.is(exchange.resetCode, 2);
    t.true(server.errors[0] instanceof TypeError);
  }
});

test('a Blob is sent with its size and type', async (t) => {
  const blob = new Blob(['a'.repeat(100_000), 'é'], { type: 'text/html' });
  const answer = await ask(() => ({ body: blob }));
  t.is(answer.contentLength, 100_002);
  t.is(answer.headers.get('content-type'), 'text/html');
  t.true(answer.text.endsWith('aé'));
  t.is((await ask(() => ({ headers: { 'content-type': 'a/b' }, body: blob }))).headers.get('content-type'), 'a/b');
  t.false((await ask(() => ({ body: new Blob(['a']) }))).headers.has('content-type'));
  t.is((await ask(() => ({ body: new Blob([]) }))).text, '');
  const head = await ask(() => ({ body: blob }), { method: 'HEAD' });
  t.is(head.contentLength, 100_002);
  t.is(head.text, '');
});
