// fastify on http2.
import Fastify from 'fastify';
import { cert, hello, host, k100, key, m10, port, sessionMemoryMb, work } from './common.mjs';

const app = Fastify({
  http2: true,
  https: { key, cert, maxSessionMemory: sessionMemoryMb },
  bodyLimit: 16 * 1024 * 1024,
});
app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
app.get('/', (_request, reply) => reply.type('text/plain').send(hello));
app.get('/100k', (_request, reply) => reply.type('text/plain').send(k100));
app.get('/10m', (_request, reply) => reply.type('text/plain').send(m10));
app.get('/livez', (_request, reply) => reply.type('text/plain').send(hello));
app.get('/busy', (_request, reply) => {
  work();
  return reply.type('text/plain').send(hello);
});
app.post('/echo', (request, reply) => reply.type('text/plain').send(request.body));
app.post('/upload', (_request, reply) => reply.type('text/plain').send(hello));
await app.listen({ port, host });
