import { createHash } from 'node:crypto';
import { connect, type SecureClientSessionOptions } from 'node:http2';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import test, { type ExecutionContext } from 'ava';
import type { Handler, ListenOptions } from 'valk-aio';
import { Authority, type Pair } from './helpers/authority.js';
import { ask, type Outcome, send, until } from './helpers/client.js';
import { gate, serve } from './helpers/serve.js';

const authority = new Authority('authority');
const stranger = new Authority('stranger');
const server = authority.server('127.0.0.1');
const known = authority.client('known');
const unknown = stranger.client('unknown');

const handler: Handler = (_request, { tls }) => {
  const { authorized, authorizationError, peerCertificate } = tls;
  return { body: JSON.stringify({ authorized, authorizationError, certificate: peerCertificate }) };
};

/** Asks once over a connection of its own. */
async function once(t: ExecutionContext, url: string, options: SecureClientSessionOptions = {}): Promise<Outcome> {
  const session = connect(url, { ca: authority.cert, ...options });
  session.on('error', () => {});
  t.teardown(() => session.destroy());
  return ask(session, '/').catch(() => ({ status: 0 }) as Outcome);
}

async function seen(t: ExecutionContext, url: string, pair?: Pair): Promise<Record<string, unknown>> {
  return JSON.parse((await once(t, url, pair)).body.toString());
}

const strict: Partial<ListenOptions> = { ...server, requestCert: true, ca: authority.cert };

test('only clients that the authority vouches for get in', async (t) => {
  let calls = 0;
  const { aio, url } = await serve(
    t,
    (...args) => {
      calls++;
      return handler(...args);
    },
    strict,
  );
  const { authorized, authorizationError, certificate } = (await seen(t, url, known)) as {
    authorized: boolean;
    authorizationError?: string;
    certificate: { subject: string; issuer: string; fingerprint256: string; validTo: string; raw: { data: number[] } };
  };
  t.true(authorized);
  t.is(authorizationError, undefined);
  t.is(certificate.subject, 'CN=known');
  t.is(certificate.issuer, 'CN=authority');
  const digest = createHash('sha256').update(Buffer.from(certificate.raw.data)).digest('hex').toUpperCase();
  t.is(certificate.fingerprint256.replaceAll(':', ''), digest);
  t.true(Date.parse(certificate.validTo) > Date.now());

  t.is((await once(t, url)).status, 0);
  t.is((await once(t, url, unknown)).status, 0);
  t.is((await once(t, url, server)).status, 0, 'a certificate for servers');
  t.is(calls, 1);
  await until('the refused are counted', () => aio.stats().connection.closed.tls === 3);
});

test('with rejectUnauthorized off the handler decides', async (t) => {
  const { url } = await serve(t, handler, { ...strict, rejectUnauthorized: false });
  t.like(await seen(t, url, known), { authorized: true });
  t.like(await seen(t, url, unknown), {
    authorized: false,
    authorizationError: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    certificate: { subject: 'CN=unknown' },
  });
  t.deepEqual(await seen(t, url), { authorized: false, authorizationError: 'UNABLE_TO_GET_ISSUER_CERT' });
});

test('a certificate is forgotten while no request needs it, and found again by the next one', async (t) => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const collected: string[] = [];
  const registry = new FinalizationRegistry<string>((path) => collected.push(path));
  const { url } = await serve(
    t,
    (request, connection) => {
      registry.register(connection, new URL(request.url).pathname);
      return { body: connection.tls.peerCertificate?.subject ?? 'none' };
    },
    { ...strict, rejectUnauthorized: false },
  );
  const session = connect(url, { ca: authority.cert, ...known });
  t.teardown(() => session.destroy());
  for (const path of ['/one', '/two']) {
    t.is((await ask(session, path)).body.toString(), 'CN=known');
    // Its connection goes on: JavaScript could not tell that from one that has ended.
    await until(`${path} is forgotten`, () => {
      collect();
      return collected.includes(path);
    });
  }
});

test('a handler that outlives its connection still has the certificate, also to read it first then', async (t) => {
  const { promise: released, open: release } = gate();
  const seen: string[] = [];
  let called = 0;
  const { aio, url } = await serve(
    t,
    async (request, connection) => {
      called++;
      const early = new URL(request.url).pathname === '/early' ? connection.tls.peerCertificate : undefined;
      await released;
      const late = connection.tls.peerCertificate;
      if (early !== undefined) t.is(late, early);
      seen.push(`${late?.subject} ${connection.tls.authorized} ${connection.remoteAddress}`);
      return {};
    },
    strict,
  );
  const session = connect(url, { ca: authority.cert, ...known });
  session.on('error', () => {});
  const paths = ['/early', '/late', '/late'];
  for (const path of paths) send(session, path).on('error', () => {});
  await until('the handlers run', () => called === paths.length);
  session.destroy();
  await until('the connection has ended', () => aio.stats().connection.active === 0);
  const next = once(t, url, known);
  await until('the next connection has taken its place', () => called === paths.length + 1);
  release();
  t.is((await next).status, 200);
  await until('the handlers have ended', () => seen.length === paths.length + 1);
  t.deepEqual(new Set(seen), new Set(['CN=known true 127.0.0.1']));
});

test('without requestCert nobody is asked', async (t) => {
  const { url } = await serve(t, handler, server);
  t.deepEqual(await seen(t, url, known), { authorized: false });
});

test('the same holds under a server name of its own', async (t) => {
  const { url } = await serve(t, handler, { ...strict, contexts: { 'a.example': authority.server('a.example') } });
  const named = { servername: 'a.example' };
  t.is((await once(t, url, { ...named, ...known })).status, 200);
  t.is((await once(t, url, named)).status, 0);
  t.is((await once(t, url, { ...named, ...unknown })).status, 0);
});

test('ca may be several, and changes with setSecureContext', async (t) => {
  const { server: running, url } = await serve(t, handler, { ...strict, ca: [stranger.cert, authority.cert] });
  t.is((await once(t, url, known)).status, 200);
  t.is((await once(t, url, unknown)).status, 200);
  running.setSecureContext({ ...server, ca: stranger.cert });
  t.is((await once(t, url, known)).status, 0);
  t.is((await once(t, url, unknown)).status, 200);
  running.setSecureContext(server);
  t.is((await once(t, url, known)).status, 0, 'ca stays where it is left out');
});

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  test(`a resumed session keeps its certificate, and is not resumed under another ca: ${version}`, async (t) => {
    const { server: running, url, aio } = await serve(t, handler, strict);
    const versions = { minVersion: version, maxVersion: version };
    let ticket: Buffer | undefined;
    const session = connect(url, { ca: authority.cert, ...known, ...versions });
    session.on('error', () => {});
    session.socket.on('session', (value: Buffer) => {
      ticket = value;
    });
    t.teardown(() => session.destroy());
    t.is((await ask(session, '/')).status, 200);
    await until('a ticket', () => ticket !== undefined);
    const resume = { ...versions, session: ticket as Buffer };
    t.like(JSON.parse((await once(t, url, resume)).body.toString()), {
      authorized: true,
      certificate: { subject: 'CN=known' },
    });
    t.is(aio.stats().connection.resumed, 1);
    running.setSecureContext({ ...server, ca: stranger.cert });
    t.is((await once(t, url, resume)).status, 0, 'it has to prove itself anew');
  });
}

test('a health listener of its own asks nobody, and its sessions open no other door', async (t) => {
  const { server: running, url } = await serve(t, handler, { ...strict, health: { port: 0 } });
  const health = connect(`https://127.0.0.1:${running.healthPort}`, { ca: authority.cert });
  health.on('error', () => {});
  t.teardown(() => health.destroy());
  let ticket: Buffer | undefined;
  health.socket.on('session', (value: Buffer) => {
    ticket = value;
  });
  t.is((await ask(health, '/readyz')).status, 200);
  await until('a ticket', () => ticket !== undefined);
  t.is((await once(t, url, { session: ticket as Buffer })).status, 0);
});

test('options that let nobody in, or do nothing, are errors', async (t) => {
  const { aio, server: running } = await serve(t, handler, server);
  const refused = (options: Partial<ListenOptions>, message: RegExp): Promise<unknown> =>
    t.throwsAsync(aio.listen({ ...server, ...options }, handler), { code: 'ERR_VALK_AIO_CONFIG', message });
  await refused({ requestCert: true }, /^ca is required/);
  await refused({ ca: authority.cert }, /^ca has no effect/);
  await refused({ requestCert: 1 as never }, /^requestCert must be true or false/);
  await refused({ rejectUnauthorized: 'no' as never }, /^rejectUnauthorized must be true or false/);
  await refused({ requestCert: true, ca: 7 as never }, /^ca must be/);
  await refused({ requestCert: true, ca: [] }, /^ca must hold at least one certificate/);
  t.throws(() => running.setSecureContext({ ...server, requestCert: true } as never), {
    message: /requestCert is an option of listen\(\)/,
  });
  const bad = aio.listen({ ...server, requestCert: true, ca: 'nothing' }, handler);
  await t.throwsAsync(bad, { code: 'ERR_VALK_AIO_TLS', message: /Ca holds no certificate/ });
});
