// node:http2's stream API, the way its documentation begins.
import { readFileSync } from 'node:fs';
import { createSecureServer } from 'node:http2';

const [keyFile, certFile] = process.argv.slice(2);
const server = createSecureServer({ key: readFileSync(keyFile), cert: readFileSync(certFile) });
server.on('stream', (stream) => {
  stream.respond({ ':status': 200, 'content-type': 'text/plain', 'content-length': 13 });
  stream.end('Hello, world\n');
});
server.listen(0, '127.0.0.1', () => process.send(server.address().port));
