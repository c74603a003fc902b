import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A key and a certificate in PEM. */
export interface Pair {
  readonly key: string;
  readonly cert: string;
}

/** Makes certificates, with the system's openssl. */
export class Authority implements Pair {
  readonly key: string;
  readonly cert: string;

  constructor(name: string) {
    const made = make(name, 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign', undefined);
    this.key = made.key;
    this.cert = made.cert;
  }

  /** For a server of these names. */
  server(...names: string[]): Pair {
    const names2 = names.map((name) => (/^[\d.]+$/.test(name) ? `IP:${name}` : `DNS:${name}`)).join(',');
    return make(names[0] as string, `subjectAltName=${names2}\nextendedKeyUsage=serverAuth`, this);
  }

  /** For a client. */
  client(name: string): Pair {
    return make(name, 'extendedKeyUsage=clientAuth', this);
  }
}

function make(name: string, extensions: string, issuer: Pair | undefined): Pair {
  const folder = mkdtempSync(join(tmpdir(), 'valk-aio-authority-'));
  try {
    const path = (file: string): string => join(folder, file);
    const openssl = (...args: string[]): void => {
      execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
    };
    writeFileSync(path('extensions'), `${extensions}\n`);
    openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', 'key');
    openssl('req', '-new', '-key', 'key', '-subj', `/CN=${name}`, '-out', 'request');
    let signer = ['-signkey', 'key'];
    if (issuer !== undefined) {
      writeFileSync(path('ca.key'), issuer.key);
      writeFileSync(path('ca.cert'), issuer.cert);
      signer = ['-CA', 'ca.cert', '-CAkey', 'ca.key', '-CAcreateserial'];
    }
    openssl('x509', '-req', '-in', 'request', '-days', '2', '-extfile', 'extensions', '-out', 'cert', ...signer);
    return { key: readFileSync(path('key'), 'utf8'), cert: readFileSync(path('cert'), 'utf8') };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
