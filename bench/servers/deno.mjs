// Deno.serve.
import { cert, host, key, port } from './common.mjs';
import { handle } from './fetch.mjs';

Deno.serve({ hostname: host, port, key, cert, onListen() {} }, handle);
