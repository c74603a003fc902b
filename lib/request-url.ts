import { schemeStart } from './request-head.js';

const SLASH = 0x2f;

/** A host that URL parsing leaves as it is: a name, or an IPv4 address in its usual form. Letters in lower case only. */
const PLAIN_HOST = /^(?:(?:[a-z\d_-]+\.)*[a-z][a-z\d_-]*|(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4})$/;

/** A path and query that URL parsing leaves as they are, but for dot segments. */
const PLAIN_PATH = /^\/[\w\-.~!$&()*+,;=:@%/]*(?:\?[\w\-.~!$&()*+,;=:@%/?]*)?$/;

/** What may begin a dot segment, in either spelling. */
const MAYBE_DOTS = /\/(?:\.|%2e)/i;

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
 * Whether a head names a target whose URL can be made; else the answer is 400. A path alone never keeps a URL from
 * parsing, so little more than the authority is looked at.
 */
export function hasValidTarget(head: string): boolean {
  const start = schemeStart(head);
  const origin = originAt(head, start);
  if (origin === null) return false;
  const pathStart = start + origin.text.length;
  if (head.charCodeAt(pathStart) !== SLASH) return head.startsWith('*\n', pathStart);
  // A fragment has no place in a request's target (RFC 9110, section 7.1); read as one, it would hide what follows.
  const hash = head.indexOf('#', pathStart);
  return hash === -1 || hash > head.indexOf('\n', pathStart);
}

/**
 * The URL of a request as WHATWG serialises it: default port dropped, host normalised, dot segments removed, what a URL
 * cannot hold percent-encoded. The target `*` of OPTIONS becomes the path `/*`.
 *
 * @param head - one that `hasValidTarget` found good
 */
export function targetUrl(head: string): string {
  const start = schemeStart(head);
  const { text, origin } = originAt(head, start) ?? known;
  const pathStart = start + text.length;
  const path = head.slice(pathStart, head.indexOf('\n', pathStart));
  if (PLAIN_PATH.test(path) && !MAYBE_DOTS.test(path)) return origin + path;
  return new URL(origin + (path === '*' ? '/*' : encodeBytes(path))).href;
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
