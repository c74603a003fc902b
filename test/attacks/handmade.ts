import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect, type TLSSocket } from 'node:tls';
import { Writer12, Writer13 } from './records.js';

/** A TCP connection that a TLS client speaks on, until it is asked to be quiet. */
class Tap extends Duplex {
  received: Buffer = Buffer.alloc(0);
  isQuiet = false;

  constructor(readonly tcp: Socket) {
    super();
    tcp.on('data', (bytes: Buffer) => {
      if (this.isQuiet) return;
      if (this.received.length < 256) this.received = Buffer.concat([this.received, bytes]);
      this.push(bytes);
    });
    tcp.on('close', () => this.destroy());
    tcp.on('error', () => {});
    this.on('error', () => {});
  }

  override _read(): void {}

  override _write(bytes: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    if (this.isQuiet) done();
    else this.tcp.write(bytes, () => done());
  }

  override _destroy(_error: Error | null, done: (error?: Error | null) => void): void {
    if (!this.isQuiet) this.tcp.destroy();
    done(null);
  }
}

/** A connection after its handshake, with all that is needed to go on by hand. */
export interface Handmade<Writer> {
  readonly tcp: Socket;
  readonly writer: Writer;
}

async function shake(port: number, version: 'TLSv1.2' | 'TLSv1.3'): Promise<{ tap: Tap; keys: string[][] }> {
  const tap = new Tap(connectTcp({ port, host: '127.0.0.1', noDelay: true }));
  const socket: TLSSocket = connect({
    socket: tap,
    ALPNProtocols: ['h2'],
    rejectUnauthorized: false,
    minVersion: version,
    maxVersion: version,
    ciphers: 'TLS_AES_128_GCM_SHA256:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256',
  });
  socket.on('error', () => {});
  const keys: string[][] = [];
  socket.on('keylog', (line: Buffer) => keys.push(line.toString().trim().split(' ')));
  await once(socket, 'secureConnect');
  tap.isQuiet = true;
  return { tap, keys };
}

const secretOf = (keys: string[][], label: string): readonly [Buffer, Buffer] => {
  const [, random = '', secret = ''] = keys.find(([name]) => name === label) ?? [];
  return [Buffer.from(random, 'hex'), Buffer.from(secret, 'hex')];
};

export async function handmade13(port: number): Promise<Handmade<Writer13>> {
  const { tap, keys } = await shake(port, 'TLSv1.3');
  return { tcp: tap.tcp, writer: new Writer13(secretOf(keys, 'CLIENT_TRAFFIC_SECRET_0')[1]) };
}

export async function handmade12(port: number): Promise<Handmade<Writer12>> {
  const { tap, keys } = await shake(port, 'TLSv1.2');
  const [clientRandom, master] = secretOf(keys, 'CLIENT_RANDOM');
  // The first record holds the ServerHello: headers of 5 and 4 bytes, the version, the random.
  return { tcp: tap.tcp, writer: new Writer12(master, clientRandom, tap.received.subarray(11, 43)) };
}

/** A ClientHello as bytes. */
export async function clientHello(): Promise<Buffer> {
  const silent = new Duplex({ read() {}, write: (bytes: Buffer, _encoding, done) => hello(bytes, done) });
  let take: (bytes: Buffer) => void = () => {};
  const hello = (bytes: Buffer, done: () => void): void => {
    take(bytes);
    done();
  };
  const bytes = new Promise<Buffer>((resolve) => {
    take = resolve;
  });
  const socket = connect({ socket: silent, ALPNProtocols: ['h2'], rejectUnauthorized: false, servername: 'localhost' });
  socket.on('error', () => {});
  const first = await bytes;
  socket.destroy();
  return first;
}
