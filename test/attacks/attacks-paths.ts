import type { Attack } from './attacks.js';
import { block, headers, Peer } from './peer.js';
import { keepAttacking } from './strategy.js';

/** Stands in every file that must not be served. */
export const SECRET = 'what nobody may see';

const UP = [
  '..',
  '%2e%2e',
  '.%2e',
  '%2E.',
  '..%2f',
  '%2e%2e%2f',
  '..%5c',
  '..\\',
  '%252e%252e',
  '..;',
  '....',
  '..%00',
];
const TARGETS = ['secret.txt', 'site-beside/secret.txt'];

const PATHS = [
  ...UP.flatMap((up) => TARGETS.flatMap((file) => [`/${up}/${file}`, `/inner/${up}/${up}/${file}`, `//${up}/${file}`])),
  ...['/etc/passwd', '//etc/passwd', '///etc/passwd', '/root/etc/passwd', '/root', '/root/', '/file:///etc/passwd'],
  ...['/link.txt', '/absolute.txt', '/beside/secret.txt', '/beside', '/beside/', '/loop', '/hidden.txt'],
  ...['/.secret', '/%2esecret', '/.hidden/secret.txt', '/%2ehidden/secret.txt', '/inner/../.secret', '/./.secret'],
  ...[
    '/good.txt%00',
    '/%00',
    '/good.txt%00.html',
    '/good.txt/',
    '/good.txt/../../secret.txt',
    '/%c0%ae%c0%ae/secret.txt',
  ],
  ...[
    '/%',
    '/%zz',
    '/%ff',
    '/good.txt\0',
    '/../site-beside/secret.txt?x',

    '/%2f..%2fsecret.txt',
  ],
  ...[
    'secret.txt',
    '../secret.txt',
    '*',
    '',
    `/${'../'.repeat(500)}etc/passwd`,
    `/${'a/'.repeat(2000)}`,
    `/${'a'.repeat(5000)}`,
  ],
];

export const paths: Record<string, Attack> = {
  'paths that lead out of the directory': (arena) =>
    keepAttacking(arena, async () => {
      const peer = await Peer.open(arena.port, arena.report, { window: 2 ** 30 });
      if (peer === undefined) return;
      peer.keepsBodies = true;
      for (const path of PATHS) {
        const count = arena.report.statuses[200] ?? 0;
        await peer.send(headers(peer.stream(), block(path)));
        arena.report.sent++;
        await peer.when(() => peer.answers + peer.resets >= peer.streams);
        if (peer.closed) throw new Error(`the server closed at ${path}`);
        if ((arena.report.statuses[200] ?? 0) > count) throw new Error(`200 for ${path}`);
      }
      if (peer.bodies.includes(SECRET) || peer.bodies.includes('root:')) throw new Error('the secret was served');
      peer.leave();
    }),
};
