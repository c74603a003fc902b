// Ours: a handler that returns a Response, with the light classes of 'valk-aio/globals'.
import 'valk-aio/globals';
import { readFileSync } from 'node:fs';
import { start } from 'valk-aio';

const [keyFile, certFile, connections] = process.argv.slice(2);
const aio = start({ maxConnections: Number(connections) });
const server = await aio.listen(
  { port: 0, key: readFileSync(keyFile), cert: readFileSync(certFile) },
  () => new Response('Hello, world\n', { headers: { 'content-type': 'text/plain' } }),
);
process.send(server.port);
