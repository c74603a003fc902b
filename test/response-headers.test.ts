import test from 'ava';
import fc from 'fast-check';
import { renderFields } from '../lib/response-headers.js';

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
