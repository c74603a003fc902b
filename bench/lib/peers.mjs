// The servers that can be measured: one module each in bench/peers/.
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const benchFolder = dirname(dirname(fileURLToPath(import.meta.url)));

/** Loads all peers; |names| picks some of them, in the order of the folder. */
export async function loadPeers(names) {
  const all = [];
  for (const file of readdirSync(join(benchFolder, 'peers')).sort()) {
    const { peers } = await import(`../peers/${file}`);
    all.push(...peers);
  }
  const unknown = (names ?? []).filter((name) => !all.some((peer) => peer.name === name));
  if (unknown.length > 0) {
    throw new Error(`no server is called ${unknown.join(', ')}; there are ${all.map((peer) => peer.name).join(', ')}`);
  }
  return names ? all.filter((peer) => names.includes(peer.name)) : all;
}

/** A peer's own words: what the routes of bench/README.md are for it. */
export const ROUTES = Object.freeze(['hello', 'k100', 'm10', 'echo', 'upload', 'busy', 'live']);
export const FILE_ROUTES = Object.freeze(['hello', 'k100', 'm10', 'live']);
