// node:http2's stream API, the way its documentation begins.
import { createSecureServer } from 'node:http2';
import { cert, hello, host, k100, key, m10, port, sessionMemoryMb, work } from './common.mjs';

const server = createSecureServer({ key, cert, maxSessionMemory: sessionMemoryMb });

function answer(stream, body, type = 'text/plain') {
  stream.respond({ ':status': 200, 'content-type': type, 'content-length': body.length });
  stream.end(body);
}

server.on('stream', (stream, headers) => {
  stream.on('error', () => {});
  switch (headers[':path']) {
    case '/100k':
      return answer(stream, k100);
    case '/10m':
      return answer(stream, m10);
    case '/busy':
      work();
      return answer(stream, hello);
    case '/echo': {
      const chunks = [];
      stream.on('data', (chunk) => chunks.push(chunk));
      return stream.on('end', () => answer(stream, Buffer.concat(chunks)));
    }
    case '/upload':
      stream.on('data', () => {});
      return stream.on('end', () => answer(stream, hello));
    default:
      return answer(stream, hello);
  }
});
server.listen(port, host);
