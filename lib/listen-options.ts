import type {
  HealthOptions,
  ListenField,
  ListenOptions,
  ResolvedHealth,
  ResolvedListenOptions,
} from './config-types.js';
import { AioConfigError } from './errors.js';
import { CONFIG_FIELDS, describeValue, formatBytes, LISTEN_FIELDS, PORT_LIMITS, STALL_LIMITS } from './limits.js';
import { checkNumber, copyBytes, guarded, type OptionSet, readOptions, valueOr } from './options.js';
import { checkTrust, readSecureContext } from './secure-context.js';
import { checkPath, resolveStaticRoutes } from './static-routes.js';

/** Bytes of the largest response body where `maxResponseBodySize` is not set. */
export const DEFAULT_MAX_RESPONSE_BODY_SIZE = 64 * 1024 * 1024;

/** Most bytes of `error503Body`: about a stream's initial window (RFC 9113, section 6.9.2), so that it leaves at once. */
export const MAX_ERROR_503_BODY_SIZE = 64 * 1024;

const DEFAULT_ERROR_503_BODY = 'Service Unavailable\n';
const DEFAULT_HOST = '127.0.0.1';
const DEFAULT_LIVE_PATH = '/livez';
const DEFAULT_READY_PATH = '/readyz';
const DEFAULT_JS_STALL_TIMEOUT_MS = 30_000;

const LISTEN_OPTIONS: OptionSet<ListenField> = {
  whole: 'options',
  prefix: '',
  names: LISTEN_FIELDS,
  misplaced: { names: CONFIG_FIELDS, hint: 'is an option of start(), not of listen()' },
};

const HEALTH_OPTIONS: OptionSet<keyof HealthOptions> = {
  whole: 'health',
  prefix: 'health ',
  names: ['live', 'ready', 'port', 'jsStallTimeoutMs'],
};

type Given = ReadonlyMap<ListenField, unknown>;

/**
 * Checks the options of `listen()` and completes them. All bytes are copied, so that later changes have no effect.
 *
 * Whether `key` and `cert` are readable and belong together is for the engine to say (`ERR_VALK_AIO_TLS`), and whether
 * `host` exists for the system.
 *
 * @param options - what the caller gave to `listen()`
 * @returns complete, frozen options
 * @throws AioConfigError for an unknown, missing or bad key; `field` is the name of the option
 */
export function resolveListenOptions(options: ListenOptions): ResolvedListenOptions {
  const given: Given = readOptions(options, LISTEN_OPTIONS);
  const port = checkNumber('port', valueOr(given, 'port', 0), PORT_LIMITS);
  const host = readHost(given);
  const secure = readSecureContext(given);
  const requestCert = readBoolean(given, 'requestCert', false);
  const rejectUnauthorized = readBoolean(given, 'rejectUnauthorized', true);
  checkTrust(secure, requestCert, rejectUnauthorized);
  const maxSize = readMaxResponseBodySize(given);
  const error503Body = readError503Body(given);
  const bodyMode = readBodyMode(given);
  const onError = readOnError(given);
  const routes = given.get('staticRoutes');
  const staticRoutes = guarded('staticRoutes', routes, () => resolveStaticRoutes(routes));
  const health = readHealth(given, port);
  if (health !== undefined && health.port === undefined) {
    const taken = staticRoutes.find(({ path }) => path === health.live || path === health.ready);
    if (taken !== undefined) fail(given, 'health', `health path ${taken.path} is one of staticRoutes too`);
  }
  return Object.freeze({
    ...secure,
    requestCert,
    rejectUnauthorized,
    reusePort: readBoolean(given, 'reusePort', false),
    port,
    host,
    maxResponseBodySize: maxSize ?? DEFAULT_MAX_RESPONSE_BODY_SIZE,
    maxResponseStreamSize: maxSize ?? Number.POSITIVE_INFINITY,
    error503Body,
    bodyMode,
    onError,
    staticRoutes,
    health,
    sendDate: readBoolean(given, 'sendDate', true),
  });
}

/** Throws an error of which |message| begins with |field|. */
function fail(given: Given, field: ListenField, message: string): never {
  throw new AioConfigError(message, given.get(field));
}

function readHost(given: Given): string {
  const host = valueOr(given, 'host', DEFAULT_HOST);
  if (typeof host !== 'string') fail(given, 'host', `host must be a string, not ${describeValue(host)}`);
  // Names, IPv4, and IPv6 with a zone; what a URL adds to them (scheme, brackets, path) is the common mistake.
  if (!/^[\w.:%-]{1,255}$/.test(host))
    fail(given, 'host', 'host must be an IP address or a host name, without brackets');
  return host;
}

function readMaxResponseBodySize(given: Given): number | undefined {
  const value = given.get('maxResponseBodySize');
  // 0 is the default, as for the sizes of start().
  if (value === undefined || value === 0) return undefined;
  if (typeof value !== 'number') {
    fail(given, 'maxResponseBodySize', `maxResponseBodySize must be a number, not ${describeValue(value)}`);
  }
  if (value !== Number.POSITIVE_INFINITY && !(Number.isSafeInteger(value) && value > 0)) {
    fail(given, 'maxResponseBodySize', 'maxResponseBodySize must be a positive integer or Infinity');
  }
  return value;
}

function readError503Body(given: Given): Uint8Array {
  const body = valueOr(given, 'error503Body', DEFAULT_ERROR_503_BODY);
  const bytes = copyBytes(body);
  if (bytes === undefined) {
    fail(given, 'error503Body', `error503Body must be a string or bytes, not ${describeValue(body)}`);
  }
  if (bytes.length > MAX_ERROR_503_BODY_SIZE) {
    fail(given, 'error503Body', `error503Body must be at most ${formatBytes(MAX_ERROR_503_BODY_SIZE)}`);
  }
  return bytes;
}

function readBodyMode(given: Given): 'buffer' | 'stream' {
  const mode = valueOr(given, 'bodyMode', 'buffer');
  if (mode !== 'buffer' && mode !== 'stream') fail(given, 'bodyMode', "bodyMode must be 'buffer' or 'stream'");
  return mode;
}

function readOnError(given: Given): ResolvedListenOptions['onError'] {
  const value = given.get('onError');
  if (value === undefined) return undefined;
  if (typeof value !== 'function') fail(given, 'onError', `onError must be a function, not ${describeValue(value)}`);
  return value as ResolvedListenOptions['onError'];
}

function readBoolean(given: Given, field: ListenField, fallback: boolean): boolean {
  const value = valueOr(given, field, fallback);
  if (typeof value !== 'boolean') fail(given, field, `${field} must be true or false, not ${describeValue(value)}`);
  return value;
}

function readHealth(given: Given, serverPort: number): ResolvedHealth | undefined {
  const value = given.get('health');
  if (value === undefined) return undefined;
  const health = readOptions(value, HEALTH_OPTIONS);
  const live = checkPath('health live', valueOr(health, 'live', DEFAULT_LIVE_PATH));
  const ready = checkPath('health ready', valueOr(health, 'ready', DEFAULT_READY_PATH));
  if (live === ready) fail(given, 'health', 'health live and ready must be two paths');

  const port = health.has('port') ? checkNumber('health port', health.get('port'), PORT_LIMITS) : undefined;
  if (port !== undefined && port !== 0 && port === serverPort) {
    fail(given, 'health', 'health port must not be the port of the server itself');
  }
  const stallTimeout = valueOr(health, 'jsStallTimeoutMs', DEFAULT_JS_STALL_TIMEOUT_MS);
  const jsStallTimeoutMs = checkNumber('health jsStallTimeoutMs', stallTimeout, STALL_LIMITS);
  return Object.freeze({ live, ready, port, jsStallTimeoutMs });
}
