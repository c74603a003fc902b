import { readFileSync, realpathSync, statSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { type ByteRange, parseByteRange } from '../lib/site-range.js';
import { BASE, bytesOf, get, header, LARGE, openFiles, put, ROOT } from './helpers/site.js';

// Links to what lies beside the root, above it and below it, by relative and by absolute ways.
symlinkSync(BASE, join(ROOT, 'link-base'));
symlinkSync('/', join(ROOT, 'link-top'));
symlinkSync('..', join(ROOT, 'plain/link-up'));
symlinkSync('../..', join(ROOT, 'plain/link-out'));
symlinkSync(join(ROOT, 'plain'), join(ROOT, 'link-plain'));
symlinkSync('../.hidden', join(ROOT, 'plain/link-hidden'));
put('small.bin', LARGE.subarray(0, 40));

const NAMES = [
  ...['hello.txt', 'plain', 'inner', 'with-index', 'index.html', '10.txt', 'k%C3%B6ln%20100%25.txt', 'small.bin', ''],
  ...['link-inside.txt', 'link-plain', 'link-up', 'link-out', 'link-out.txt', 'link-beside', 'link-base', 'link-top'],
  ...['link-hidden', 'link-hidden.txt', 'loop', 'dangling', 'fifo', 'secret.txt', 'site-beside', 'site', 'etc'],
  ...['passwd', '.hidden', '.dotfile', 'file.txt', BASE.slice(1)],
];
const HOSTILE = [
  ...['.', '..', '%2e', '%2E%2e', '.%2e', '..;', '...', '%2f', '..%2f', '%5c', '..%5c', '\\', '%00', '\0', '%'],
  ...['%c0%ae%c0%ae', '%252e%252e', '%ff', '\ud800', '~', '*', '?', '#', '%3f', ' ', '\n', 'a'.repeat(300)],
];

/** A name as it is, or with some of its characters encoded. */
const name = fc.tuple(fc.constantFrom(...NAMES), fc.nat(0xff)).map(([text, bits]) =>
  text.replaceAll(/[a-z.]/g, (character, at: number) => {
    const isEncoded = ((bits >> (at % 8)) & 1) === 1 && bits > 0xc0 && !text.includes('%');
    return isEncoded ? `%${character.charCodeAt(0).toString(16)}` : character;
  }),
);
const segment = fc.oneof(
  { weight: 8, arbitrary: name },
  { weight: 2, arbitrary: fc.constantFrom(...HOSTILE) },
  { weight: 1, arbitrary: fc.tuple(name, fc.constantFrom(...HOSTILE)).map((parts) => parts.join('')) },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 5 }) },
);
const path = fc.array(segment, { minLength: 1, maxLength: 5 }).map((segments) => `/${segments.join('/')}`);

/** What the file system has where a path leads, whoever may see it. */
function find(pathname: string): string | undefined {
  try {
    return realpathSync(join(ROOT, ...pathname.split('/').map(decodeURIComponent)));
  } catch {
    return undefined;
  }
}

test.serial('whatever path is asked for, only what is really below the root and not hidden comes', async (t) => {
  const statuses: Record<number, number> = {};
  let linked = 0;
  await fc.assert(
    fc.asyncProperty(path, async (asked) => {
      const answer = await get(asked);
      const body = await bytesOf(answer);
      const status = answer.status ?? 200;
      statuses[status] = (statuses[status] ?? 0) + 1;
      if (status !== 200) {
        t.true([308, 400, 404].includes(status), `${asked}: ${status}`);
        t.false(/secret|hidden|root:/.test(body.toString()), asked);
        return;
      }
      const { pathname } = new URL(`https://x${asked}`);
      const found = find(pathname) as string;
      t.true(found === ROOT || found.startsWith(`${ROOT}/`), `${asked} leads to ${found}`);
      t.false(found.slice(ROOT.length).includes('/.'), `${asked} is hidden`);
      if (found !== join(ROOT, decodeURIComponent(pathname)).replace(/(.)\/$/, '$1')) linked++;
      if (statSync(found).isFile()) t.deepEqual(body, readFileSync(found), asked);
      else t.regex(body.toString(), /^(<!doctype html>|<p>index)/i, asked);
    }),
    { numRuns: 3000 },
  );
  t.true((statuses[200] ?? 0) > 100, JSON.stringify(statuses));
  t.true(linked > 5, 'links that stay inside were followed');
  t.deepEqual(openFiles(), []);
});

/** RFC 9110, section 14.1.2, byte by byte. */
function model(field: string, size: number): ByteRange {
  const whole = { kind: 'whole' } as const;
  const [unit, ...rest] = field.split('=');
  const spec = rest.join('=').replaceAll(/^[ \t]+|[ \t]+$/g, '');
  const parts = spec.split('-');
  const [from = '', to = ''] = parts;
  if (unit?.toLowerCase() !== 'bytes' || rest.length === 0 || parts.length !== 2) return whole;
  if ([...from, ...to].some((digit) => !'0123456789'.includes(digit)) || from + to === '') return whole;
  if (from !== '' && to !== '' && BigInt(to) < BigInt(from)) return whole;
  if (from === '' && BigInt(to) > 0n && size === 0) return whole;
  const wanted: number[] = [];
  for (let at = 0; at < size; at++) {
    const isWanted =
      from === ''
        ? BigInt(at) >= BigInt(size) - BigInt(to)
        : BigInt(at) >= BigInt(from) && (to === '' || BigInt(at) <= BigInt(to));
    if (isWanted) wanted.push(at);
  }
  const [first] = wanted;
  return first === undefined ? { kind: 'unsatisfiable' } : { kind: 'part', first, last: wanted.at(-1) as number };
}

const number = fc.oneof(
  { weight: 6, arbitrary: fc.nat(60).map(String) },
  { weight: 2, arbitrary: fc.constant('') },
  { weight: 1, arbitrary: fc.stringMatching(/^0{0,3}\d{1,30}$/) },
  { weight: 1, arbitrary: fc.constantFrom('a', '+1', '-1', '1.0', '1e1', '٣', ' ') },
);
const field = fc
  .tuple(
    fc.constantFrom('bytes=', 'bytes=', 'bytes=', 'BYTES= ', 'bytes =', 'byte=', 'bytes', '=', 'bytes=\t'),
    number,
    fc.constantFrom('-', '-', '-', '-', '--', ' - ', '', ','),
    number,
    fc.constantFrom('', '', '', ' ', '\t', ',1-2', ';', '-'),
  )
  .map((parts) => parts.join(''));

test('a range field means what its bytes, looked at one by one, say', (t) => {
  const kinds: Record<string, number> = {};
  fc.assert(
    fc.property(field, fc.nat(50), (value, size) => {
      const range = parseByteRange(value, size);
      kinds[range.kind] = (kinds[range.kind] ?? 0) + 1;
      t.deepEqual(range, model(value, size), `${JSON.stringify(value)} of ${size}`);
    }),
    { numRuns: 10_000 },
  );
  for (const kind of ['part', 'whole', 'unsatisfiable']) t.true((kinds[kind] ?? 0) > 200, JSON.stringify(kinds));
});

test.serial('what is sent for a range is those bytes of the file', async (t) => {
  const sendable = field.filter((value) => !/[^\t\x20-\x7e]/.test(value));
  await fc.assert(
    fc.asyncProperty(fc.constantFrom('/small.bin', '/large.bin'), sendable, fc.nat(200), async (file, value, shift) => {
      const content = file === '/small.bin' ? LARGE.subarray(0, 40) : LARGE;
      // Near the end of the large file too.
      const text = shift > 100 ? value.replaceAll(/\d+/g, (digits) => String(BigInt(digits) + 199_950n)) : value;
      const answer = await get(file, { range: text });
      const expected = parseByteRange(new Headers({ range: text }).get('range'), content.length);
      const body = await bytesOf(answer);
      if (expected.kind === 'part') {
        const { first, last } = expected;
        t.is(answer.status, 206, text);
        t.is(header(answer, 'content-range'), `bytes ${first}-${last}/${content.length}`);
        t.true(body.equals(content.subarray(first, last + 1)), text);
      } else {
        t.is(answer.status, expected.kind === 'whole' ? 200 : 416, text);
        if (expected.kind === 'whole') t.true(body.equals(content), text);
      }
    }),
    { numRuns: 500 },
  );
  t.deepEqual(openFiles(), []);
});
