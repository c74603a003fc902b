import { extname } from 'node:path';
import { lookup } from 'mrmime';

/** What a request's path names below a site's directory. */
export type SitePath =
  | {
      readonly ok: true;
      /** Decoded names, outermost first; none is empty, hidden, `.` or `..`, or holds `/`, `\` or NUL. */
      readonly segments: readonly string[];
      /** The path ended with a slash: it names a directory. */
      readonly directory: boolean;
    }
  | { readonly ok: false; readonly status: 400 | 404 };

/** The longest path that is looked at, in UTF-16 units: PATH_MAX of Linux, percent-encoded throughout. */
const MAX_PATH_LENGTH = 3 * 4096;

const BAD_REQUEST: SitePath = Object.freeze({ ok: false, status: 400 });
const NOT_FOUND: SitePath = Object.freeze({ ok: false, status: 404 });

/**
 * Resolves the path of a request's URL to names below a site's directory. It never touches the
 * file system, and is defined for every string: what is not plainly a path below the directory is
 * refused. Percent-encoding is decoded exactly once.
 *
 * @param pathname - The path as it came, percent-encoded, without query.
 * @returns The names; or 400 for a path that is none (not absolute, invalid percent-encoding or
 *   UTF-8, a NUL); or 404 for one that a site never serves (an empty segment inside, a hidden name
 *   and so `.` and `..`, an encoded slash, a backslash, an overlong path).
 */
export function resolveSitePath(pathname: string): SitePath {
  if (!pathname.startsWith('/')) return BAD_REQUEST;
  if (pathname.length > MAX_PATH_LENGTH) return NOT_FOUND;
  const encoded = pathname.slice(1).split('/');
  const directory = encoded.at(-1) === '';
  if (directory) encoded.pop();
  const segments: string[] = [];
  for (const part of encoded) {
    const name = decodeSegment(part);
    if (name === null || name.includes('\0')) return BAD_REQUEST;
    if (name === '' || name.startsWith('.') || /[/\\]/.test(name)) return NOT_FOUND;
    segments.push(name);
  }
  return { ok: true, segments, directory };
}

/**
 * The inverse of `resolveSitePath`: a path that can stand in a `location` field or a link.
 *
 * @param segments - Names as `resolveSitePath` gives them.
 * @param directory - Whether to end with a slash.
 * @returns An absolute path in ASCII, which never begins with two slashes.
 */
export function encodeSitePath(segments: readonly string[], directory: boolean): string {
  const path = `/${segments.map(encodeURIComponent).join('/')}`;
  return directory && segments.length > 0 ? `${path}/` : path;
}

/**
 * The media type of a file by its name's extension.
 *
 * @param name - A file's name or path.
 * @returns A `content-type`, with `charset=utf-8` for text; `application/octet-stream` when unknown.
 */
export function contentType(name: string): string {
  const extension = extname(name);
  const type = extension === '' ? undefined : lookup(extension);
  if (type === undefined) return 'application/octet-stream';
  return type.startsWith('text/') ? `${type}; charset=utf-8` : type;
}

function decodeSegment(part: string): string | null {
  // A lone surrogate has no UTF-8 form: the file system would be asked for another name.
  if (/\p{Surrogate}/u.test(part)) return null;
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}
