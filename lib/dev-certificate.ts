import { execFile } from 'node:child_process';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdir, mkdtemp, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { promisify } from 'node:util';

/** A key and a self-signed certificate for `localhost`, `127.0.0.1` and `::1`. */
export interface DevCertificate {
  /** The private key in PEM: P-256, for ECDSA. */
  readonly key: string;
  /** The certificate in PEM. */
  readonly cert: string;
  /** The file that holds both, readable by its owner only. */
  readonly path: string;
  /** The end of the certificate's validity. */
  readonly validUntil: Date;
  /** Whether it was made now, because there was none that is still of use. */
  readonly created: boolean;
}

/** Options of `devCertificate`. */
export interface DevCertificateOptions {
  /**
   * Where the file is kept; made with mode 0700 where it is missing.
   *
   * @default `valk-aio` below `$XDG_DATA_HOME`, or below `~/.local/share`
   */
  readonly directory?: string;
  /**
   * The present, for deciding about renewal; milliseconds since 1970.
   *
   * @default Date.now()
   */
  readonly nowMs?: number;
}

/** A development certificate could not be made or kept. The cause is in `cause`. */
export class DevCertificateError extends Error {
  readonly code = 'ERR_VALK_AIO_DEV_CERTIFICATE';
  override readonly name = 'DevCertificateError';
}

const VALID_DAYS = 365;
const RENEW_WITHIN_MS = 30 * 24 * 60 * 60 * 1000;
const OPENSSL_TIMEOUT_MS = 60_000;

/** A configuration of its own: what the system's adds to a certificate differs from one to another. */
const OPENSSL_CONFIG = `[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
CN = localhost
[extensions]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
subjectKeyIdentifier = hash
`;

/**
 * The directory in which the development certificate is kept.
 *
 * @param env - The environment; a relative `XDG_DATA_HOME` is ignored, as its specification says.
 */
export function devCertificateDirectory(env: NodeJS.ProcessEnv = process.env): string {
  const data = env.XDG_DATA_HOME ?? '';
  return join(isAbsolute(data) ? data : join(homedir(), '.local', 'share'), 'valk-aio');
}

/**
 * Gives the development certificate, and makes it first where there is none, or none that is whole,
 * private and valid for 30 days more. It is made by the system's `openssl` command, valid for 365
 * days, and written atomically: key and certificate are one file, so that they always match.
 *
 * @param options - See `DevCertificateOptions`.
 * @throws DevCertificateError when `openssl` is missing or fails, or the file cannot be kept.
 */
export async function devCertificate(options: DevCertificateOptions = {}): Promise<DevCertificate> {
  const directory = options.directory ?? devCertificateDirectory();
  const path = join(directory, 'development.pem');
  const nowMs = options.nowMs ?? Date.now();
  const kept = await load(path, nowMs);
  if (kept !== null) return { ...kept, path, created: false };
  const made = parse(await make(directory, path));
  if (made === null) throw new DevCertificateError('openssl made no certificate that can be read');
  return { ...made, path, created: true };
}

type Pair = Pick<DevCertificate, 'key' | 'cert' | 'validUntil'>;

async function load(path: string, nowMs: number): Promise<Pair | null> {
  try {
    // A key that others could have read is not used again.
    if (((await stat(path)).mode & 0o077) !== 0) return null;
    const pair = parse(await readFile(path, 'latin1'));
    return pair !== null && pair.validUntil.getTime() - nowMs > RENEW_WITHIN_MS ? pair : null;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw cannotKeep(path, error);
  }
}

/** `null` for anything but a key and the unharmed certificate that it signed. */
function parse(pem: string): Pair | null {
  const key = /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----\n/.exec(pem)?.[0];
  const cert = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n/.exec(pem)?.[0];
  if (key === undefined || cert === undefined) return null;
  try {
    const certificate = new X509Certificate(cert);
    if (!certificate.checkPrivateKey(createPrivateKey(key)) || !certificate.verify(certificate.publicKey)) return null;
    return { key, cert, validUntil: new Date(certificate.validTo) };
  } catch {
    return null;
  }
}

async function make(directory: string, path: string): Promise<string> {
  let temporary: string | undefined;
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    // Beside the file's place, so that renaming is atomic; only its owner can look inside.
    temporary = await mkdtemp(join(directory, '.new-'));
    const config = join(temporary, 'openssl.cnf');
    await writeFile(config, OPENSSL_CONFIG);
    const key = await openssl(['genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256']);
    const keyPath = join(temporary, 'key.pem');
    await writeFile(keyPath, key, { mode: 0o600 });
    const cert = await openssl(
      ['req', '-new', '-x509', '-sha256', '-config', config, '-key', keyPath].concat(['-days', String(VALID_DAYS)]),
    );
    const pem = key + cert;
    const file = await open(join(temporary, 'development.pem'), 'wx', 0o600);
    try {
      await file.writeFile(pem);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(join(temporary, 'development.pem'), path);
    return pem;
  } catch (error) {
    throw error instanceof DevCertificateError ? error : cannotKeep(path, error);
  } finally {
    if (temporary !== undefined) await rm(temporary, { recursive: true, force: true });
  }
}

async function openssl(args: readonly string[]): Promise<string> {
  try {
    return (await promisify(execFile)('openssl', args, { timeout: OPENSSL_TIMEOUT_MS })).stdout;
  } catch (cause) {
    const { code, stderr } = cause as { code?: unknown; stderr?: string };
    const message =
      code === 'ENOENT'
        ? 'the openssl command, which makes the development certificate, is not installed'
        : `openssl could not make the development certificate: ${stderr?.trim() || String(cause)}`;
    throw new DevCertificateError(message, { cause });
  }
}

function cannotKeep(path: string, cause: unknown): DevCertificateError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new DevCertificateError(`the development certificate cannot be kept in ${path}: ${reason}`, {
    cause,
  });
}
