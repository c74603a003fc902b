import { createCipheriv, createHmac } from 'node:crypto';

// Records that a hostile client may send and no TLS library does: made by hand with the secrets that a client knows.

const HANDSHAKE = 22;
const APPLICATION_DATA = 23;

/** AES-128-GCM: the sealed bytes and their tag. */
function seal(key: Buffer, nonce: Buffer, head: Buffer, plain: Buffer): Buffer {
  const cipher = createCipheriv('aes-128-gcm', key, nonce);
  cipher.setAAD(head);
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

/** What a client sends on TLS 1.3, RFC 8446, sections 5.2 and 7.3, with TLS_AES_128_GCM_SHA256. */
export class Writer13 {
  #secret: Buffer;
  #key: Buffer = Buffer.alloc(0);
  #iv: Buffer = Buffer.alloc(0);
  #sequence = 0;

  /** @param secret - CLIENT_TRAFFIC_SECRET_0 of the key log */
  constructor(secret: Buffer) {
    this.#secret = secret;
    this.#take();
  }

  data(bytes: Buffer): Buffer {
    return this.#record(APPLICATION_DATA, bytes);
  }

  /** A KeyUpdate that asks for one in return, section 4.6.3; what follows is sealed with the next key. */
  keyUpdate(): Buffer {
    const record = this.#record(HANDSHAKE, Buffer.from([24, 0, 0, 1, 1]));
    this.#secret = this.#expand('traffic upd', 32);
    this.#take();
    return record;
  }

  #take(): void {
    this.#key = this.#expand('key', 16);
    this.#iv = this.#expand('iv', 12);
    this.#sequence = 0;
  }

  #expand(label: string, length: number): Buffer {
    const name = Buffer.from(`tls13 ${label}`);
    const info = Buffer.concat([Buffer.from([0, length, name.length]), name, Buffer.from([0, 1])]);
    return createHmac('sha256', this.#secret).update(info).digest().subarray(0, length);
  }

  #record(type: number, bytes: Buffer): Buffer {
    const nonce = Buffer.from(this.#iv);
    nonce.writeUInt32BE((nonce.readUInt32BE(8) ^ this.#sequence++) >>> 0, 8);
    const head = Buffer.from([APPLICATION_DATA, 3, 3, 0, 0]);
    head.writeUInt16BE(bytes.length + 1 + 16, 3);
    return Buffer.concat([head, seal(this.#key, nonce, head, Buffer.concat([bytes, Buffer.of(type)]))]);
  }
}

/** What a client sends on TLS 1.2, RFC 5246, section 6.3 and RFC 5288, with an AES128-GCM-SHA256 suite. */
export class Writer12 {
  readonly #key: Buffer;
  readonly #salt: Buffer;
  /** The first record of an epoch is the client's Finished. */
  #sequence = 1;

  constructor(master: Buffer, clientRandom: Buffer, serverRandom: Buffer) {
    const seed = Buffer.concat([Buffer.from('key expansion'), serverRandom, clientRandom]);
    const hmac = (bytes: Buffer): Buffer => createHmac('sha256', master).update(bytes).digest();
    const first = hmac(seed);
    const keys = Buffer.concat([hmac(Buffer.concat([first, seed])), hmac(Buffer.concat([hmac(first), seed]))]);
    this.#key = keys.subarray(0, 16);
    this.#salt = keys.subarray(32, 36);
  }

  data(bytes: Buffer): Buffer {
    return this.#record(APPLICATION_DATA, bytes);
  }

  /** A ClientHello, which asks to negotiate anew. */
  hello(): Buffer {
    return this.#record(HANDSHAKE, Buffer.from([1, 0, 0, 0]));
  }

  #record(type: number, bytes: Buffer): Buffer {
    const sequence = Buffer.alloc(8);
    sequence.writeUInt32BE(this.#sequence++, 4);
    const length = (extra: number): Buffer => Buffer.from([(bytes.length + extra) >> 8, (bytes.length + extra) & 0xff]);
    const head = Buffer.concat([sequence, Buffer.from([type, 3, 3]), length(0)]);
    const sealed = seal(this.#key, Buffer.concat([this.#salt, sequence]), head, bytes);
    return Buffer.concat([Buffer.from([type, 3, 3]), length(24), sequence, sealed]);
  }
}
