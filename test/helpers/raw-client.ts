import { once } from 'node:events';
import { connect, type TLSSocket } from 'node:tls';
import type { ExecutionContext } from 'ava';
import { cert } from './certificate.js';
import { until } from './client.js';

/** Frame types, RFC 9113, section 6. */
export const FRAME = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

/** Settings, RFC 9113, section 6.5.2. */
export const SETTING = { headerTableSize: 1, maxConcurrentStreams: 3, initialWindowSize: 4, maxHeaderListSize: 6 };

export const END_STREAM = 1;
export const END_HEADERS = 4;
const ACK = 1;

/** A stream as the server has answered it so far. */
export interface RawStream {
  status: number;
  /** Bytes of the answer's body. */
  received: number;
  ended: boolean;
  resetCode: number | undefined;
  /** What we may send: the server's initial window, and what it has opened since. */
  window: number;
}

/** An HTTP/2 client that does as it is told, however badly: frames by hand over TLS. Its connection's window is wide from the start; no other is
 * opened by itself. */
export class RawClient {
  readonly streams = new Map<number, RawStream>();
  /** The server's settings, once they have come. */
  readonly settings = new Map<number, number>();
  /** PING frames that were acknowledged. */
  pings = 0;
  /** The code of the last GOAWAY. */
  goaway: number | undefined;
  /** The last stream that it names: what lies above was not processed. */
  lastStream = Number.POSITIVE_INFINITY;
  /** What we may send on the connection. */
  window = 65_535;
  closed = false;
  #input: Buffer = Buffer.alloc(0);
  #nextId = 1;

  private constructor(readonly socket: TLSSocket) {
    socket.on('error', () => {});
    socket.on('close', () => {
      this.closed = true;
    });
    socket.on('data', (bytes: Buffer) => this.#read(bytes));
  }

  /** Connects and sends the preface with |settings|. */
  static async open(t: ExecutionContext, port: number, settings: [number, number][] = []): Promise<RawClient> {
    const client = await RawClient.handshake(t, port);
    client.socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    // Without a dynamic table an answer's status lies in plain sight.
    client.sendSettings([[SETTING.headerTableSize, 0], ...settings]);
    client.openWindow(0, 2 ** 30);
    await until('SETTINGS', () => client.settings.size > 0 || client.closed);
    if (client.settings.size === 0) throw new Error('closed before its SETTINGS');
    return client;
  }

  /** Connects and does the TLS handshake alone. */
  static async handshake(t: ExecutionContext, port: number): Promise<RawClient> {
    const socket = connect({ port, host: '127.0.0.1', ALPNProtocols: ['h2'], ca: cert });
    const client = new RawClient(socket);
    t.teardown(() => socket.destroy());
    await once(socket, 'secureConnect');
    return client;
  }

  frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): void {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head[3] = type;
    head[4] = flags;
    head.writeUInt32BE(stream, 5);
    this.socket.write(Buffer.concat([head, payload]));
  }

  sendSettings(settings: [number, number][]): void {
    const payload = Buffer.alloc(settings.length * 6);
    settings.forEach(([id, value], at) => {
      payload.writeUInt16BE(id, at * 6);
      payload.writeUInt32BE(value, at * 6 + 2);
    });
    this.frame(FRAME.settings, 0, 0, payload);
  }

  /** Sends a request's head; the id of its stream. */
  request(path: string, fields: Record<string, string> = {}, end = true): number {
    const id = this.newStream();
    const method = end ? 'GET' : 'POST';
    const block = encode({ ':method': method, ':scheme': 'https', ':authority': 'x', ':path': path, ...fields });
    this.frame(FRAME.headers, END_HEADERS | (end ? END_STREAM : 0), id, block);
    return id;
  }

  /** A stream for a head that the caller sends. */
  newStream(): number {
    const id = this.#nextId;
    this.#nextId += 2;
    const window = this.settings.get(SETTING.initialWindowSize) ?? 65_535;
    this.streams.set(id, { status: 0, received: 0, ended: false, resetCode: undefined, window });
    return id;
  }

  stream(id: number): RawStream {
    return this.streams.get(id) as RawStream;
  }

  data(id: number, bytes: Uint8Array, end = false): void {
    for (let at = 0; at < bytes.length || (at === 0 && end); at += 16_384) {
      const piece = bytes.subarray(at, at + 16_384);
      this.frame(FRAME.data, end && at + 16_384 >= bytes.length ? END_STREAM : 0, id, piece);
    }
    this.stream(id).window -= bytes.length;
    this.window -= bytes.length;
  }

  reset(id: number, code = 8): void {
    this.frame(FRAME.reset, 0, id, word(code));
  }

  ping(): void {
    this.frame(FRAME.ping, 0, 0, Buffer.alloc(8));
  }

  openWindow(id: number, bytes: number): void {
    this.frame(FRAME.windowUpdate, 0, id, word(bytes));
  }

  /** Waits for a stream's end, and gives it. */
  async end(id: number): Promise<RawStream> {
    const stream = this.stream(id);
    await until(`the end of stream ${id}`, () => stream.ended || stream.resetCode !== undefined || this.closed);
    return stream;
  }

  #read(bytes: Buffer): void {
    this.#input = this.#input.length === 0 ? bytes : Buffer.concat([this.#input, bytes]);
    while (this.#input.length >= 9) {
      const length = this.#input.readUIntBE(0, 3);
      if (this.#input.length < 9 + length) return;
      const [, , , type, flags] = this.#input as unknown as [number, number, number, number, number];
      this.#take(type, flags, this.#input.readUInt32BE(5), this.#input.subarray(9, 9 + length));
      this.#input = this.#input.subarray(9 + length);
    }
  }

  #take(type: number, flags: number, id: number, payload: Buffer): void {
    const stream = this.streams.get(id);
    switch (type) {
      case FRAME.settings:
        if ((flags & ACK) !== 0) return;
        for (let at = 0; at < payload.length; at += 6) {
          this.settings.set(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
        }
        this.frame(FRAME.settings, ACK, 0);
        return;
      case FRAME.ping:
        if ((flags & ACK) !== 0) this.pings++;
        else this.frame(FRAME.ping, ACK, 0, payload);
        return;
      case FRAME.goaway:
        this.goaway = payload.readUInt32BE(4);
        this.lastStream = payload.readUInt32BE(0);
        return;
      case FRAME.windowUpdate:
        if (id === 0) this.window += payload.readUInt32BE(0);
        else if (stream !== undefined) stream.window += payload.readUInt32BE(0);
        return;
      default:
    }
    if (stream === undefined) return;
    if (type === FRAME.headers && stream.status === 0) stream.status = decodeStatus(payload);
    if (type === FRAME.data) stream.received += payload.length;
    if (type === FRAME.reset) stream.resetCode ??= payload.readUInt32BE(0);
    if ((type === FRAME.headers || type === FRAME.data) && (flags & END_STREAM) !== 0) stream.ended = true;
  }
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** Literal fields without indexing, without Huffman's code (RFC 7541, section 6.2.2). */
export function encode(fields: Record<string, string>): Buffer {
  const text = (value: string): Buffer[] => [integer(value.length, 127), Buffer.from(value, 'latin1')];
  return Buffer.concat(
    Object.entries(fields).flatMap(([name, value]) => [Buffer.of(0), ...text(name), ...text(value)]),
  );
}

/** RFC 7541, section 5.1, for a prefix whose other bits are 0. */
function integer(value: number, most: number): Buffer {
  if (value < most) return Buffer.of(value);
  const bytes = [most];
  for (let rest = value - most; ; rest >>= 7) {
    bytes.push(rest < 128 ? rest : (rest & 127) | 128);
    if (rest < 128) return Buffer.from(bytes);
  }
}

/** `:status` comes first: as one of the static table's, or as its name with three digits (which Huffman's code does not shorten). */
function decodeStatus(block: Buffer): number {
  let at = 0;
  while (((block[at] as number) & 0xe0) === 0x20) at++;
  const first = block[at] as number;
  const indexed = [200, 204, 206, 304, 400, 404, 500][(first & 0x7f) - 8];
  if ((first & 0x80) !== 0) return indexed ?? -1;
  return Number(block.toString('latin1', at + 2, at + 5));
}
