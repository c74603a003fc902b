// Writes the seeds of the fuzzers, native/fuzz/corpus: `node scripts/fuzz-corpus.mjs`. The one of a TLS handshake is
// what OpenSSL says first, and so a new one each time.
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import { root } from './support.mjs';

function write(target, seeds) {
  const folder = path.join(root, 'native/fuzz/corpus', target);
  fs.mkdirSync(folder, { recursive: true });
  for (const [name, bytes] of Object.entries(seeds)) fs.writeFileSync(path.join(folder, name), bytes);
}

// ---- records of TLS 1.3: step, room, then of each its kind, its type or byte, its length ----

const sealed = (kind, type, length) => Buffer.from([kind, type, length >> 8, length & 255]);
write('record', {
  whole: Buffer.concat([Buffer.from([0, 0]), sealed(0, 23, 5), sealed(0, 23, 16384), sealed(0, 22, 5)]),
  padded: Buffer.concat([Buffer.from([7, 0]), sealed(1, 23, 100), sealed(1, 23, 1)]),
  pieces: Buffer.concat([Buffer.from([200, 9]), sealed(0, 23, 300), sealed(0, 23, 0), sealed(1, 21, 40)]),
  spoilt: Buffer.concat([Buffer.from([0, 0]), sealed(0, 23, 5), sealed(2, 23, 5)]),
  none: Buffer.concat([Buffer.from([1, 0]), sealed(0, 23, 5), sealed(3, 3, 0), sealed(3, 65, 1)]),
});

// ---- a connection of TLS 1.3: suite, step, then what is done, with what, how long ----

write('traffic', {
  data: Buffer.concat([Buffer.from([0, 0]), sealed(0, 0, 5), sealed(4, 0, 16383), sealed(0, 0, 16383)]),
  updates: Buffer.concat([Buffer.from([1, 9]), sealed(1, 1, 0), sealed(4, 0, 9), sealed(1, 0, 0), sealed(0, 0, 700)]),
  // user_canceled, then an error.
  alerts: Buffer.concat([Buffer.from([2, 0]), sealed(14, 1, 346), sealed(4, 0, 9), sealed(14, 1, 552)]),
  parts: Buffer.concat([Buffer.from([0, 3]), sealed(3, 5, 1024), sealed(3, 1, 256), sealed(0, 0, 1)]),
  close: Buffer.concat([Buffer.from([200, 0]), sealed(4, 0, 2000), sealed(5, 0, 0), sealed(0, 0, 10), sealed(5, 1, 3)]),
});

// ---- HTTP/2 (RFC 9113): mode, step, frames ----

const frame = (type, flags, stream, payload = Buffer.alloc(0)) => {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
};
const word = (value) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
/** A field without compression (RFC 7541, section 6.2.2). */
const field = (name, value) =>
  Buffer.concat([Buffer.from([0, name.length]), Buffer.from(name), Buffer.from([value.length]), Buffer.from(value)]);
const head = (method, ...more) =>
  Buffer.concat([
    field(':method', method),
    field(':scheme', 'https'),
    field(':authority', 'example.com'),
    field(':path', '/a?b'),
    ...more.map(([name, value]) => field(name, value)),
  ]);
const END_STREAM = 1;
const END_HEADERS = 4;
const get = (stream) => frame(1, END_STREAM | END_HEADERS, stream, head('GET', ['cookie', 'a=1'], ['cookie', 'b=2']));
const post = (stream) => [
  frame(1, END_HEADERS, stream, head('POST', ['content-length', '3'])),
  frame(0, 0, stream, Buffer.from('abc')),
  frame(1, END_STREAM | END_HEADERS, stream, field('x-trailer', '1')),
];
const session = (mode, step, ...frames) => Buffer.concat([Buffer.from([mode, step]), ...frames.flat()]);
write('h2', {
  get: session(0, 0, get(1), get(3)),
  post: session(4, 7, post(1), post(3)),
  indexed: session(2, 0, frame(1, 5, 1, Buffer.from([0x82, 0x87, 0x84, 0x41, 1, 0x61]))),
  continuation: session(0, 0, frame(1, END_STREAM, 1, head('GET')), frame(9, END_HEADERS, 1, field('x', 'y'))),
  reset: session(64, 0, get(1), frame(3, 0, 1, word(8)), get(3), frame(3, 0, 3, word(0))),
  windows: session(8, 0, frame(4, 0, 0, Buffer.from([0, 4, 0, 0, 0, 1])), get(1), frame(8, 0, 1, word(500))),
  control: session(1, 1, frame(6, 0, 0, Buffer.alloc(8)), frame(4, 1, 0), frame(7, 0, 0, Buffer.alloc(8))),
  priority: session(
    3,
    0,
    frame(2, 0, 1, Buffer.alloc(5)),
    frame(16, 0, 0, Buffer.from([0, 0, 0, 1, 0x75, 0x3d, 0x31])),
    get(1),
  ),
  padded: session(32, 0, frame(1, 4, 1, head('PUT')), frame(0, 9, 1, Buffer.from([2, 0x61, 0, 0]))),
  preface: session(0, 0, Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0), get(1)),
});

// ---- records (native/binding/bridge.h): kind | flags << 8 | status << 16, index, generation, lengths ----

const record = (kind, index, text = '', body = '', { flags = 0, status = 0 } = {}) => {
  const words = [kind | (flags << 8) | (status << 16), index, 1, text.length, body.length, -1, -1];
  const bytes = Buffer.concat([Buffer.from(Int32Array.from(words).buffer), Buffer.from(text + body)]);
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
};
write('bridge', {
  respond: record(1, 0, 'date\nx\n', 'hello', { flags: 1, status: 200 }),
  write: Buffer.concat([record(1, 1, 'a\nb\n', '', { status: 200 }), record(2, 1, '', 'abc'), record(3, 1, 't\n1\n')]),
  others: Buffer.concat([record(4, 2), record(5, 3), record(6, 0), record(5, 99)]),
});

// ---- authorities and paths ----

write('head', {
  host: 'example.com:443',
  ipv6: '[2001:db8::1]:65535',
  path: '/a/b%20c?d=e&f',
  star: '*',
});

// ---- TLS: steps, and what a client says first ----

const hello = (options) =>
  new Promise((resolve) => {
    const server = net.createServer((socket) => {
      socket.once('data', (bytes) => {
        resolve(bytes);
        socket.destroy();
        server.close();
      });
    });
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      tls.connect({ port, host: '127.0.0.1', servername: 'localhost', ...options }).on('error', () => {});
    });
  });
const withSteps = (bytes) => Buffer.concat([Buffer.from([0, 0]), bytes]);
write('tls', {
  tls13: withSteps(await hello({ ALPNProtocols: ['h2'], minVersion: 'TLSv1.3' })),
  tls12: withSteps(await hello({ ALPNProtocols: ['h2'], maxVersion: 'TLSv1.2' })),
  http1: withSteps(await hello({ ALPNProtocols: ['http/1.1'] })),
  plain: withSteps(Buffer.from('GET / HTTP/1.1\r\nhost: a\r\n\r\n')),
});
