import { setImmediate as turn } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import test from 'ava';
import { Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { compress } from 'hono/compress';
import { cors } from 'hono/cors';
import { csrf } from 'hono/csrf';
import { etag } from 'hono/etag';
import { methodOverride } from 'hono/method-override';
import { stream, streamSSE, streamText } from 'hono/streaming';
import { runHandler } from '../lib/response.js';
import { ask, FakeExchange, type FakeRequest, fakeServer } from './helpers/fake-exchange.js';

const TEXT = [['content-type', 'text/plain']] as const;
const URLENCODED = [['content-type', 'application/x-www-form-urlencoded']] as const;

/** The same request in both body modes. */
function modes(request: FakeRequest): FakeRequest[] {
  const { body } = request;
  return [request, { ...request, streaming: true, body: [body as string] }];
}

test('routes, parameters, headers and JSON', async (t) => {
  const app = new Hono();
  app.get('/', (c) => c.text('Hello from Hono!'));
  app.get('/users/:name', (c) => {
    c.header('x-agent', c.req.header('user-agent') ?? '');
    return c.json({ name: c.req.param('name'), query: c.req.query('q'), all: c.req.header() }, 201);
  });
  app.post('/echo', async (c) => c.json(await c.req.json()));

  const text = await ask(app.fetch);
  t.is(text.text, 'Hello from Hono!');
  t.is(text.contentLength, 16);
  const fields = [['user-agent', 'test']] as const;
  const json = await ask(app.fetch, { path: '/users/%C3%A9?q=1', fields });
  t.is(json.status, 201);
  t.is(json.headers.get('x-agent'), 'test');
  t.deepEqual(JSON.parse(json.text), { name: 'é', query: '1', all: { 'user-agent': 'test' } });
  t.is((await ask(app.fetch, { path: '/none' })).status, 404);
  for (const request of modes({ method: 'POST', path: '/echo', body: '{"a":1}' })) {
    t.is((await ask(app.fetch, request)).text, '{"a":1}');
  }
  const head = await ask(app.fetch, { method: 'HEAD' });
  t.is(head.status, 200);
  t.is(head.text, '');
});

test('the second argument is c.env', async (t) => {
  const app = new Hono<{ Bindings: { remoteAddress: string } }>();
  app.get('/', (c) => c.text(c.env.remoteAddress));
  t.is((await ask(app.fetch)).text, '192.0.2.1');
});

test('bodyLimit', async (t) => {
  const app = new Hono();
  app.post('/', bodyLimit({ maxSize: 5 }), async (c) => c.text(`${await c.req.text()} ${c.req.url}`));
  for (const request of modes({ method: 'POST', fields: TEXT, body: '12345' })) {
    t.is((await ask(app.fetch, request)).text, '12345 https://localhost:8443/');
  }
  for (const request of modes({ method: 'POST', fields: TEXT, body: '123456' })) {
    t.is((await ask(app.fetch, request)).status, 413);
    const fields = [...TEXT, ['content-length', '6']] as const;
    t.is((await ask(app.fetch, { ...request, fields })).status, 413);
  }
  const fields = [...TEXT, ['transfer-encoding', 'chunked']] as const;
  for (const request of modes({ method: 'POST', fields, body: '12345' })) {
    t.is((await ask(app.fetch, request)).text, '12345 https://localhost:8443/');
  }
});

test('methodOverride', async (t) => {
  const app = new Hono();
  app.use('/form', methodOverride({ app }));
  app.use('/header', methodOverride({ app, header: 'x-method' }));
  app.use('/query', methodOverride({ app, query: '_method' }));
  app.delete('/form', async (c) => c.text(`deleted ${(await c.req.parseBody()).a}`));
  app.put('/header', async (c) => c.text(`put ${await c.req.text()} ${c.req.header('x-method')}`));
  app.patch('/query', async (c) => c.text(`patched ${await c.req.text()} ${c.req.url}`));
  for (const request of modes({ method: 'POST', path: '/form', fields: URLENCODED, body: 'a=1&_method=DELETE' })) {
    t.is((await ask(app.fetch, request)).text, 'deleted 1');
  }
  const fields = [...TEXT, ['x-method', 'PUT']] as const;
  for (const request of modes({ method: 'POST', path: '/header', fields, body: 'a' })) {
    t.is((await ask(app.fetch, request)).text, 'put a undefined');
  }
  for (const request of modes({ method: 'POST', path: '/query?_method=PATCH', fields: TEXT, body: 'a' })) {
    t.is((await ask(app.fetch, request)).text, 'patched a https://localhost:8443/query');
  }
});

test('cors', async (t) => {
  const app = new Hono();
  app.use(cors({ origin: 'https://example.com', credentials: true }));
  app.get('/', (c) => c.text('a'));
  const origin = ['origin', 'https://example.com'] as const;
  const answer = await ask(app.fetch, { fields: [origin] });
  t.is(answer.headers.get('access-control-allow-origin'), 'https://example.com');
  const fields = [origin, ['access-control-request-method', 'PUT'], ['access-control-request-headers', 'x-a']] as const;
  const preflight = await ask(app.fetch, { method: 'OPTIONS', fields });
  t.is(preflight.status, 204);
  t.is(preflight.headers.get('access-control-allow-headers'), 'x-a');
  t.regex(preflight.headers.get('access-control-allow-methods') ?? '', /PUT/);
});

test('csrf', async (t) => {
  const app = new Hono();
  app.use(csrf());
  app.post('/', (c) => c.text('a'));
  const origin = (value: string) =>
    ({ method: 'POST', fields: [...URLENCODED, ['origin', value]], body: 'a=1' }) as const;
  t.is((await ask(app.fetch, origin('https://localhost:8443'))).status, 200);
  t.is((await ask(app.fetch, origin('https://elsewhere'))).status, 403);
});

test('etag', async (t) => {
  const app = new Hono();
  app.use(etag());
  app.get('/', (c) => c.text('a'));
  const answer = await ask(app.fetch);
  const tag = answer.headers.get('etag') ?? '';
  t.not(tag, '');
  t.is(answer.text, 'a');
  const again = await ask(app.fetch, { fields: [['if-none-match', tag]] });
  t.is(again.status, 304);
  t.is(again.text, '');
  t.is(again.headers.get('etag'), tag);
});

test('compress', async (t) => {
  const app = new Hono();
  app.use(compress());
  const large = 'compressible '.repeat(1000);
  app.get('/', (c) => c.text(large));
  const answer = await ask(app.fetch, { fields: [['accept-encoding', 'gzip']] });
  t.is(answer.headers.get('content-encoding'), 'gzip');
  t.true(answer.body.byteLength < large.length / 2);
  t.is(gunzipSync(answer.body).toString(), large);
  t.is((await ask(app.fetch)).text, large);
});

test('parseBody with a file', async (t) => {
  const app = new Hono();
  app.post('/', async (c) => {
    const { name, file } = await c.req.parseBody();
    if (!(file instanceof File)) return c.text('no file', 400);
    return c.json({
      name,
      fileName: file.name,
      type: file.type,
      size: file.size,
      text: (await file.text()).slice(0, 3),
    });
  });
  const form = new FormData();
  form.append('name', 'é');
  form.append('file', new File(['abc'.repeat(10_000)], 'a.txt', { type: 'text/csv' }));
  const source = new Response(form);
  const fields = [['content-type', source.headers.get('content-type') ?? '']] as const;
  const bytes = new Uint8Array(await source.arrayBuffer());
  const pieces = [bytes.subarray(0, 1000), bytes.subarray(1000)];
  for (const request of [
    { method: 'POST', fields, body: bytes },
    { method: 'POST', fields, streaming: true, body: pieces },
  ]) {
    const answer = await ask(app.fetch, request);
    t.deepEqual(JSON.parse(answer.text), { name: 'é', fileName: 'a.txt', type: 'text/csv', size: 30_000, text: 'abc' });
  }
});

test('mount', async (t) => {
  const app = new Hono();
  const inner = new Hono().post('/:name', async (c) => c.text(`${c.req.param('name')} ${await c.req.text()}`));
  app.route('/routed', inner);
  app.mount('/mounted', async (request) => {
    return new Response(`${request.method} ${request.url} ${request.headers.get('x-a')} ${await request.text()}`);
  });
  const fields = [...TEXT, ['x-a', 'b']] as const;
  for (const request of modes({ method: 'POST', path: '/mounted/path?q=1', fields, body: 'body' })) {
    t.is((await ask(app.fetch, request)).text, 'POST https://localhost:8443/path?q=1 b body');
  }
  t.is((await ask(app.fetch, { path: '/mounted/a' })).text, 'GET https://localhost:8443/a null ');
  t.is((await ask(app.fetch, { method: 'POST', path: '/routed/a', fields: TEXT, body: 'b' })).text, 'a b');
});

test('raw.clone() and a body that is read twice', async (t) => {
  const app = new Hono();
  app.post('/clone', async (c) => {
    const copy = c.req.raw.clone();
    return c.json([await copy.text(), await c.req.text(), await c.req.text(), c.req.raw.bodyUsed, copy.url]);
  });
  app.post('/cached', async (c) =>
    c.json([await c.req.text(), await c.req.json(), (await c.req.arrayBuffer()).byteLength]),
  );
  for (const request of modes({ method: 'POST', path: '/clone', fields: TEXT, body: 'a' })) {
    t.deepEqual(JSON.parse((await ask(app.fetch, request)).text), [
      'a',
      'a',
      'a',
      true,
      'https://localhost:8443/clone',
    ]);
  }
  for (const request of modes({ method: 'POST', path: '/cached', fields: TEXT, body: '[1]' })) {
    t.deepEqual(JSON.parse((await ask(app.fetch, request)).text), ['[1]', [1], 3]);
  }
});

test('streamSSE, streamText and stream', async (t) => {
  const app = new Hono();
  app.get('/sse', (c) =>
    streamSSE(c, async (sse) => {
      for (let id = 0; id < 3; id += 1) {
        await sse.writeSSE({ id: String(id), event: 'tick', data: `data ${id}` });
        await sse.sleep(1);
      }
    }),
  );
  app.get('/text', (c) =>
    streamText(c, async (text) => {
      await text.writeln('a');
      await text.sleep(1);
      await text.write('b');
    }),
  );
  app.get('/stream', (c) =>
    stream(c, async (out) => {
      await out.pipe(new Blob(['piped']).stream());
    }),
  );
  const sse = await ask(app.fetch, { path: '/sse' });
  t.is(sse.headers.get('content-type'), 'text/event-stream');
  t.false(sse.headers.has('transfer-encoding'));
  t.is(sse.text, [0, 1, 2].map((id) => `event: tick\ndata: data ${id}\nid: ${id}\n\n`).join(''));
  t.is((await ask(app.fetch, { path: '/text' })).text, 'a\nb');
  t.is((await ask(app.fetch, { path: '/stream' })).text, 'piped');
});

test('streamSSE learns that the client has left', async (t) => {
  let aborted = false;
  let ended = false;
  const app = new Hono();
  app.get('/', (c) =>
    streamSSE(c, async (sse) => {
      sse.onAbort(() => {
        aborted = true;
      });
      while (!sse.aborted) {
        await sse.writeSSE({ data: 'a' });
        await turn();
      }
      ended = true;
    }),
  );
  const exchange = new FakeExchange();
  exchange.window = 20;
  const server = fakeServer(app.fetch);
  runHandler(exchange, server);
  while (exchange.writes.length === 0) await turn();
  t.false(aborted);
  exchange.abort('reset');
  for (let round = 0; round < 100 && !ended; round += 1) await turn();
  t.true(aborted);
  t.true(ended);
  t.deepEqual(server.errors, []);
});

test("the raw request's signal aborts, behind bodyLimit too", async (t) => {
  for (const limit of [false, true]) {
    let name = '';
    const app = new Hono();
    if (limit) app.use(bodyLimit({ maxSize: 100 }));
    app.post('/', async (c) => {
      await c.req.text();
      const { signal } = c.req.raw;
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      name = (signal.reason as DOMException).name;
      return c.text('late');
    });
    const exchange = new FakeExchange({ method: 'POST', fields: TEXT, body: 'a' });
    runHandler(exchange, fakeServer(app.fetch));
    for (let round = 0; round < 10; round += 1) await turn();
    exchange.abort('reset');
    await exchange.ended();
    t.is(name, 'AbortError');
  }
});

test("Hono's own error handling answers", async (t) => {
  const app = new Hono();
  app.get('/', () => {
    throw new Error('caught by Hono');
  });
  app.onError((error, c) => c.text(error.message, 503));
  const answer = await ask(app.fetch);
  t.is(answer.status, 503);
  t.is(answer.text, 'caught by Hono');
});
