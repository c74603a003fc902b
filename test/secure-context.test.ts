import { once } from 'node:events';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import { Authority } from './helpers/authority.js';
import { ask } from './helpers/client.js';
import { gate, serve } from './helpers/serve.js';

const authority = new Authority('authority');
const first = authority.server('127.0.0.1', 'first.example');
const second = authority.server('127.0.0.1', 'second.example');
const exact = authority.server('a.example');
const wild = authority.server('*.b.example');

/** Shakes hands; the name in the certificate that the server showed. */
async function shown(port: number, options: ConnectionOptions = {}): Promise<string> {
  const socket = await shakeHands(port, options);
  const { CN } = socket.getPeerCertificate().subject;
  socket.destroy();
  return String(CN);
}

async function shakeHands(port: number, options: ConnectionOptions): Promise<TLSSocket> {
  const trust = { ca: authority.cert, ALPNProtocols: ['h2'], checkServerIdentity: () => undefined };
  const socket = connect({ port, host: '127.0.0.1', ...trust, ...options });
  socket.on('error', () => {});
  await once(socket, 'secureConnect');
  return socket;
}

function open(t: ExecutionContext, url: string): ClientHttp2Session {
  const session = connectHttp2(url, { ca: authority.cert });
  session.on('error', () => {});
  t.teardown(() => session.destroy());
  return session;
}

test('new connections get the new certificate, and no request of an old one is lost', async (t) => {
  const held = gate();
  const { server, url } = await serve(
    t,
    async (request) => {
      if (new URL(request.url).pathname === '/held') await held.promise;
      return { body: 'answered' };
    },
    first,
  );
  const session = open(t, url);
  t.is((await ask(session, '/')).status, 200);
  const pending = ask(session, '/held');
  t.is(await shown(server.port), '127.0.0.1');
  const before = (await shakeHands(server.port, {})).getPeerCertificate().fingerprint256;

  server.setSecureContext(second);
  const after = (await shakeHands(server.port, {})).getPeerCertificate().fingerprint256;
  t.not(after, before);
  t.is((await ask(session, '/')).status, 200);
  held.open();
  t.is((await pending).body.toString(), 'answered');
});

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  test(`a ticket of before the change is good after it: ${version}`, async (t) => {
    const { server, aio } = await serve(t, () => ({ body: '' }), first);
    const versions = { minVersion: version, maxVersion: version };
    const socket = await shakeHands(server.port, versions);
    const session = await new Promise<Buffer>((resolve) => {
      const got = socket.getSession();
      if (version === 'TLSv1.2' && got !== undefined) resolve(got);
      else socket.once('session', resolve);
      socket.resume();
    });
    socket.destroy();
    server.setSecureContext(second);
    const again = await shakeHands(server.port, { ...versions, session });
    t.true(again.isSessionReused());
    again.destroy();
    t.is(aio.stats().connection.accepted, 2);
  });
}

test('what cannot be used changes nothing', async (t) => {
  const { server } = await serve(t, () => ({ body: '' }), first);
  const fingerprint = async (): Promise<string> =>
    (await shakeHands(server.port, {})).getPeerCertificate().fingerprint256;
  const before = await fingerprint();
  t.throws(() => server.setSecureContext({ key: first.key, cert: second.cert }), { code: 'ERR_VALK_AIO_TLS' });
  t.throws(() => server.setSecureContext({ key: 'no key', cert: second.cert }), { code: 'ERR_VALK_AIO_TLS' });
  const contexts = { 'a.example': { key: first.key, cert: exact.cert } };
  t.throws(() => server.setSecureContext({ ...second, contexts }), {
    code: 'ERR_VALK_AIO_TLS',
    message: /a\.example.*does not match/,
  });
  t.throws(() => server.setSecureContext({ key: first.key } as never), { code: 'ERR_VALK_AIO_CONFIG' });
  t.throws(() => server.setSecureContext({ ...second, port: 1 } as never), { code: 'ERR_VALK_AIO_CONFIG' });
  t.is(await fingerprint(), before);
});

test('a server that is closing or closed, or whose system is stopping, has no certificate to change', async (t) => {
  const held = gate();
  const { aio, server, url } = await serve(t, () => held.promise.then(() => ({ body: '' })), first);
  const other = await aio.listen(first, () => ({ body: '' }));
  const pending = ask(open(t, url), '/');
  while (aio.stats().request.active === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const closed = server.close();
  t.throws(() => server.setSecureContext(second), { code: 'ERR_VALK_AIO_STOPPED' });
  held.open();
  await pending;
  await closed;
  t.throws(() => server.setSecureContext(second), { code: 'ERR_VALK_AIO_STOPPED' });
  await aio.stop();
  t.throws(() => other.setSecureContext(second), { code: 'ERR_VALK_AIO_STOPPED' });
});

test('the certificate follows the server name', async (t) => {
  const contexts = { 'A.Example': exact, '*.b.example': wild };
  const { server } = await serve(t, () => ({ body: '' }), { ...first, contexts });
  const by = (servername: string): Promise<string> => shown(server.port, { servername });
  t.is(await by('a.example'), 'a.example');
  t.is(await by('A.EXAMPLE'), 'a.example');
  t.is(await by('x.b.example'), '*.b.example');
  t.is(await by('X.B.example'), '*.b.example');
  t.is(await by('y.x.b.example'), '127.0.0.1', 'a wildcard stands for one label');
  t.is(await by('b.example'), '127.0.0.1');
  t.is(await by('example'), '127.0.0.1');
  t.is(await shown(server.port), '127.0.0.1', 'no name at all');

  server.setSecureContext(second);
  t.is(await by('a.example'), 'a.example', 'kept where it is left out');
  server.setSecureContext({ ...second, contexts: { 'x.b.example': exact, '*.b.example': wild } });
  t.is(await by('a.example'), '127.0.0.1');
  t.is(await by('x.b.example'), 'a.example', 'an exact name goes first');
  t.is(await by('z.b.example'), '*.b.example');
});

test('requests of a named connection see the name', async (t) => {
  const { url } = await serve(t, (_request, { tls }) => ({ body: tls.servername ?? '' }), {
    ...first,
    contexts: { 'a.example': exact },
  });
  const session = connectHttp2(url, { ca: authority.cert, servername: 'a.example' });
  t.teardown(() => session.destroy());
  t.is((await ask(session, '/')).body.toString(), 'a.example');
});

test('names that cannot be asked for are errors', async (t) => {
  const { aio } = await serve(t, () => ({ body: '' }), first);
  for (const name of ['', '*', '*.', 'a b', 'x.*.example', 'https://a.example', 'a..example', '.example']) {
    const bad = aio.listen({ ...first, contexts: { [name]: exact } }, () => ({ body: '' }));
    await t.throwsAsync(bad, { code: 'ERR_VALK_AIO_CONFIG', message: /^contexts / }, name);
  }
  const twice = aio.listen({ ...first, contexts: { 'a.example': exact, 'A.example': exact } }, () => ({ body: '' }));
  await t.throwsAsync(twice, { code: 'ERR_VALK_AIO_CONFIG', message: /twice/ });
  const typo = { 'a.example': { key: exact.key, certs: exact.cert } } as never;
  await t.throwsAsync(
    aio.listen({ ...first, contexts: typo }, () => ({ body: '' })),
    {
      code: 'ERR_VALK_AIO_CONFIG',
      message: /did you mean cert\?/,
    },
  );
});
