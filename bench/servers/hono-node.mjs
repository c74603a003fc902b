// hono on @hono/node-server, over node:http2.
import { createSecureServer } from 'node:http2';
import { serve } from '@hono/node-server';
import { cert, host, key, port } from './common.mjs';
import { app } from './hono-app.mjs';

serve({ fetch: app.fetch, createServer: createSecureServer, serverOptions: { key, cert }, port, hostname: host });
