import { realpathSync, statSync } from 'node:fs';
import { opendir, realpath, stat } from 'node:fs/promises';
import {
  CHUNK_SIZE,
  descriptorPath,
  FileChunks,
  isServed,
  isServedName,
  type OpenedFile,
  openBelow,
  readPart,
  sentTime,
} from './site-file.js';
import { type ListingEntry, renderListing } from './site-listing.js';
import { contentType, encodeSitePath, resolveSitePath } from './site-path.js';
import { type ByteRange, checkConditions, formatEntityTag, ifRangeHolds, parseByteRange } from './site-range.js';
import type { AioResponse } from './types.js';

/** Options of `createSite`. */
export interface SiteOptions {
  /**
   * Whether a directory without `index.html` answers with a page that lists it, instead of 404.
   *
   * @default true
   */
  readonly listing?: boolean;
}

/** The most entries that a directory's page shows: the work for one request stays bounded. */
const MAX_LISTED_ENTRIES = 1000;

/** On every answer from a file or directory: revalidate before reuse, and never guess the type. */
const COMMON_HEADERS = { 'cache-control': 'no-cache', 'x-content-type-options': 'nosniff' } as const;

/**
 * Makes a fetch handler that serves a directory's files to GET and HEAD: content types, validators
 * and preconditions, single byte ranges, `index.html`, and a page for directories without one.
 *
 * Nothing outside the directory is ever served, whatever the request's path and however symbolic
 * links change meanwhile; hidden files and special files are not there. The directory's real path is
 * taken once, now. Linux only: it asks `/proc/self/fd` where an open file lies.
 *
 * @param directory - The site's root.
 * @param options - See `SiteOptions`.
 * @returns A handler that never throws for what a client sends; it rejects when the file system
 *   fails, which the server answers with 500.
 * @throws When the directory cannot be read or is none (`code: 'ENOTDIR'`).
 */
export function createSite(directory: string, options: SiteOptions = {}): (request: Request) => Promise<AioResponse> {
  const root = realpathSync(directory);
  if (!statSync(root).isDirectory()) {
    throw Object.assign(new Error(`not a directory: ${directory}`), { code: 'ENOTDIR' });
  }
  statSync('/proc/self/fd');
  const site: Site = { root, listing: options.listing ?? true };
  return async (request) => {
    const answer = await serve(site, request);
    return request.method === 'HEAD' ? { ...answer, body: null } : answer;
  };
}

interface Site {
  readonly root: string;
  readonly listing: boolean;
}

async function serve(site: Site, request: Request): Promise<AioResponse> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return plainAnswer(405, 'Method Not Allowed', { allow: 'GET, HEAD' });
  }
  const url = new URL(request.url);
  const path = resolveSitePath(url.pathname);
  if (!path.ok) return path.status === 400 ? plainAnswer(400, 'Bad Request') : notFound();
  try {
    const opened = await openBelow(site.root, path.segments);
    if (opened === null) return notFound();
    if (opened.directory) {
      if (path.directory) return await serveDirectory(site, request, path.segments, opened);
      await opened.handle.close();
      return redirect(encodeSitePath(path.segments, true) + url.search);
    }
    if (!path.directory) return await serveFile(request, opened, path.segments.at(-1) ?? '');
    await opened.handle.close();
    return notFound();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'EMFILE' || code === 'ENFILE') {
      return plainAnswer(503, 'Service Unavailable', { 'retry-after': '1' });
    }
    throw error;
  }
}

async function serveDirectory(
  site: Site,
  request: Request,
  segments: readonly string[],
  directory: OpenedFile,
): Promise<AioResponse> {
  try {
    const index = await openBelow(site.root, [...segments, 'index.html']);
    if (index !== null && !index.directory) return await serveFile(request, index, 'index.html');
    await index?.handle.close();
    if (!site.listing) return notFound();
    const { entries, complete } = await listDirectory(site.root, directory);
    const body = new TextEncoder().encode(renderListing(segments, entries, complete));
    return {
      status: 200,
      headers: {
        ...COMMON_HEADERS,
        'content-type': 'text/html; charset=utf-8',
        'content-length': body.byteLength,
        'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'",
      },
      body,
    };
  } finally {
    await directory.handle.close();
  }
}

async function listDirectory(
  root: string,
  directory: OpenedFile,
): Promise<{ entries: ListingEntry[]; complete: boolean }> {
  const path = descriptorPath(directory.handle);
  const entries: ListingEntry[] = [];
  for await (const { name } of await opendir(path)) {
    if (!isServedName(name)) continue;
    const entry = await describeEntry(root, path, name);
    if (entry === null) continue;
    if (entries.length === MAX_LISTED_ENTRIES) return { entries, complete: false };
    entries.push(entry);
  }
  return { entries, complete: true };
}

/** Only what would be served is listed, so that no link on the page leads nowhere. */
async function describeEntry(root: string, directoryPath: string, name: string): Promise<ListingEntry | null> {
  try {
    const path = await realpath(`${directoryPath}/${name}`);
    if (!isServed(root, path)) return null;
    const found = await stat(path);
    const directory = found.isDirectory();
    if (!directory && !found.isFile()) return null;
    return { name, directory, size: found.size, modifiedMs: sentTime(found.mtimeMs, Date.now()) };
  } catch {
    return null;
  }
}

async function serveFile(request: Request, file: OpenedFile, name: string): Promise<AioResponse> {
  // Whoever takes the handle over closes it; on every other way out it is closed here.
  let taken = false;
  try {
    const headers: Record<string, string | number> = {
      ...COMMON_HEADERS,
      etag: formatEntityTag(file.etag),
      'last-modified': new Date(file.lastModifiedMs).toUTCString(),
    };
    const condition = checkConditions(request.headers, file);
    if (condition === 'failed') return plainAnswer(412, 'Precondition Failed');
    if (condition === 'notModified') return { status: 304, headers, body: null };

    const range = requestedRange(request, file);
    headers['accept-ranges'] = 'bytes';
    if (range.kind === 'unsatisfiable') {
      return plainAnswer(416, 'Range Not Satisfiable', { 'content-range': `bytes */${file.size}` });
    }
    const part = range.kind === 'part';
    const first = part ? range.first : 0;
    const length = part ? range.last - range.first + 1 : file.size;
    headers['content-type'] = contentType(name);
    headers['content-length'] = length;
    if (part) headers['content-range'] = `bytes ${range.first}-${range.last}/${file.size}`;
    const status = part ? 206 : 200;
    if (request.method === 'HEAD') return { status, headers, body: null };

    taken = true;
    const body =
      length <= CHUNK_SIZE ? await readPart(file.handle, first, length) : new FileChunks(file.handle, first, length);
    return { status, headers, body };
  } finally {
    if (!taken) await file.handle.close();
  }
}

/** RFC 9110, section 14.2: a range is defined for GET only. */
function requestedRange(request: Request, file: OpenedFile): ByteRange {
  const { headers } = request;
  if (request.method !== 'GET' || !ifRangeHolds(headers.get('if-range'), file)) return { kind: 'whole' };
  return parseByteRange(headers.get('range'), file.size);
}

function redirect(location: string): AioResponse {
  return plainAnswer(308, 'Permanent Redirect', { location });
}

function notFound(): AioResponse {
  return plainAnswer(404, 'Not Found');
}

function plainAnswer(status: number, phrase: string, headers: Record<string, string> = {}): AioResponse {
  const body = `${status} ${phrase}\n`;
  return {
    status,
    headers: {
      ...headers,
      'content-type': 'text/plain; charset=utf-8',
      'content-length': body.length,
      'x-content-type-options': 'nosniff',
    },
    body,
  };
}
