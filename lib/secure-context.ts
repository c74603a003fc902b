import type { ResolvedSecureContext, SecureContextOptions } from './config-types.js';
import { AioConfigError } from './errors.js';
import { describeValue, formatCount } from './limits.js';
import { copyBytes, guarded, isPlainObject, type OptionSet, readOptions } from './options.js';

/** Most certificates by server name. Each has a context of OpenSSL's own, some 26 KiB of memory; they share `ca`. */
export const MAX_CONTEXTS = 1000;

const SECURE_OPTIONS: OptionSet<keyof SecureContextOptions> = {
  whole: 'options',
  prefix: '',
  names: ['key', 'cert', 'contexts', 'ca'],
  misplaced: {
    names: ['requestCert', 'rejectUnauthorized'],
    hint: 'is an option of listen(), and cannot be changed later',
  },
};

/** Labels of letters, digits, hyphens and underscores; a wildcard is the whole of the first label. */
const SERVER_NAME = /^(?=.{1,255}$)(\*\.)?[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*$/;

type Given = ReadonlyMap<string, unknown>;

/**
 * Checks what `setSecureContext()` was given. All bytes are copied.
 *
 * @param before - what stays where it is left out
 * @throws AioConfigError for an unknown, missing or bad key; `field` is the name of the option
 */
export function resolveSecureContext(
  options: SecureContextOptions,
  before: Pick<ResolvedSecureContext, 'contexts' | 'ca'>,
): ResolvedSecureContext {
  const given = readOptions(options, SECURE_OPTIONS);
  const { key, cert, contexts, ca } = readSecureContext(given);
  return { key, cert, contexts: given.has('contexts') ? contexts : before.contexts, ca: ca ?? before.ca };
}

/** @throws AioConfigError */
export function readSecureContext(given: Given): ResolvedSecureContext {
  return {
    key: readPem('key', given.get('key'), 'the private key'),
    cert: readPem('cert', given.get('cert'), 'the certificate'),
    contexts: readContexts(given.get('contexts')),
    ca: readAuthorities(given.get('ca')),
  };
}

/** @throws AioConfigError where nobody could be let in, or an option would have no effect */
export function checkTrust({ ca }: ResolvedSecureContext, requestCert: boolean, rejectUnauthorized: boolean): void {
  if (requestCert && rejectUnauthorized && ca === undefined) {
    throw new AioConfigError('ca is required where requestCert is true, unless rejectUnauthorized is false', ca);
  }
  if (!requestCert && ca !== undefined) {
    throw new AioConfigError('ca has no effect unless requestCert is true', ca);
  }
}

function readPem(name: string, value: unknown, meaning: string): Uint8Array {
  if (value === undefined) {
    throw new AioConfigError(`${name} is required: ${meaning} in PEM, a string or bytes`, value);
  }
  const bytes = copyBytes(value);
  if (bytes === undefined) {
    throw new AioConfigError(
      `${name} must be ${meaning} in PEM, a string or bytes, not ${describeValue(value)}`,
      value,
    );
  }
  return bytes;
}

function readContexts(value: unknown): ResolvedSecureContext['contexts'] {
  if (value === undefined) return [];
  return guarded('contexts', value, () => {
    if (!isPlainObject(value)) {
      throw new AioConfigError(`contexts must be a plain object, not ${describeValue(value)}`, value);
    }
    const contexts = new Map<string, { name: string; key: Uint8Array; cert: Uint8Array }>();
    for (const given of Reflect.ownKeys(value)) {
      const name = String(given).toLowerCase();
      if (!SERVER_NAME.test(name)) {
        throw new AioConfigError(
          `contexts key ${JSON.stringify(name)} must be a server name such as a.example or *.b.example`,
          value,
        );
      }
      if (contexts.has(name)) throw new AioConfigError(`contexts has ${name} twice`, value);
      contexts.set(name, { name, ...readContext(name, value[given]) });
    }
    if (contexts.size > MAX_CONTEXTS) {
      throw new AioConfigError(`contexts must be at most ${formatCount(MAX_CONTEXTS)}`, value);
    }
    return [...contexts.values()];
  });
}

function readContext(name: string, value: unknown): { key: Uint8Array; cert: Uint8Array } {
  const prefix = `contexts ${name}`;
  const given = readOptions(value, { whole: prefix, prefix: `${prefix} `, names: ['key', 'cert'] as const });
  return {
    key: readPem(`${prefix} key`, given.get('key'), 'the private key'),
    cert: readPem(`${prefix} cert`, given.get('cert'), 'the certificate'),
  };
}

function readAuthorities(value: unknown): Uint8Array | undefined {
  if (value === undefined) return undefined;
  return guarded('ca', value, () => {
    const list: unknown[] = Array.isArray(value) ? value : [value];
    if (list.length === 0) throw new AioConfigError('ca must hold at least one certificate', value);
    const texts = list.map((one) => readPem('ca', one, 'certificates'));
    // A text need not end its last line.
    return new Uint8Array(Buffer.concat(texts.flatMap((text) => [text, Buffer.from('\n')])));
  });
}
