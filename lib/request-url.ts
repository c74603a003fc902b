import { schemeStart } from './request-head.js';

const HASH = 0x23;
const PERCENT = 0x25;
const DOT = 0x2e;
const SLASH = 0x2f;

/** A host that URL parsing leaves as it is: a name, or an IPv4 address in its usual form. Letters in lower case only. */
const PLAIN_HOST = /^(?:(?:[a-z\d_-]+\.)*[a-z][a-z\d_-]*|(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4})$/;

/** Characters of a path and query that URL parsing leaves as they are; by their codes. */
const PLAIN = new Uint8Array(256);
for (const byte of Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.~!$&()*+,;=:@%/?')) {
  PLAIN[byte] = 1;
}

/** What an authority holds by no grammar, and what is no part of it for http and https (RFC 9113, section 8.3.1). */
const FORBIDDEN_IN_AUTHORITY = /[\s/?#@\\]/;

/** Scheme and authority of a target, and what they come to. */
interface Origin {
  /** `scheme\nauthority\n`, as the head has it. */
  readonly text: string;
  /** `https://host:port` */
  readonly origin: string;
}

// Clients name what authorities they like: they must not fill the memory.
const MAX_KNOWN_ORIGINS = 100;
const MAX_KNOWN_LENGTH = 512;
const knownOrigins = new Map<string, Origin>();

/** The last one: requests of a connection share scheme and authority. */
let known: Origin = { text: 'https\nlocalhost\n', origin: 'https://localhost' };

/**
 * Where the last head that was found good has its target: a request's URL is asked for just after that, if at all, and
 * the next request may have the same head.
 */
const target = {
  head: undefined as string | undefined,
  origin: known,
  pathStart: 0,
  pathEnd: 0,
  /** Path and query stand in the URL as they stand in the head. */
  isPlain: false,
  /** Made when it is asked for. */
  url: '',
};

/**
 * Whether a head names a target whose URL can be made; else the answer is 400. A path alone never keeps a URL from
 * parsing, so little more than the authority is looked at.
 */
export function hasValidTarget(head: string): boolean {
  if (head === target.head) return true;
  const start = schemeStart(head);
  const origin = originAt(head, start);
  if (origin === null) return false;
  const pathStart = start + origin.text.length;
  const isPath = head.charCodeAt(pathStart) === SLASH;
  if (!isPath && !head.startsWith('*\n', pathStart)) return false;
  const pathEnd = head.indexOf('\n', pathStart);
  let isPlain = isPath;
  let before = 0;
  for (let at = pathStart; at < pathEnd; at++) {
    const code = head.charCodeAt(at);
    // A fragment has no place in a request's target (RFC 9110, section 7.1); read as one, it would hide what follows.
    if (code === HASH) return false;
    if (PLAIN[code] !== 1 || (before === SLASH && isDot(head, at, code))) isPlain = false;
    before = code;
  }
  target.head = head;
  target.origin = origin;
  target.pathStart = pathStart;
  target.pathEnd = pathEnd;
  target.isPlain = isPlain;
  target.url = '';
  return true;
}

/**
 * The URL of a request as WHATWG serialises it: default port dropped, host normalised, dot segments removed, what a URL
 * cannot hold percent-encoded. The target `*` of OPTIONS becomes the path `/*`.
 *
 * @throws TypeError for a head in which `hasValidTarget` finds none
 */
export function targetUrl(head: string): string {
  if (!hasValidTarget(head)) throw new TypeError('The request has no target');
  if (target.url === '') {
    const { origin } = target.origin;
    const path = head.slice(target.pathStart, target.pathEnd);
    target.url = target.isPlain ? origin + path : new URL(origin + (path === '*' ? '/*' : encodeBytes(path))).href;
  }
  return target.url;
}

/** What may begin a dot segment, in either spelling. */
function isDot(head: string, at: number, code: number): boolean {
  return code === DOT || (code === PERCENT && head.slice(at + 1, at + 3).toLowerCase() === '2e');
}

/** What scheme and authority come to, or `null` where that is nothing. */
function originAt(head: string, start: number): Origin | null {
  // Where it is not there this searches the whole head, but startsWith takes three times as long where it is.
  if (head.indexOf(known.text, start) === start) return known;
  const end = head.indexOf('\n', head.indexOf('\n', start) + 1) + 1;
  const text = head.slice(start, end);
  const origin = knownOrigins.get(text) ?? learnOrigin(text);
  if (origin !== null && text.length <= MAX_KNOWN_LENGTH) known = origin;
  return origin;
}

function learnOrigin(text: string): Origin | null {
  const [scheme = '', authority = ''] = text.split('\n');
  const origin = parseOrigin(scheme.toLowerCase(), authority);
  if (origin === null) return null;
  // Through a Buffer: a slice keeps the whole head that it comes from.
  const learnt = { text: Buffer.from(text, 'latin1').toString('latin1'), origin: Buffer.from(origin).toString() };
  if (text.length <= MAX_KNOWN_LENGTH) {
    if (knownOrigins.size >= MAX_KNOWN_ORIGINS) knownOrigins.clear();
    knownOrigins.set(learnt.text, learnt);
  }
  return learnt;
}

function parseOrigin(scheme: string, authority: string): string | null {
  if (scheme !== 'https' && scheme !== 'http') return null;
  if (PLAIN_HOST.test(authority) && !authority.includes('xn--')) return `${scheme}://${authority}`;
  if (authority === '' || FORBIDDEN_IN_AUTHORITY.test(authority)) return null;
  try {
    return new URL(`${scheme}://${encodeBytes(authority)}/`).origin;
  } catch {
    return null;
  }
}

/** Percent-encodes bytes above 0x7F: as characters, URL parsing would take each for a code point and encode it twice. */
function encodeBytes(text: string): string {
  return text.replace(/[\x80-\xff]/g, (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase()}`);
}
