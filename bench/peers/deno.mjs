import { missingFile, packageFile, program } from '../lib/javascript.mjs';
import { ROUTES } from '../lib/peers.mjs';

const deno = packageFile('@deno', 'linux-x64-glibc', 'deno');

export const peers = [
  {
    name: 'deno',
    what: 'Deno.serve',
    routes: ROUTES,
    find: () => missingFile(deno),
    start: (context) =>
      program('deno.mjs', context, deno, ['run', '--allow-all', '--no-config', '--no-lock', '--quiet']),
  },
];
