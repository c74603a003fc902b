// hono on @hono/node-server, over node:http2.
import { createSecureServer } from 'node:http2';
import { serve } from '@hono/node-server';
import { cert, host, key, port, sessionMemoryMb } from './common.mjs';
import { app } from './hono-app.mjs';

const serverOptions = { key, cert, maxSessionMemory: sessionMemoryMb };
serve({ fetch: app.fetch, createServer: createSecureServer, serverOptions, port, hostname: host });
