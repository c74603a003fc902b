// Bun.serve with HTTP/2.
import { cert, host, key, port } from './common.mjs';
import { handle } from './fetch.mjs';

Bun.serve({
  hostname: host,
  port,
  tls: { key, cert },
  http2: true,
  idleTimeout: 75,
  maxRequestBodySize: 16 * 1024 * 1024,
  fetch: handle,
});
