import { X509Certificate } from 'node:crypto';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import test from 'ava';
import { DevCertificateError, devCertificate, devCertificateDirectory } from '../lib/dev-certificate.js';

const DAY_MS = 86_400_000;
const BASE = mkdtempSync(join(tmpdir(), 'valk-aio-certificate-'));
test.after.always(() => rmSync(BASE, { recursive: true, force: true }));

test('it is made once, for localhost and its addresses, and kept for its owner only', async (t) => {
  const directory = join(BASE, 'made', 'deeper');
  const made = await devCertificate({ directory });
  t.true(made.created);
  t.is(made.path, join(directory, 'development.pem'));
  t.is(statSync(made.path).mode & 0o777, 0o600);
  t.is(statSync(directory).mode & 0o777, 0o700);
  t.deepEqual(readdirSync(directory), ['development.pem']);
  t.is(readFileSync(made.path, 'latin1'), made.key + made.cert);

  const certificate = new X509Certificate(made.cert);
  t.is(certificate.checkHost('localhost'), 'localhost');
  t.is(certificate.checkIP('127.0.0.1'), '127.0.0.1');
  t.is(certificate.checkIP('::1'), '::1');
  t.is(certificate.checkHost('example.org'), undefined);
  t.false(certificate.ca);
  t.is(certificate.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1');
  const days = (made.validUntil.getTime() - Date.now()) / DAY_MS;
  t.true(days > 364 && days <= 365);

  const kept = await devCertificate({ directory });
  t.deepEqual(kept, { ...made, created: false });
});

test('a TLS server takes it', async (t) => {
  const { key, cert } = await devCertificate({ directory: join(BASE, 'tls') });
  t.notThrows(() => createServer({ key, cert }).close());
});

test('it is renewed when it ends within thirty days, and not before', async (t) => {
  const directory = join(BASE, 'renewed');
  const made = await devCertificate({ directory });
  const end = made.validUntil.getTime();
  t.false((await devCertificate({ directory, nowMs: end - 31 * DAY_MS })).created);
  const renewed = await devCertificate({ directory, nowMs: end - 29 * DAY_MS });
  t.true(renewed.created);
  t.not(renewed.cert, made.cert);
  t.is((await devCertificate({ directory })).cert, renewed.cert);
});

test('a file that is broken, mixed or readable by others is replaced', async (t) => {
  const directory = join(BASE, 'broken');
  const other = await devCertificate({ directory: join(BASE, 'other') });
  const { path, key, cert } = await devCertificate({ directory });
  const contents = ['', 'nonsense', key, cert, key + other.cert, `${key}${cert.slice(0, 60)}AAAA${cert.slice(64)}`];
  for (const content of contents) {
    writeFileSync(path, content);
    t.true((await devCertificate({ directory })).created, content.slice(0, 80));
    t.is(statSync(path).mode & 0o777, 0o600);
    t.false((await devCertificate({ directory })).created);
  }
  chmodSync(path, 0o640);
  t.true((await devCertificate({ directory })).created);
});

test('several at once agree with themselves, and what is kept is whole', async (t) => {
  const directory = join(BASE, 'at-once');
  const made = await Promise.all([1, 2, 3].map(async () => devCertificate({ directory })));
  for (const { key, cert } of made) t.notThrows(() => createServer({ key, cert }).close());
  const kept = await devCertificate({ directory });
  t.false(kept.created);
  t.true(made.some(({ cert }) => cert === kept.cert));
  t.deepEqual(readdirSync(directory), ['development.pem']);
});

test('where it is kept', (t) => {
  t.is(devCertificateDirectory({ XDG_DATA_HOME: '/data' }), '/data/valk-aio');
  const fallback = join(homedir(), '.local/share/valk-aio');
  for (const value of ['', 'relative']) t.is(devCertificateDirectory({ XDG_DATA_HOME: value }), fallback);
  t.is(devCertificateDirectory({}), fallback);
});

test('a place that cannot be written is a clear error', async (t) => {
  writeFileSync(join(BASE, 'file'), '');
  const error = await t.throwsAsync(async () => devCertificate({ directory: join(BASE, 'file') }), {
    instanceOf: DevCertificateError,
    code: 'ERR_VALK_AIO_DEV_CERTIFICATE',
  });
  t.regex(error?.message ?? '', /cannot be kept in .*file.*ENOTDIR/);
});

// The last one: it changes the environment of this process.
test.serial('without openssl there is a clear error, and nothing is left behind', async (t) => {
  const directory = join(BASE, 'missing');
  const path = process.env.PATH;
  process.env.PATH = BASE;
  try {
    const error = await t.throwsAsync(async () => devCertificate({ directory }), {
      code: 'ERR_VALK_AIO_DEV_CERTIFICATE',
    });
    t.regex(error?.message ?? '', /openssl command.* is not installed/);
    t.deepEqual(readdirSync(directory), []);
  } finally {
    process.env.PATH = path;
  }
});
