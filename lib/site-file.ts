import { constants } from 'node:fs';
import { type FileHandle, open, readlink } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { resolveSitePath } from './site-path.js';
import type { EntityTag } from './site-range.js';

/** The largest piece that is read at once, in bytes; a file no larger is read whole. */
export const CHUNK_SIZE = 64 * 1024;

/** A file younger than this may change again with neither its size nor its time showing it. */
const SETTLED_AFTER_MS = 2000;

/** What is known of an opened regular file or directory. */
export interface OpenedFile {
  readonly handle: FileHandle;
  readonly directory: boolean;
  /** Bytes. */
  readonly size: number;
  /** Weak while the file is so young that its time cannot tell two versions apart. */
  readonly etag: EntityTag;
  /** Milliseconds since 1970, whole seconds, never in the future. */
  readonly lastModifiedMs: number;
}

/** Errors of the file system that say no more than that there is nothing to serve. */
const ABSENT = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG', 'EACCES', 'EPERM', 'ENXIO', 'ENODEV']);

/**
 * Opens what a resolved path names below a root. The check that it lies below is made on the open
 * descriptor, so that no change of a directory or symbolic link meanwhile can lead elsewhere.
 *
 * @param root - The root's real path, without symbolic links.
 * @param segments - Names as `resolveSitePath` gives them.
 * @returns The open file, to be closed by the caller; `null` where there is nothing to serve: no such
 *   file, not readable, a special file, a hidden file, or a link that leads out of the root.
 * @throws Other errors of the file system, EMFILE and ENFILE among them.
 */
export async function openBelow(root: string, segments: readonly string[]): Promise<OpenedFile | null> {
  let handle: FileHandle;
  try {
    // O_NONBLOCK: opening a FIFO would otherwise wait for its writer.
    handle = await open(join(root, ...segments), constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    if (ABSENT.has((error as NodeJS.ErrnoException).code ?? '')) return null;
    throw error;
  }
  let opened: OpenedFile | null = null;
  try {
    if (isServed(root, await readlink(descriptorPath(handle)))) opened = await describe(handle);
  } finally {
    if (opened === null) await handle.close();
  }
  return opened;
}

/**
 * The path by which Linux reaches an open descriptor.
 *
 * @param handle - An open file or directory.
 */
export function descriptorPath(handle: FileHandle): string {
  return `/proc/self/fd/${handle.fd}`;
}

/**
 * Says whether a real path lies at or below a root and is not hidden on the way.
 *
 * @param root - The root's real path.
 * @param path - Another real path.
 */
export function isServed(root: string, path: string): boolean {
  if (path === root) return true;
  const prefix = root.endsWith(sep) ? root : root + sep;
  if (!path.startsWith(prefix)) return false;
  return !path
    .slice(prefix.length)
    .split(sep)
    .some((name) => name.startsWith('.'));
}

/**
 * Says whether a directory's entry of this name could be asked for.
 *
 * @param name - An entry's name as the file system gives it.
 */
export function isServedName(name: string): boolean {
  return resolveSitePath(`/${encodeURIComponent(name)}`).ok;
}

/**
 * A file's time as it is shown: not in the future (RFC 9110, section 8.8.2.1), and not before 1970,
 * since file systems keep times that no date can hold.
 *
 * @param modifiedMs - Milliseconds since 1970.
 * @param nowMs - The present.
 */
export function sentTime(modifiedMs: number, nowMs: number): number {
  return Math.max(0, Math.min(modifiedMs, nowMs));
}

async function describe(handle: FileHandle): Promise<OpenedFile | null> {
  const stat = await handle.stat({ bigint: true });
  const directory = stat.isDirectory();
  if (!directory && !stat.isFile()) return null;
  const now = Date.now();
  const modifiedMs = Number(stat.mtimeMs);
  return {
    handle,
    directory,
    size: Number(stat.size),
    etag: {
      weak: now - modifiedMs < SETTLED_AFTER_MS,
      value: `${stat.size.toString(16)}-${stat.mtimeNs.toString(16)}`,
    },
    lastModifiedMs: Math.floor(sentTime(modifiedMs, now) / 1000) * 1000,
  };
}

/**
 * Reads a part of a file whole and closes it.
 *
 * @param handle - An open file; closed in every case.
 * @param first - The first byte's position.
 * @param length - Bytes to read, at most `CHUNK_SIZE`.
 * @throws When the file is shorter than it was.
 */
export async function readPart(handle: FileHandle, first: number, length: number): Promise<Uint8Array> {
  const chunks = new FileChunks(handle, first, length);
  const bytes = new Uint8Array(length);
  let offset = 0;
  for await (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return bytes;
}

/**
 * A part of a file as an async iterator of chunks of at most `CHUNK_SIZE` bytes, each in memory of
 * its own. The file is closed at the end, on an error and by `return()`. It is no generator, because
 * a generator that is returned before its first `next()` runs no `finally`.
 */
export class FileChunks implements AsyncIterableIterator<Uint8Array> {
  #handle: FileHandle | null;
  #position: number;
  #left: number;

  /**
   * @param handle - An open file, which belongs to the iterator from now on.
   * @param first - The first byte's position.
   * @param length - How many bytes to give, exactly: `next()` rejects when the file ends before.
   */
  constructor(handle: FileHandle, first: number, length: number) {
    this.#handle = handle;
    this.#position = first;
    this.#left = length;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const handle = this.#handle;
    if (handle === null) return { done: true, value: undefined };
    if (this.#left === 0) return this.return();
    try {
      const length = Math.min(CHUNK_SIZE, this.#left);
      const chunk = new Uint8Array(length);
      const { bytesRead } = await handle.read(chunk, 0, length, this.#position);
      if (bytesRead === 0) throw new Error('the file became shorter while it was sent');
      this.#position += bytesRead;
      this.#left -= bytesRead;
      return { done: false, value: chunk.subarray(0, bytesRead) };
    } catch (error) {
      await this.return();
      throw error;
    }
  }

  async return(): Promise<IteratorReturnResult<undefined>> {
    const handle = this.#handle;
    this.#handle = null;
    await handle?.close();
    return { done: true, value: undefined };
  }
}
