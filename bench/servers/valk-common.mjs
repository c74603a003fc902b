// How ours are started: what the workload asks for, defaults for the rest.
import { start } from '../../dist/index.js';
import { cert, connections, host, ioThreads, key, listen, port, queueTimeoutMs, streams } from './common.mjs';

/** Starts the server and ends it, with its connections, at SIGTERM. */
export async function serve(handler, options = {}) {
  const aio = start({
    // Room for the health checks beside the load.
    maxConnections: connections + 50,
    maxConcurrentStreams: Math.max(100, streams),
    maxRequestBodySize: 16 * 1024 * 1024,
    queueTimeoutMs,
    ioThreads,
  });
  await aio.listen({ port, host, key, cert, health: { live: '/livez' }, ...listen, ...options }, handler);
  process.once('SIGTERM', () => aio.stop({ timeoutMs: 200 }));
}
