import { existsSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { hasCommand } from '../../scripts/support.mjs';
import { FILE_ROUTES } from '../lib/peers.mjs';

// Debian puts it where an ordinary user's PATH does not look.
const command = existsSync('/usr/sbin/nginx') ? '/usr/sbin/nginx' : 'nginx';

const configuration = ({ port, key, cert, files, folder, connections }) => `
daemon off;
worker_processes 1;
${process.getuid() === 0 ? `user ${userInfo().username};` : ''}
pid ${folder}/nginx.pid;
error_log ${folder}/nginx-error.log warn;
worker_rlimit_nofile ${connections * 2 + 1024};
events { worker_connections ${connections + 512}; }
http {
  access_log off;
  default_type text/plain;
  sendfile on;
  open_file_cache max=100;
  keepalive_requests 1000000000;
  client_body_temp_path ${folder}/nginx-body;
  proxy_temp_path ${folder}/nginx-proxy;
  fastcgi_temp_path ${folder}/nginx-fastcgi;
  uwsgi_temp_path ${folder}/nginx-uwsgi;
  scgi_temp_path ${folder}/nginx-scgi;
  server {
    listen 127.0.0.1:${port} ssl http2 backlog=4096;
    ssl_certificate ${cert};
    ssl_certificate_key ${key};
    ssl_protocols TLSv1.3;
    ssl_session_cache shared:TLS:10m;
    ssl_session_tickets on;
    root ${files};
    index index.html;
  }
}
`;

export const peers = [
  {
    name: 'nginx',
    what: 'nginx, files',
    debian: 'nginx-light',
    routes: FILE_ROUTES,
    find: () => (existsSync(command) || hasCommand(command) ? null : 'the command nginx is not installed'),
    start: (context) => {
      const file = join(context.folder, 'nginx.conf');
      writeFileSync(file, configuration(context));
      return { command, args: ['-p', context.folder, '-c', file, '-e', `${context.folder}/nginx-error.log`] };
    },
  },
];
