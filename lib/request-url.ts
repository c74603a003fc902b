import { schemeStart } from './request-head.js';

/** A host that URL parsing leaves as it is: a name, or an IPv4 address in its usual form. Letters in lower case only. */
const PLAIN_HOST = /^(?:(?:[a-z\d_-]+\.)*[a-z][a-z\d_-]*|(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4})$/;

/** A path and query that URL parsing leaves as they are, but for dot segments. */
const PLAIN_PATH = /^\/[\w\-.~!$&()*+,;=:@%/]*(?:\?[\w\-.~!$&()*+,;=:@%/?]*)?$/;

/** What may begin a dot segment, in either spelling. */
const MAYBE_DOTS = /\/(?:\.|%2e)/i;

/** What an authority holds by no grammar, and what is no part of it for http and https (RFC 9113, section 8.3.1). */
const FORBIDDEN_IN_AUTHORITY = /[\s/?#@\\]/;

/** A longer authority is parsed each time, so that no client makes the process keep its text. */
const MAX_KNOWN_LENGTH = 512;

// Requests of a connection share scheme and authority: the last one that was parsed.
let knownTarget = '';
let knownOrigin = '';

/**
 * Whether a head names a target whose URL can be made; else the answer is 400. A path alone never keeps a URL from
 * parsing, so little more than the authority is looked at.
 */
export function hasValidTarget(head: string): boolean {
  const start = schemeStart(head);
  if (originOf(head, start) === null) return false;
  const pathStart = head.indexOf('\n', head.indexOf('\n', start) + 1) + 1;
  // A fragment has no place in a request's target (RFC 9110, section 7.1); read as one, it would hide what follows.
  const hash = head.indexOf('#', pathStart);
  if (hash !== -1 && hash < head.indexOf('\n', pathStart)) return false;
  return head.startsWith('/', pathStart) || head.startsWith('*\n', pathStart);
}

/**
 * The URL of a request as WHATWG serialises it: default port dropped, host normalised, dot segments removed, what a URL
 * cannot hold percent-encoded. The target `*` of OPTIONS becomes the path `/*`.
 *
 * @param head - one that `hasValidTarget` found good
 */
export function targetUrl(head: string): string {
  const start = schemeStart(head);
  const pathStart = head.indexOf('\n', head.indexOf('\n', start) + 1) + 1;
  const path = head.slice(pathStart, head.indexOf('\n', pathStart));
  const origin = originOf(head, start) ?? '';
  if (PLAIN_PATH.test(path) && !MAYBE_DOTS.test(path)) return origin + path;
  return new URL(origin + (path === '*' ? '/*' : encodeBytes(path))).href;
}

/** `https://host:port`, or `null` where scheme and authority make none. */
function originOf(head: string, start: number): string | null {
  if (knownTarget !== '' && head.startsWith(knownTarget, start)) return knownOrigin;
  const schemeEnd = head.indexOf('\n', start);
  const authorityEnd = head.indexOf('\n', schemeEnd + 1);
  const scheme = head.slice(start, schemeEnd);
  const authority = head.slice(schemeEnd + 1, authorityEnd);
  const origin = parseOrigin(scheme.toLowerCase(), authority);
  if (origin !== null && authorityEnd - start < MAX_KNOWN_LENGTH) {
    // Through a Buffer: a slice would keep the whole head that it comes from.
    knownTarget = Buffer.from(head.slice(start, authorityEnd + 1), 'latin1').toString('latin1');
    knownOrigin = origin;
  }
  return origin;
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
