import { connect as connectTcp, type Socket } from 'node:net';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { END_HEADERS, END_STREAM, encode, FRAME, SETTING } from '../helpers/raw-client.js';

/** What an attacker has seen, added up over its connections. */
export interface Report {
  /** Connections that got as far as the attack wanted, and those that did not. */
  opened: number;
  failed: number;
  /** Connections that the server ended. */
  ended: number;
  /** Frames, records or pieces that were sent. */
  sent: number;
  /** By code, RFC 9113, section 7. */
  readonly goaways: Record<number, number>;
  readonly resets: Record<number, number>;
  /** By status. */
  readonly statuses: Record<number, number>;
  /** Bytes of DATA. */
  received: number;
}

export function newReport(): Report {
  return { opened: 0, failed: 0, ended: 0, sent: 0, goaways: {}, resets: {}, statuses: {}, received: 0 };
}

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

export function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.alloc(9 + payload.length);
  bytes.writeUIntBE(payload.length, 0, 3);
  bytes[3] = type;
  bytes[4] = flags;
  bytes.writeUInt32BE(stream, 5);
  bytes.set(payload, 9);
  return bytes;
}

export function settings(...entries: readonly (readonly [number, number])[]): Buffer {
  const payload = Buffer.alloc(entries.length * 6);
  entries.forEach(([id, value], at) => {
    payload.writeUInt16BE(id, at * 6);
    payload.writeUInt32BE(value, at * 6 + 2);
  });
  return frame(FRAME.settings, 0, 0, payload);
}

/** A request's header block. */
export function block(path: string, method = 'GET', fields: Record<string, string> = {}): Buffer {
  return encode({ ':method': method, ':scheme': 'https', ':authority': 'x', ':path': path, ...fields });
}

export function headers(stream: number, fields: Uint8Array, end = true): Buffer {
  return frame(FRAME.headers, END_HEADERS | (end ? END_STREAM : 0), stream, fields);
}

export function reset(stream: number, code = 8): Buffer {
  return frame(FRAME.reset, 0, stream, word(code));
}

export function openWindow(stream: number, bytes: number): Buffer {
  return frame(FRAME.windowUpdate, 0, stream, word(bytes));
}

export interface PeerOptions {
  /** Our settings; the dynamic table is always off, so that a status lies in plain sight. */
  readonly settings?: readonly (readonly [number, number])[];
  /** What the connection's window is opened to. */
  readonly window?: number;
  readonly tls?: ConnectionOptions;
  /** Whether the server's settings are acknowledged. Default: true. */
  readonly acknowledges?: boolean;
}

/** The side of an attacker on one connection: bytes by hand over TLS, and a count of what comes back. */
export class Peer {
  closed = false;
  /** The server's settings have come. */
  greeted = false;
  goaway = false;
  /** Streams that were begun, and those that the server has reset. */
  streams = 0;
  resets = 0;
  /** Heads of answers that have come. */
  answers = 0;
  /** Bodies of answers, one after another, where they are wanted. */
  keepsBodies = false;
  bodies = '';
  readonly #report: Report;
  #input: Buffer = Buffer.alloc(0);
  #wake: (() => void)[] = [];

  private constructor(
    readonly tcp: Socket,
    readonly socket: TLSSocket,
    report: Report,
  ) {
    this.#report = report;
    const wake = (): void => {
      for (const resume of this.#wake.splice(0)) resume();
    };
    const gone = (): void => {
      if (!this.closed && !this.#left) report.ended++;
      this.closed = true;
      wake();
    };
    for (const part of [tcp, socket]) part.on('error', () => {}).on('close', gone);
    socket.on('end', gone);
    socket.on('drain', wake);
    socket.on('data', (bytes: Buffer) => {
      this.#read(bytes);
      wake();
    });
  }

  #left = false;

  /** Connects, shakes hands and greets; `undefined` when the server ends it before. */
  static async open(port: number, report: Report, options: PeerOptions = {}): Promise<Peer | undefined> {
    const peer = await Peer.handshake(port, report, options.tls);
    if (peer === undefined) return undefined;
    const greeting = [PREFACE, settings([SETTING.headerTableSize, 0], ...(options.settings ?? []))];
    if (options.window !== undefined) greeting.push(openWindow(0, options.window));
    peer.socket.write(Buffer.concat(greeting));
    await peer.when(() => peer.greeted);
    if (peer.closed) return undefined;
    if (options.acknowledges !== false) peer.socket.write(frame(FRAME.settings, 1, 0));
    return peer;
  }

  /** Connects and does the TLS handshake alone. */
  static async handshake(port: number, report: Report, options: ConnectionOptions = {}): Promise<Peer | undefined> {
    const tcp = connectTcp({ port, host: '127.0.0.1', noDelay: true });
    const socket = connect({ socket: tcp, ALPNProtocols: ['h2'], rejectUnauthorized: false, ...options });
    const peer = new Peer(tcp, socket, report);
    let isSecure = false;
    socket.once('secureConnect', () => {
      isSecure = true;
      for (const resume of peer.#wake.splice(0)) resume();
    });
    await peer.when(() => isSecure);
    if (peer.closed) report.failed++;
    else report.opened++;
    return peer.closed ? undefined : peer;
  }

  /** Waits until |condition| holds or the connection is gone. */
  async when(condition: () => boolean): Promise<void> {
    while (!this.closed && !condition()) {
      await new Promise<void>((resolve) => this.#wake.push(resolve));
    }
  }

  /** Sends; resolves when the socket has room for more, or is gone. */
  async send(bytes: Uint8Array): Promise<void> {
    if (this.closed) return;
    if (this.socket.write(bytes)) {
      // A turn of the loop: what comes back has to be read, the end among it.
      await new Promise((resolve) => setImmediate(resolve));
      return;
    }
    await this.when(() => !this.socket.writableNeedDrain);
  }

  /** The id of a new stream. */
  stream(): number {
    return 2 * this.streams++ + 1;
  }

  /** Leaves without a word: FIN, or RST. */
  leave(how: 'fin' | 'rst' = 'fin'): void {
    this.#left = true;
    if (how === 'rst') this.tcp.resetAndDestroy();
    else this.tcp.destroy();
    this.socket.destroy();
  }

  #read(bytes: Buffer): void {
    this.#input = this.#input.length === 0 ? bytes : Buffer.concat([this.#input, bytes]);
    let at = 0;
    for (; this.#input.length - at >= 9; ) {
      const length = this.#input.readUIntBE(at, 3);
      if (this.#input.length - at < 9 + length) break;
      this.#take(this.#input[at + 3] as number, this.#input.subarray(at + 9, at + 9 + length));
      at += 9 + length;
    }
    this.#input = this.#input.subarray(at);
  }

  #take(type: number, payload: Buffer): void {
    const report = this.#report;
    const count = (counts: Record<number, number>, key: number): void => {
      counts[key] = (counts[key] ?? 0) + 1;
    };
    if (type === FRAME.settings) this.greeted = true;
    else if (type === FRAME.data) {
      report.received += payload.length;
      if (this.keepsBodies) this.bodies += payload.toString('latin1');
    } else if (type === FRAME.reset) {
      this.resets++;
      count(report.resets, payload.readUInt32BE(0));
    } else if (type === FRAME.headers) {
      this.answers++;
      count(report.statuses, statusOf(payload));
    } else if (type === FRAME.goaway) {
      this.goaway = true;
      count(report.goaways, payload.readUInt32BE(4));
    }
  }
}

/** `:status`, which comes first: one of the static table's (RFC 7541, appendix A), or three digits. */
function statusOf(fields: Buffer): number {
  let at = 0;
  while (((fields[at] as number) & 0xe0) === 0x20) at++;
  const first = fields[at] as number;
  if ((first & 0x80) !== 0) return [200, 204, 206, 304, 400, 404, 500][(first & 0x7f) - 8] ?? -1;
  return Number(fields.toString('latin1', at + 2, at + 5));
}
