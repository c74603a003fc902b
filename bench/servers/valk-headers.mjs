// Ours: a handler that reads the method, eight headers and the signal, and sets three headers.
import { hello } from './common.mjs';
import { serve } from './valk-common.mjs';

// Those of w1-fields; other workloads send the first alone.
const NAMES = [
  'user-agent',
  'accept',
  'accept-encoding',
  'accept-language',
  'authorization',
  'cookie',
  'x-request-id',
  'referer',
];

await serve((request) => {
  let found = 0;
  for (const name of NAMES) if (request.headers.get(name) !== null) found += 1;
  if (request.method !== 'GET' || request.signal.aborted) return { status: 405 };
  return {
    headers: { 'content-type': 'text/plain', 'cache-control': 'no-store', 'x-found': String(found) },
    body: hello,
  };
});
