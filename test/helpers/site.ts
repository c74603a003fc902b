import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { createSite } from '../../lib/site.js';
import type { AioResponse } from '../../lib/types.js';

/** A folder that holds the site, and beside it what must not be served; removed after the tests. */
export const BASE = realpathSync(mkdtempSync(join(tmpdir(), 'valk-aio-site-')));
test.after.always(() => rmSync(BASE, { recursive: true, force: true }));

/** The site's directory. */
export const ROOT = join(BASE, 'site');

/** The content of `large.bin`. */
export const LARGE = Buffer.alloc(200_000, 'abcdefghijklmnopqrstuvwxyz');

const OLD = new Date('2024-02-03T04:05:06.789Z');

/** Writes a file of the site, and dates it 2024-02-03 04:05:06.789 UTC. */
export function put(name: string, content: string | Uint8Array): void {
  const path = join(ROOT, name);
  writeFileSync(path, content);
  utimesSync(path, OLD, OLD);
}

mkdirSync(join(ROOT, 'with-index'), { recursive: true });
mkdirSync(join(ROOT, 'plain/inner'), { recursive: true });
mkdirSync(join(ROOT, '.hidden'));
mkdirSync(join(BASE, 'site-beside'));
writeFileSync(join(BASE, 'site-beside', 'secret.txt'), 'secret');
writeFileSync(join(BASE, 'secret.txt'), 'secret');
put('hello.txt', 'Hello, world!\n');
put('empty.txt', '');
put('large.bin', LARGE);
put('with-index/index.html', '<p>index</p>');
put('plain/a&b <i>"c\'.txt', 'x');
put('plain/10.txt', 'x'.repeat(2048));
put('plain/9.txt', 'x');
put('.hidden/file.txt', 'hidden');
put('.dotfile', 'hidden');
put('köln 100%.txt', 'Dom\n');
symlinkSync('hello.txt', join(ROOT, 'link-inside.txt'));
symlinkSync('../secret.txt', join(ROOT, 'link-out.txt'));
symlinkSync('../site-beside', join(ROOT, 'link-beside'));
symlinkSync('.dotfile', join(ROOT, 'link-hidden.txt'));
symlinkSync('loop', join(ROOT, 'loop'));
symlinkSync('nowhere', join(ROOT, 'dangling'));
execFileSync('mkfifo', [join(ROOT, 'fifo')]);

const site = createSite(ROOT);

/** Calls the site's handler. */
export async function get(path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<AioResponse> {
  return site(new Request(`https://x${path}`, { method, headers }));
}

/** Reads an answer's body to its end. */
export async function bytesOf(answer: AioResponse): Promise<Buffer> {
  const { body } = answer;
  if (body === null || body === undefined) return Buffer.alloc(0);
  if (typeof body === 'string') return Buffer.from(body);
  if (body instanceof Uint8Array) return Buffer.from(body);
  const chunks: Uint8Array[] = [];
  for await (const chunk of body as AsyncIterable<Uint8Array>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Reads an answer's body as UTF-8. */
export async function textOf(answer: AioResponse): Promise<string> {
  return (await bytesOf(answer)).toString();
}

/** One field of an answer. */
export function header(answer: AioResponse, name: string): string | undefined {
  const pairs = Object.entries(answer.headers ?? {}).map(([key, value]): [string, string] => [key, String(value)]);
  return new Headers(pairs).get(name) ?? undefined;
}

/** The files and directories below `BASE` that this process has open. */
export function openFiles(): string[] {
  const paths: string[] = [];
  for (const name of readdirSync('/proc/self/fd')) {
    try {
      paths.push(readlinkSync(`/proc/self/fd/${name}`));
    } catch {
      // The descriptor that listed the directory is gone by now.
    }
  }
  return paths.filter((path) => path.startsWith(BASE));
}
