import { X509Certificate } from 'node:crypto';
import type { ConnectionInfo } from './exchange.js';
import type { NativePeer } from './native.js';
import type { PeerCertificate } from './types.js';

/** What is known of a connection, which is read when it is first asked for. */
export class Peer {
  #lines: string;
  #certificate: Buffer | undefined;
  #info: ConnectionInfo | undefined;

  constructor(native: NativePeer | null) {
    if (native === null || typeof native === 'string') this.#lines = native ?? '';
    else [this.#lines, this.#certificate] = native;
  }

  /** Whether a certificate is kept with it. */
  get isLarge(): boolean {
    return this.#certificate !== undefined;
  }

  get info(): ConnectionInfo {
    if (this.#info === undefined) {
      this.#info = connectionInfo(this.#lines, this.#certificate);
      this.#lines = '';
    }
    return this.#info;
  }
}

function connectionInfo(lines: string, raw: Buffer | undefined): ConnectionInfo {
  const [remoteAddress = '', remotePort, localAddress = '', localPort, version = '', cipher = '', error, ...name] =
    lines.split('\n');
  return Object.freeze({
    remoteAddress,
    remotePort: Number(remotePort ?? 0),
    localAddress,
    localPort: Number(localPort ?? 0),
    // The name is the client's word: it comes last, whatever is in it.
    tls: tlsInfo(version, cipher, name.join('\n') || undefined, error || undefined, raw),
  });
}

/** What is known of a connection's TLS. The client's certificate is read when it is first asked for. */
function tlsInfo(
  version: string,
  cipher: string,
  servername: string | undefined,
  authorizationError: string | undefined,
  raw: Buffer | undefined,
): ConnectionInfo['tls'] {
  let certificate: PeerCertificate | undefined;
  return Object.freeze({
    version,
    cipher,
    servername,
    authorized: raw !== undefined && authorizationError === undefined,
    authorizationError,
    get peerCertificate(): PeerCertificate | undefined {
      if (raw !== undefined) certificate ??= readCertificate(raw);
      return certificate;
    },
  });
}

function readCertificate(raw: Buffer): PeerCertificate {
  const { subject, issuer, serialNumber, fingerprint256, validFrom, validTo } = new X509Certificate(raw);
  return Object.freeze({ subject, issuer, serialNumber, fingerprint256, validFrom, validTo, raw });
}
