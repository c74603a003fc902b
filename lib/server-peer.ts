import { X509Certificate } from 'node:crypto';
import type { ConnectionInfo } from './exchange.js';
import type { NativePeer } from './native.js';
import type { PeerCertificate } from './types.js';

/** What is known of a connection. */
export function connectionInfo(peer: NativePeer | undefined): ConnectionInfo {
  return Object.freeze({
    remoteAddress: peer?.remoteAddress ?? '',
    remotePort: peer?.remotePort ?? 0,
    localAddress: peer?.localAddress ?? '',
    localPort: peer?.localPort ?? 0,
    tls: tlsInfo(peer),
  });
}

/** What is known of a connection's TLS. The client's certificate is read when it is first asked for. */
function tlsInfo(peer: NativePeer | undefined): ConnectionInfo['tls'] {
  const raw = peer?.certificate;
  let certificate: PeerCertificate | undefined;
  return Object.freeze({
    version: peer?.version ?? '',
    cipher: peer?.cipher ?? '',
    servername: peer === undefined || peer.servername === '' ? undefined : peer.servername,
    authorized: raw !== undefined && peer?.authorizationError === undefined,
    authorizationError: peer?.authorizationError,
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
