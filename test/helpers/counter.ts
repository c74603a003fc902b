import type { AioStats } from 'valk-aio';

/** A figure of `stats()` by its path, such as `connection.closed.flood`. */
export function counter(stats: AioStats, path: string): number {
  let value: unknown = stats;
  for (const name of path.split('.')) value = (value as Record<string, unknown>)[name];
  if (typeof value !== 'number') throw new Error(`no counter is called ${path}`);
  return value;
}
