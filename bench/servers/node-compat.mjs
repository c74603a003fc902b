// node:http2's compatibility API.
import { createSecureServer } from 'node:http2';
import { cert, hello, host, k100, key, m10, port, sessionMemoryMb, work } from './common.mjs';

function answer(response, body) {
  response.writeHead(200, { 'content-type': 'text/plain', 'content-length': body.length });
  response.end(body);
}

const server = createSecureServer({ key, cert, maxSessionMemory: sessionMemoryMb }, (request, response) => {
  switch (request.url) {
    case '/100k':
      return answer(response, k100);
    case '/10m':
      return answer(response, m10);
    case '/busy':
      work();
      return answer(response, hello);
    case '/echo': {
      const chunks = [];
      request.on('data', (chunk) => chunks.push(chunk));
      return request.on('end', () => answer(response, Buffer.concat(chunks)));
    }
    case '/upload':
      request.on('data', () => {});
      return request.on('end', () => answer(response, hello));
    default:
      return answer(response, hello);
  }
});
server.listen(port, host);
