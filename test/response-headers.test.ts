import { once } from 'node:events';
import { connect } from 'node:http2';
import test from 'ava';
import fc from 'fast-check';
import type { AioError, AioResponse } from 'valk-aio';
import { MAX_FIELDS_COUNT, MAX_FIELDS_SIZE, renderFields, renderTrailers } from '../lib/response-headers.js';
import { LightResponse } from '../lib/response-light.js';
import { askFailing } from './helpers/answers.js';
import { cert } from './helpers/certificate.js';
import { ask, outcome, send } from './helpers/client.js';
import { serve } from './helpers/serve.js';

type Input = [name: string, value: string | string[]][];

function linesOf(fields: Input): string {
  return fields
    .flatMap(([name, value]) => [value].flat().map((each) => `${name.toLowerCase()}\n${each.trim()}\n`))
    .join('');
}

test('fields are rendered as they are, whatever was rendered before', (t) => {
  const one = fc.constantFrom('', 'a', 'b', ' a', 'v'.repeat(129), 'w'.repeat(600));
  const value = fc.oneof(one, fc.array(one, { maxLength: 3 }));
  const name = fc.constantFrom('a', 'A', 'b', 'x-c', 'content-type', 'Set-Cookie');
  const fields = fc.uniqueArray(fc.tuple(name, value), { selector: ([key]) => key, maxLength: 6 });
  const runs = fc.array(fc.tuple(fields, fc.boolean()), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(runs, (runs) =>
      [...runs, ...runs].every(([input, isObject]) => {
        const expected = linesOf(input);
        return renderFields(isObject ? Object.fromEntries(input) : input) === expected;
      }),
    ),
    { numRuns: 1000 },
  );
  t.pass();
});

test('an object that is changed between two answers is read anew', (t) => {
  const headers: Record<string, string> = { 'x-first': '1', 'x-second': '2', 'x-third': '3' };
  for (let round = 0; round < 3; round += 1) {
    t.is(renderFields(headers), 'x-first\n1\nx-second\n2\nx-third\n3\n');
    headers['x-second'] = 'changed';
    t.is(renderFields(headers), 'x-first\n1\nx-second\nchanged\nx-third\n3\n');
    headers['x-first'] = '';
    t.is(renderFields(headers), 'x-first\n\nx-second\nchanged\nx-third\n3\n');
    headers['x-first'] = '1';
    headers['x-second'] = '2';
  }
  t.is(renderFields({ 'x-third': '3', 'x-first': '1' }), 'x-third\n3\nx-first\n1\n');
});

test('null is no value, whatever the name had before', (t) => {
  for (const name of ['x-null', 'content-length', 'connection', 'content-type']) {
    const expected = {
      instanceOf: TypeError,
      message: `header ${name} must be a string, a number or an array of them`,
    };
    const headers = { [name]: null as never };
    t.throws(() => renderFields(headers), expected);
    t.throws(() => renderFields(Object.entries(headers)), expected);
    renderFields({ [name]: '1' });
    t.throws(() => renderFields(headers), expected);
    t.throws(() => renderFields({ [name]: [null as never] }), { instanceOf: TypeError });
  }
});

const TOO_MUCH = { code: 'ERR_VALK_AIO_RESPONSE', message: /^The header fields have \d+ bytes, more than 61440$/ };
const TOO_MANY = { code: 'ERR_VALK_AIO_RESPONSE', message: 'There are 1001 header fields, more than 1000' };

test('fields are at most 60 KiB together', (t) => {
  for (const render of [renderFields, renderTrailers]) {
    const largest = 'v'.repeat(MAX_FIELDS_SIZE - 'name\n\n'.length);
    t.is(render({ name: largest }).length, MAX_FIELDS_SIZE);
    t.throws(() => render({ name: `${largest}v` }), TOO_MUCH);
    t.throws(() => render({ name: 'v'.repeat(61 * 1024) }), TOO_MUCH);
    t.throws(() => render({ name: Array.from({ length: 100 }, () => 'v'.repeat(1024)) }), TOO_MUCH);
    // What is left out does not count.
    t.is(render({ name: 'v', connection: 'v'.repeat(61 * 1024) }), 'name\nv\n');
  }
});

test('fields are at most 1000', (t) => {
  const most = Array.from({ length: MAX_FIELDS_COUNT }, () => '');
  for (const render of [renderFields, renderTrailers]) {
    for (const value of ['', 'v', 'v'.repeat(40)]) {
      const values = most.map(() => value);
      t.is(render({ n: values }), `n\n${value}\n`.repeat(MAX_FIELDS_COUNT));
      t.throws(() => render({ n: [...values, value] }), TOO_MANY);
      t.throws(() => render([...values, value].map((each, index) => [`name-${index}`, each])), TOO_MANY);
      t.is(render({ n: values, connection: 'a' }), `n\n${value}\n`.repeat(MAX_FIELDS_COUNT));
    }
  }
});

test('a content-type of the body counts with the fields that were given', async (t) => {
  const headers = { name: 'v'.repeat(MAX_FIELDS_SIZE - 'name\n\n'.length) };
  const bodies = [
    () => ({ headers, body: new Blob(['a'], { type: 'a/b' }) }),
    () => new LightResponse('a', { headers }),
  ];
  for (const body of bodies) {
    const { answer, errors } = await askFailing(body);
    t.is(answer.status, 500);
    t.is(errors.length, 1);
    t.throws(() => {
      throw errors[0];
    }, TOO_MUCH);
  }
});

test('fields within the bounds arrive, and the operator is told of others', async (t) => {
  const most = {
    n: Array.from({ length: MAX_FIELDS_COUNT }, () => 'v'.repeat(MAX_FIELDS_SIZE / MAX_FIELDS_COUNT - 4)),
  };
  const over = { n: [...most.n, ''] };
  const answers: Record<string, () => AioResponse> = {
    '/': () => ({ headers: most, body: 'a', trailers: most }),
    '/headers': () => ({ headers: over, body: 'a' }),
    '/trailers': () => ({ body: 'a', trailers: over }),
    '/late': () => ({ body: 'a', trailers: () => ({ n: 'v'.repeat(100 * 1024) }) }),
  };
  const { url, errors } = await serve(t, (request) => answers[new URL(request.url).pathname]?.() ?? {});
  const client = connect(url, { ca: cert, maxHeaderListPairs: 5000, settings: { maxHeaderListSize: 1 << 20 } });
  t.teardown(() => client.destroy());
  const stream = send(client, '/');
  const trailers = once(stream, 'trailers');
  const answer = await outcome(stream);
  t.is(answer.status, 200);
  t.is(String(answer.headers.n).split(', ').length, MAX_FIELDS_COUNT);
  t.is(String((await trailers)[0].n).split(', ').length, MAX_FIELDS_COUNT);
  t.is((await ask(client, '/headers')).status, 500);
  t.is((await ask(client, '/trailers')).status, 500);
  t.is((await ask(client, '/late')).resetCode, 2);
  t.deepEqual(
    errors.map(({ error }) => (error as AioError).code),
    ['ERR_VALK_AIO_RESPONSE', 'ERR_VALK_AIO_RESPONSE', 'ERR_VALK_AIO_RESPONSE'],
  );
});
