import { missingFile, packageFile, program } from '../lib/javascript.mjs';
import { ROUTES } from '../lib/peers.mjs';

const bun = packageFile('@oven', 'bun-linux-x64', 'bin', 'bun');

export const peers = [
  {
    name: 'bun',
    what: 'Bun.serve, http2: true',
    routes: ROUTES,
    find: () => missingFile(bun),
    start: (context) => program('bun.mjs', context, bun),
  },
];
