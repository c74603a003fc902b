import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { devCertificate } from '../lib/dev-certificate.js';
import { PACKAGE, type RequestOptions, request, startServer } from './helpers/command.js';

const DATA = mkdtempSync(join(tmpdir(), 'valk-aio-examples-'));
// Made before the examples start, so that all of them have the same.
const { cert: ca } = await devCertificate({ directory: join(DATA, 'valk-aio') });
test.after.always(() => rmSync(DATA, { recursive: true, force: true }));

type Get = (path: string, options?: Omit<RequestOptions, 'ca'>) => ReturnType<typeof request>;

const examples: Readonly<Record<string, (t: ExecutionContext, get: Get) => Promise<void>>> = {
  hello: async (t, get) => {
    const { status, headers, body } = await get('/');
    t.deepEqual([status, headers['content-length'], body.toString()], [200, '14', 'Hello, world!\n']);
  },
  hono: async (t, get) => {
    t.is((await get('/')).body.toString(), 'Hello from Hono!\n');
    t.deepEqual(JSON.parse((await get('/users/ada')).body.toString()), { name: 'ada' });
    const body = JSON.stringify({ list: [1, 2, 3] });
    const headers = { 'content-type': 'application/json' };
    t.is((await get('/echo', { method: 'POST', body, headers })).body.toString(), body);
    t.is((await get('/nowhere')).status, 404);
  },
  sse: async (t, get) => {
    const { status, headers, body } = await get('/', { until: (text) => text.includes('id: 2\n') });
    t.deepEqual([status, headers['content-type']], [200, 'text/event-stream']);
    t.regex(body.toString(), /^id: 1\ndata: \S+\n\nid: 2\n/);
  },
  upload: async (t, get) => {
    const body = Buffer.alloc(3_000_000, 'upload');
    const answer = await get('/', { method: 'POST', body });
    const sha256 = createHash('sha256').update(body).digest('hex');
    t.deepEqual(JSON.parse(answer.body.toString()), { bytes: body.length, sha256 });
    t.is((await get('/')).status, 405);
  },
  development: async (t, get) => {
    const config = JSON.parse((await get('/')).body.toString());
    t.like(config, {
      maxConnections: 100,
      maxConcurrentStreams: 100,
      tcpBufferPoolSize: 1450,
      arenaPoolSize: 200,
    });
  },
  'high-concurrency': async (t, get) => {
    const config = JSON.parse((await get('/')).body.toString());
    t.like(config, {
      maxConnections: 1000,
      tcpBufferPoolSize: 14_500,
      arenaPoolSize: 2000,
      queueCapacity: 2000,
    });
  },
  'little-memory': async (t, get) => {
    const config = JSON.parse((await get('/')).body.toString());
    t.like(config, {
      maxConnections: 50,
      tcpBufferPoolSize: 225,
      arenaPoolSize: 50,
      arenaSize: 16 * 2 ** 20,
    });
    t.true(config.totalBytes < 2 ** 30);
  },
};

for (const [name, check] of Object.entries(examples)) {
  test.serial(`examples/${name}.mjs serves, and ends at SIGTERM`, async (t) => {
    const server = await startServer([`examples/${name}.mjs`], { PORT: '0', XDG_DATA_HOME: DATA });
    try {
      await check(t, async (path, options) => request(new URL(path, server.url).href, { ...options, ca }));
    } finally {
      const { code, stderr } = await server.end('SIGTERM');
      t.deepEqual([code, stderr], [0, '']);
    }
  });
}

test('every example is tested', (t) => {
  const files = readdirSync(join(PACKAGE, 'examples')).filter((name) => name !== 'common.mjs');
  t.deepEqual(
    files.sort(),
    Object.keys(examples)
      .map((name) => `${name}.mjs`)
      .sort(),
  );
});
