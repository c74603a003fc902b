import { hasCommand } from '../../scripts/support.mjs';
import { FILE_ROUTES } from '../lib/peers.mjs';

export const peers = [
  {
    name: 'nghttpd',
    what: 'nghttpd, files',
    debian: 'nghttp2-server',
    routes: FILE_ROUTES,
    find: () => (hasCommand('nghttpd') ? null : 'the command nghttpd is not installed'),
    start: ({ port, key, cert, files }) => ({
      command: 'nghttpd',
      args: ['--address=127.0.0.1', `--htdocs=${files}`, String(port), key, cert],
    }),
  },
];
