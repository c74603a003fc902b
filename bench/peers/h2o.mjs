import { writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { hasCommand } from '../../scripts/support.mjs';
import { FILE_ROUTES } from '../lib/peers.mjs';

const configuration = ({ port, key, cert, files, connections }) => `
user: ${userInfo().username}
num-threads: 1
http2-idle-timeout: 75
max-connections: ${Math.max(1024, connections + 50)}
hosts:
  default:
    listen:
      host: 127.0.0.1
      port: ${port}
      ssl:
        certificate-file: ${cert}
        key-file: ${key}
    paths:
      /:
        file.dir: ${files}
        file.index: [ 'index.html' ]
`;

export const peers = [
  {
    name: 'h2o',
    what: 'h2o, files',
    debian: 'h2o',
    routes: FILE_ROUTES,
    find: () => (hasCommand('h2o') ? null : 'the command h2o is not installed'),
    start: (context) => {
      const file = join(context.folder, 'h2o.conf');
      writeFileSync(file, configuration(context));
      return { command: 'h2o', args: ['-c', file] };
    },
  },
];
