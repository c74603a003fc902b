// Ours: a static route, which never enters JavaScript.
import { readFileSync } from 'node:fs';
import { start } from 'valk-aio';

const [keyFile, certFile, connections] = process.argv.slice(2);
const aio = start({ maxConnections: Number(connections) });
const server = await aio.listen(
  {
    port: 0,
    key: readFileSync(keyFile),
    cert: readFileSync(certFile),
    staticRoutes: { '/': { headers: { 'content-type': 'text/plain' }, body: 'Hello, world\n' } },
  },
  () => ({ status: 404 }),
);
process.send(server.port);
