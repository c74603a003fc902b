// The fetch handler that Deno, Bun and ours are measured with.
import { hello, k100, m10, work } from './common.mjs';

const text = { headers: { 'content-type': 'text/plain' } };

/** The path of an address, without making a URL of it. */
const pathOf = (url) => url.slice(url.indexOf('/', 8));

export function handle(request) {
  switch (pathOf(request.url)) {
    case '/100k':
      return new Response(k100, text);
    case '/10m':
      return new Response(m10, text);
    case '/busy':
      work();
      return new Response(hello, text);
    case '/echo':
      return request.arrayBuffer().then((body) => new Response(body, text));
    case '/upload':
      return drain(request);
    default:
      return new Response(hello, text);
  }
}

async function drain(request) {
  for await (const _ of request.body ?? []);
  return new Response(hello, text);
}
