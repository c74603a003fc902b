// Builds and fetches what the suite needs, as far as this machine lets it.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildDeps, NoSource } from '../../scripts/build-deps.mjs';
import { installDependencies, prepare } from '../../scripts/prepare.mjs';
import { installPackages } from '../../scripts/setup.mjs';
import { hasCommand } from '../../scripts/support.mjs';
import { benchFolder } from './peers.mjs';

/** Builds ours with the libraries of a shipped addon, or with the system's where their sources cannot be had. */
export async function buildOurs(say) {
  say('building');
  await prepare('tools');
  try {
    process.env.VALK_DEPS_PREFIX ??= await buildDeps();
  } catch (error) {
    if (!(error instanceof NoSource)) throw error;
    say(`${error.message}\nours has the system's OpenSSL and nghttp2`);
  }
  await prepare('start');
  if (!hasCommand('h2load')) await installPackages(['nghttp2-client']);
}

/** Fetches what peers need; those that cannot be had tell so later. */
export async function fetchPeers(peers, say) {
  try {
    await installDependencies(benchFolder, 'bench-npm-ci');
  } catch (error) {
    say(`the peers' npm packages cannot be had: ${error.message}`);
  }
  const wanted = [];
  for (const peer of peers) {
    if (peer.debian && (await peer.find()) !== null) wanted.push(peer.debian);
  }
  if (wanted.length === 0) return;
  say(`installing ${wanted.join(' ')}`);
  if (!(await installPackages(wanted))?.ok) say('some of them could not be installed');
}

/** The certificate of all servers, ECDSA P-256, and the files that file servers serve. */
export function makeFiles(folder) {
  const key = join(folder, 'key.pem');
  const cert = join(folder, 'cert.pem');
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ...['-subj', '/CN=localhost', '-keyout', key, '-out', cert],
    ],
    { stdio: 'ignore' },
  );
  const files = join(folder, 'files');
  mkdirSync(files, { mode: 0o755 });
  for (const [name, body] of [
    ['index.html', 'Hello, world\n'],
    ['livez', 'Hello, world\n'],
    ['100k', 'x'.repeat(100 * 1024)],
    ['10m', 'x'.repeat(10 * 1024 * 1024)],
    ['1k', 'x'.repeat(1024)],
  ]) {
    writeFileSync(join(files, name), body);
  }
  return { key, cert, files };
}
