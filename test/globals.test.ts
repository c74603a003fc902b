// The tests of the three imported files once more, with the light classes in place of the global ones, and what else
// holds for those.
import './helpers/native-globals.js';
import '../lib/globals.js';
import './hono.test.js';
import './request.test.js';
import './request-body.test.js';
import './response.test.js';
import test from 'ava';
import { createRequest } from '../lib/request.js';
import { runHandler } from '../lib/response.js';
import { ask, FakeExchange, fakeServer } from './helpers/fake-exchange.js';
import { NativeRequest, NativeResponse, nativeFetch } from './helpers/native-globals.js';

test('the light classes stand in place of the global ones', async (t) => {
  t.not(Request, NativeRequest);
  t.not(Response, NativeResponse);
  t.is(Request.name, 'Request');
  t.is(Response.name, 'Response');
  t.is(typeof fetch, 'function');
  t.is(fetch.name, nativeFetch.name);
  const [light] = [Response];
  // @ts-expect-error: a module of its own to Node.js, because of the query
  await import('../lib/globals.js?again');
  t.is(Response, light);
});

test('instanceof holds in both directions', (t) => {
  class MyRequest extends Request {}
  class MyResponse extends Response {}
  for (const made of [new Request('https://localhost/'), createRequest(new FakeExchange()), new MyRequest('a:b')]) {
    t.true(made instanceof Request);
    t.true(made instanceof NativeRequest);
  }
  for (const made of [new Response('a'), new Response(new Blob(['a'])), new MyResponse('a'), Response.json(1)]) {
    t.true(made instanceof Response);
    t.true(made instanceof NativeResponse);
  }
  t.true(new NativeRequest('https://localhost/') instanceof Request);
  t.true(new NativeResponse() instanceof Response);
  t.true(Response.error() instanceof Response);
  t.true(new MyRequest('a:b') instanceof MyRequest);
  t.true(new MyResponse() instanceof MyResponse);
  t.false(new Request('a:b') instanceof MyRequest);
  t.false(new NativeResponse() instanceof MyResponse);
  t.false({} instanceof Request);
  t.false((null as unknown) instanceof Response);
});

test('a request is lazy, and can be given on', async (t) => {
  const exchange = new FakeExchange({ method: 'POST', body: 'a' });
  const request = createRequest(exchange);
  t.is(new Request(request).url, 'https://localhost:8443/');
  t.true(request.bodyUsed);
  t.is(await new Request(new Request('https://localhost/', { method: 'POST', body: 'a' })).text(), 'a');
});

test('a light Response has all that a Response has', async (t) => {
  const init = { status: 201, statusText: 'Made', headers: { 'X-A': 'b', 'content-length': '4' } };
  const make = (Kind: typeof Response) => new Kind('Häl', init);
  const names = ['status', 'statusText', 'ok', 'type', 'url', 'redirected', 'bodyUsed'] as const;
  for (const name of names) t.deepEqual(make(Response)[name], make(NativeResponse)[name], name);
  t.deepEqual([...make(Response).headers], [...make(NativeResponse).headers]);
  t.is(await make(Response).text(), 'Häl');
  t.is((await make(Response).arrayBuffer()).byteLength, 4);
  t.is((await make(Response).blob()).size, 4);
  t.deepEqual(await new Response('[1]').json(), [1]);
  t.is(await new NativeResponse(make(Response).body).text(), 'Häl');
  const light = make(Response);
  const copy = light.clone();
  t.is(copy.headers.get('x-a'), 'b');
  t.is(await copy.text(), 'Häl');
  t.false(light.bodyUsed);
  t.is(await light.text(), 'Häl');
  t.true(light.bodyUsed);
  await t.throwsAsync(light.text(), { instanceOf: TypeError });
  t.is(new Response().body, null);
  t.is(new Response(null).headers.get('content-type'), null);
  t.is(Object.prototype.toString.call(light), '[object Response]');
});

test('fields that an answer leaves out, or makes several of, are in a Response as the platform has them', async (t) => {
  const inits = [
    { connection: 'close', a: 'b' },
    { a: undefined, b: ['1', '2'], c: 3 },
    { a: [] },
    [['upgrade', 'h2c']],
  ] as unknown as Record<string, string>[];
  for (const headers of inits) {
    const given = { status: 201, headers };
    t.deepEqual([...new Response('x', given).headers], [...new NativeResponse('x', given).headers]);
    t.deepEqual([...Response.json([1], given).headers], [...NativeResponse.json([1], given).headers]);
  }
  for (const make of [
    () =>
      new Map([
        ['connection', 'close'],
        ['a', 'b'],
      ]).entries(),
    () => new Headers({ a: 'b' }).entries(),
  ]) {
    const given = (): ResponseInit => ({ status: 201, headers: make() as never });
    t.deepEqual([...new Response('x', given()).headers], [...new NativeResponse('x', given()).headers]);
    t.deepEqual([...Response.json([1], given()).headers], [...NativeResponse.json([1], given()).headers]);
    t.is(new Response('x', given()).status, 201);
  }
  const answer = await ask(() => new Response('x', { headers: inits[0] as Record<string, string> }));
  t.is(answer.headers.get('a'), 'b');
  t.is(answer.headers.get('connection'), null);
  t.is(answer.text, 'x');
});

test('a light Response refuses what a Response refuses', (t) => {
  const bad: ConstructorParameters<typeof Response>[] = [
    ['a', { status: 99 }],
    ['a', { status: 600 }],
    ['a', { status: 204 }],
    ['a', { status: 304 }],
    ['a', { statusText: 'a\nb' }],
    ['a', { headers: { 'a b': 'c' } }],
    ['a', { headers: { a: 'b\nc' } }],
    ['a', 1 as ResponseInit],
  ];
  for (const [body, init] of bad) {
    const expected = t.throws(() => new NativeResponse(body, init));
    t.throws(() => new Response(body, init), { name: expected?.name ?? '', message: expected?.message ?? '' });
  }
  t.throws(() => Response.json(undefined), { instanceOf: TypeError });
  t.is(new Response('a', { status: '201' as unknown as number }).status, 201);
});

test('a light Response is sent as it was made, and once', async (t) => {
  const headers: Record<string, string> = { a: '1' };
  const bytes = Buffer.from('bytes');
  const response = new Response(bytes, { headers });
  headers.a = '2';
  bytes.fill('x');
  const answer = await ask(() => response);
  t.is(answer.text, 'bytes');
  t.deepEqual(answer.fields, [['a', '1']]);
  const server = fakeServer(() => response);
  t.is((await ask(server)).status, 500);
  t.true(server.errors[0] instanceof TypeError);
  t.true(response.bodyUsed);
  const empty = new Response(null, { status: 204 });
  t.is((await ask(() => empty)).status, 204);
  t.is((await ask(() => empty)).status, 204);
});

test('changed headers of a light Response are sent', async (t) => {
  for (const read of [false, true]) {
    const response = new Response('a', { headers: { a: '1', 'content-length': '1' } });
    if (read) t.is(await response.clone().text(), 'a');
    response.headers.set('a', '2');
    response.headers.append('set-cookie', 'a=b');
    response.headers.append('set-cookie', 'c=d');
    t.is(response.clone().headers.get('a'), '2');
    const answer = await ask(() => response);
    t.is(answer.headers.get('a'), '2');
    t.is(answer.contentLength, 1);
    t.deepEqual(answer.headers.getSetCookie(), ['a=b', 'c=d']);
    t.is(answer.text, 'a');
  }
});

test('a Response is made from one', async (t) => {
  const first = new Response('a', { status: 201, headers: { a: 'b' } });
  const second = new Response(first.body, first);
  t.is(second.status, 201);
  t.is(second.headers.get('a'), 'b');
  t.true(first.body?.locked === true || !first.bodyUsed);
  t.is((await ask(() => second)).text, 'a');
  const native = new NativeResponse('native');
  t.is((await ask(() => native)).text, 'native');
});

test('what a subclass of Response says is sent', async (t) => {
  class Teapot extends Response {}
  Object.defineProperty(Teapot.prototype, 'status', { get: () => 418 });
  t.is((await ask(() => new Teapot('short'))).status, 418);
});

test('a Response of JSON', async (t) => {
  const plain = await ask(() => Response.json({ a: 1 }));
  t.is(plain.text, '{"a":1}');
  t.is(plain.headers.get('content-type'), 'application/json');
  const init = { status: 201, headers: { 'content-type': 'application/problem+json', a: 'b' } };
  const typed = await ask(() => Response.json({}, init));
  t.is(typed.status, 201);
  t.is(typed.headers.get('content-type'), 'application/problem+json');
});

test('errors carry a request that can be read', async (t) => {
  const server = fakeServer(() => {
    throw new Error('handler');
  });
  runHandler(new FakeExchange({ path: '/a' }), server);
  t.is(server.failedRequests[0]?.url, 'https://localhost:8443/a');
});
