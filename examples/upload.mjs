// Uploads of up to 1 GiB that are never in memory as a whole: with bodyMode 'stream' the handler is called as soon as
// the headers are there, and the client sends no faster than the handler reads.
import { createHash } from 'node:crypto';
import { start } from 'valk-aio';
import { options, stopOnSignal } from './common.mjs';

async function receive(request) {
  if (request.method !== 'POST') return { status: 405, headers: { allow: 'POST' } };
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of request.body ?? []) {
    hash.update(chunk);
    bytes += chunk.byteLength;
  }
  return Response.json({ bytes, sha256: hash.digest('hex') });
}

const aio = start({ maxRequestBodySize: 2 ** 30 });
const server = await aio.listen({ ...options, bodyMode: 'stream' }, receive);

stopOnSignal(aio);
console.log(server.url);
