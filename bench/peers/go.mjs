import { join } from 'node:path';
import { hasCommand, root, run } from '../../scripts/support.mjs';
import { benchFolder, ROUTES } from '../lib/peers.mjs';

const binary = join(root, 'build-native', 'bench', 'go-server');

export const peers = [
  {
    name: 'go',
    what: 'Go net/http',
    debian: 'golang-go',
    routes: ROUTES,
    find: async () => {
      if (!hasCommand('go')) return 'the command go is not installed';
      const { ok, log } = await run(
        'bench-go',
        'go',
        ['build', '-o', binary, join(benchFolder, 'servers', 'server.go')],
        {
          env: { GOCACHE: join(root, 'build-native', 'bench', 'go-cache'), GO111MODULE: 'off' },
        },
      );
      return ok ? null : `it could not be built, see ${log}`;
    },
    start: ({ port, key, cert }) => ({ command: binary, args: [String(port), cert, key] }),
  },
];
