// Specification, section 4: response bodies.
import test from 'ava';
import type { ListenOptions } from 'valk-aio';
import { ask, open } from './helpers/client.js';
import { pattern, sha256 } from './helpers/lab.js';
import { ServerProcess } from './helpers/server-process.js';

const LIMIT = 64 << 10;
const INTERNAL_ERROR = 2;
const kinds = ['bytes', 'string', 'response', 'blob'];

test('a body given whole above the limit is a 500 before anything is sent, and onError is called', async (t) => {
  const server = await ServerProcess.start(t, { maxConnections: 4 }, { maxResponseBodySize: LIMIT });
  const session = await open(t, server.url);
  for (const [at, as] of kinds.entries()) {
    const fits = await ask(session, `/big?size=${LIMIT}&as=${as}`);
    t.is(fits.status, 200);
    t.is(fits.body.length, LIMIT);
    t.is(fits.headers['content-length'], String(LIMIT));
    const tooLarge = await ask(session, `/big?size=${LIMIT + 1}&as=${as}`);
    t.is(tooLarge.status, 500, as);
    t.true(tooLarge.whole);
    t.true(tooLarge.body.length < 1000);
    const { errors } = await server.log();
    t.is(errors.length, at + 1);
    t.regex(errors[at], /maxResponseBodySize/);
  }
  await server.assertBounds(t);
});

test('by default the limit is 64 MiB', async (t) => {
  const server = await ServerProcess.start(t, { maxConnections: 4 });
  const session = await open(t, server.url);
  t.is((await ask(session, `/big?size=${(64 << 20) + 1}`)).status, 500);
  t.is((await server.log()).errors.length, 1);
});

test('a stream above a limit that was set is reset, never ended as if it were complete', async (t) => {
  const server = await ServerProcess.start(t, { maxConnections: 4 }, { maxResponseBodySize: LIMIT });
  const session = await open(t, server.url);
  const fits = await ask(session, `/pieces?size=${LIMIT}`);
  t.true(fits.whole);
  t.is(sha256(fits.body), sha256(pattern(LIMIT)));
  for (const piece of [1000, LIMIT + 1]) {
    const { status, whole, resetCode, body } = await ask(session, `/pieces?size=${LIMIT + 1}&piece=${piece}`);
    t.true(status === 200 || status === 0);
    t.false(whole);
    t.is(resetCode, INTERNAL_ERROR);
    t.true(body.length <= LIMIT);
  }
  const { errors } = await server.log();
  t.is(errors.length, 2);
  t.is((await server.stats()).request.reset.handler, 2);
  t.is((await ask(session, '/hello')).status, 200);
  await server.assertBounds(t);
});

test('streams have no limit by default, and with Infinity nothing has', async (t) => {
  const size = 80 << 20;
  const cases: [ListenOptions['maxResponseBodySize'], string][] = [
    [undefined, `/pieces?size=${size}&piece=1000000`],
    [Number.POSITIVE_INFINITY, `/big?size=${size}`],
  ];
  for (const [maxResponseBodySize, path] of cases) {
    const server = await ServerProcess.start(t, { maxConnections: 4 }, { maxResponseBodySize });
    const session = await open(t, server.url);
    const { body, whole } = await ask(session, path);
    t.true(whole);
    t.is(body.length, size);
    t.is((await server.log()).errors.length, 0);
    await server.stop();
  }
});
