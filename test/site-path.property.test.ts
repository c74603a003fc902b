import { join, normalize } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { formatSize, parseSize } from '../lib/format.js';
import { contentType, encodeSitePath, resolveSitePath } from '../lib/site-path.js';
import {
  entityTagsMatch,
  formatEntityTag,
  ifRangeHolds,
  parseByteRange,
  parseEntityTags,
  parseHttpDate,
} from '../lib/site-range.js';

const hostilePath = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        '/',
        '//',
        '.',
        '..',
        '%2e',
        '%2E%2e',
        '%2f',
        '%5c',
        '\\',
        '%00',
        '\0',
        '%',
        '%c0%ae',
        '%252e',
        '\ud800',
      ),
      fc.string({ unit: 'binary', maxLength: 6 }),
    ),
    { maxLength: 12 },
  )
  .map((parts) => parts.join(''));

const servableName = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 20 })
  .filter((name) => !/\p{Surrogate}/u.test(name) && !/[/\\\0]/.test(name) && !name.startsWith('.'));

test('a resolved path always stays below the directory and names nothing hidden', (t) => {
  const root = '/srv/site';
  fc.assert(
    fc.property(
      fc.oneof(
        hostilePath,
        hostilePath.map((path) => `/${path}`),
      ),
      (path) => {
        const resolved = resolveSitePath(path);
        if (!resolved.ok) return resolved.status === 400 || resolved.status === 404;
        const file = join(root, ...resolved.segments);
        return (
          normalize(file) === file &&
          (file === root || file.startsWith(`${root}/`)) &&
          resolved.segments.every((name) => name !== '' && !name.startsWith('.') && !/[/\\\0]/.test(name))
        );
      },
    ),
    { numRuns: 2000 },
  );
  t.pass();
});

test('names survive being encoded and resolved, in ASCII', (t) => {
  fc.assert(
    fc.property(fc.array(servableName, { maxLength: 4 }), fc.boolean(), (segments, directory) => {
      const path = encodeSitePath(segments, directory);
      t.regex(path, /^\/(?!\/)[\x21-\x7e]*$/);
      t.deepEqual(resolveSitePath(path), {
        ok: true,
        segments,
        directory: directory || segments.length === 0,
      });
    }),
  );
});

test('paths that are refused, and how', (t) => {
  const notFound = `
    //etc/passwd /a//b /a// /.. /../x /a/../b /a/.. /. /%2e%2e/x /%2E%2e /.git/config /%2egit /a%2fb /a%2Fb
    /a\\b /a%5cb /${'x'.repeat(13_000)}`;
  const badRequest = ['a', '*', '/%', '/%2', '/%zz', '/%c0%ae', '/%ff', '/%ed%a0%80', '/a%00b', '/a\0b', '/\ud800', ''];
  for (const path of notFound.trim().split(/\s+/)) t.deepEqual(resolveSitePath(path), { ok: false, status: 404 }, path);
  for (const path of badRequest) t.deepEqual(resolveSitePath(path), { ok: false, status: 400 }, path);
});

test('percent-encoding is decoded exactly once', (t) => {
  t.deepEqual(resolveSitePath('/%252e%252e/a%2520b'), {
    ok: true,
    segments: ['%2e%2e', 'a%20b'],
    directory: false,
  });
  t.deepEqual(resolveSitePath('/%E2%82%AC/'), { ok: true, segments: ['€'], directory: true });
  t.deepEqual(resolveSitePath('/'), { ok: true, segments: [], directory: true });
});

test('content types are by extension, with a charset for text', (t) => {
  t.is(contentType('index.html'), 'text/html; charset=utf-8');
  t.is(contentType('README.md'), 'text/markdown; charset=utf-8');
  t.is(contentType('a.MJS'), 'text/javascript; charset=utf-8');
  t.is(contentType('a.svg'), 'image/svg+xml');
  t.is(contentType('a.tar.gz'), 'application/gzip');
  t.is(contentType('html'), 'application/octet-stream');
  t.is(contentType('a.nothing-known'), 'application/octet-stream');
});

test('a byte range is within the size, whatever the field says', (t) => {
  const field = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc
      .tuple(fc.bigInt({ min: 0n, max: 10n ** 30n }), fc.bigInt({ min: 0n, max: 10n ** 30n }))
      .map(([a, b]) => `bytes=${a}-${b}`),
    fc.tuple(fc.nat(300), fc.option(fc.nat(300))).map(([a, b]) => `bytes=${a}-${b ?? ''}`),
    fc.nat(300).map((n) => `bytes=-${n}`),
  );
  fc.assert(
    fc.property(field, fc.nat(200), (value, size) => {
      const range = parseByteRange(value, size);
      if (range.kind !== 'part') return true;
      return range.first >= 0 && range.first <= range.last && range.last < size;
    }),
    { numRuns: 2000 },
  );
  t.pass();
});

test('byte ranges of RFC 9110, section 14.1.2', (t) => {
  const whole = { kind: 'whole' } as const;
  const unsatisfiable = { kind: 'unsatisfiable' } as const;
  const part = (first: number, last: number) => ({ kind: 'part', first, last }) as const;
  const cases: [string | null, number, ReturnType<typeof parseByteRange>][] = [
    [null, 100, whole],
    ['bytes=0-0', 100, part(0, 0)],
    ['bytes=0-', 100, part(0, 99)],
    ['BYTES= 10-19 ', 100, part(10, 19)],
    ['bytes=90-1000', 100, part(90, 99)],
    ['bytes=99-99999999999999999999999', 100, part(99, 99)],
    ['bytes=-1', 100, part(99, 99)],
    ['bytes=-1000', 100, part(0, 99)],
    ['bytes=-0', 100, unsatisfiable],
    ['bytes=100-', 100, unsatisfiable],
    [`bytes=${'9'.repeat(400)}-${'9'.repeat(400)}`, 100, unsatisfiable],
    ['bytes=0-', 0, unsatisfiable],
    ['bytes=-5', 0, whole],
    ['bytes=5-4', 100, whole],
    ['bytes=9007199254740993-9007199254740992', 100, whole],
    ['bytes=005-4', 100, whole],
    ['bytes=4-005', 100, part(4, 5)],
    ['bytes=0-1,3-4', 100, whole],
    ['bytes=-', 100, whole],
    ['bytes=', 100, whole],
    ['bytes=a-b', 100, whole],
    ['bytes=+1-2', 100, whole],
    ['lines=0-1', 100, whole],
    ['bytes 0-1', 100, whole],
  ];
  for (const [value, size, expected] of cases) t.deepEqual(parseByteRange(value, size), expected, String(value));
});

const entityTag = fc.record({
  weak: fc.boolean(),
  value: fc.string({ unit: fc.constantFrom(...'!#az09~,-*/W\x80\xff'), maxLength: 12 }),
});

test('entity-tags survive being written and read, in lists too', (t) => {
  fc.assert(
    fc.property(fc.array(entityTag, { maxLength: 6 }), fc.constantFrom(',', ', ', ' ,\t', ',,'), (tags, comma) => {
      t.deepEqual(parseEntityTags(tags.map(formatEntityTag).join(comma)), tags);
    }),
  );
});

test('malformed lists of entity-tags match nothing', (t) => {
  for (const value of [
    'a',
    '"a',
    'a"',
    '"a" b',
    '"a""b"',
    'w/"a"',
    'W/ "a"',
    '"a b"',
    '"a", *',
    '*, "a"',
    '"a\0"',
    '"a",x',
  ]) {
    t.is(parseEntityTags(value), null, value);
  }
  t.is(parseEntityTags(' * '), '*');
  t.deepEqual(parseEntityTags(' , ,'), []);
});

test('entity-tags, dates and sizes are read from any string without an exception, long ones too', (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (value) => {
      parseEntityTags(value);
      parseHttpDate(value);
      parseSize(value);
      ifRangeHolds(value, { etag: { weak: false, value: 'a' }, lastModifiedMs: 0 });
    }),
    { numRuns: 2000 },
  );
  for (const value of [' '.repeat(1e6), ','.repeat(1e6), `"${'a'.repeat(1e6)}`, `W/${'"a",'.repeat(2e5)}x`]) {
    t.notThrows(() => parseEntityTags(value));
  }
});

test('comparison of entity-tags, RFC 9110, section 8.8.3.2', (t) => {
  const strong = { weak: false, value: '1' };
  const weak = { weak: true, value: '1' };
  t.deepEqual([entityTagsMatch(weak, weak, 'strong'), entityTagsMatch(weak, weak, 'weak')], [false, true]);
  t.deepEqual([entityTagsMatch(weak, strong, 'strong'), entityTagsMatch(weak, strong, 'weak')], [false, true]);
  t.deepEqual([entityTagsMatch(strong, strong, 'strong'), entityTagsMatch(strong, strong, 'weak')], [true, true]);
  t.false(entityTagsMatch(strong, { weak: false, value: '2' }, 'weak'));
});

test('dates are read in all three forms, and only as dates', (t) => {
  const expected = Date.UTC(1994, 10, 6, 8, 49, 37);
  const now = Date.UTC(2025, 0, 1);
  t.is(parseHttpDate('Sun, 06 Nov 1994 08:49:37 GMT', now), expected);
  t.is(parseHttpDate('Sunday, 06-Nov-94 08:49:37 GMT', now), expected);
  t.is(parseHttpDate('Sun Nov  6 08:49:37 1994', now), expected);
  t.is(parseHttpDate('Sunday, 06-Nov-75 08:49:37 GMT', now), Date.UTC(2075, 10, 6, 8, 49, 37));
  t.is(parseHttpDate('Sunday, 06-Nov-76 08:49:37 GMT', now), Date.UTC(1976, 10, 6, 8, 49, 37));
  for (const bad of [
    '',
    '5',
    '2024-01-01',
    'Sun, 06 Nov 1994 08:49:37',
    'Sun, 31 Feb 2024 00:00:00 GMT',
    'Sun, 00 Jan 2024 00:00:00 GMT',
    'Sun, 06 Nov 1994 24:00:00 GMT',
    'Sun, 06 Nov 1994 08:60:37 GMT',
    'Sun, 06 Foo 1994 08:49:37 GMT',
    'Sun, 06 Nov 0094 08:49:37 GMT',
    'Sun, 06 Nov 1994 08:49:37 +0000',
  ]) {
    t.is(parseHttpDate(bad, now), null, bad);
  }
  fc.assert(
    fc.property(fc.date({ min: new Date(0), max: new Date('9999-12-31'), noInvalidDate: true }), (date) => {
      const whole = Math.floor(date.getTime() / 1000) * 1000;
      return parseHttpDate(new Date(whole).toUTCString()) === whole;
    }),
  );
});

test('sizes are read with decimal and binary units', (t) => {
  const cases: [string, number | null][] = [
    ['0', 0],
    ['1048576', 1_048_576],
    ['512MiB', 512 * 2 ** 20],
    ['512 mib', 512 * 2 ** 20],
    ['1.5GiB', 1.5 * 2 ** 30],
    ['2GB', 2e9],
    ['3kb', 3000],
    ['4MB', 4e6],
    ['5KiB', 5120],
    ['7b', 7],
    ['', null],
    ['MiB', null],
    ['-1', null],
    ['1e3', null],
    ['0x10', null],
    ['1.', null],
    ['1TiB', null],
    ['9999999999999999', null],
    ['1 2', null],
  ];
  for (const [text, bytes] of cases) t.is(parseSize(text), bytes, text);
});

test('sizes that are written can be read again, to within their last digit', (t) => {
  fc.assert(
    fc.property(fc.nat(2 ** 40 - 1), (bytes) => {
      const text = formatSize(bytes);
      const read = parseSize(text);
      return read === null ? text.endsWith('TiB') : Math.abs(read - bytes) <= Math.max(bytes * 0.05, 0);
    }),
  );
  t.deepEqual([0, 1023, 1024, 33_418, 1_048_575, 2 ** 20, 200 * 2 ** 26].map(formatSize), [
    '0 B',
    '1023 B',
    '1 KiB',
    '32.6 KiB',
    '1 MiB',
    '1 MiB',
    '12.5 GiB',
  ]);
});
