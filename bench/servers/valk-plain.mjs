// Ours: a handler that returns plain objects.
import { hello, k100, m10, work } from './common.mjs';
import { serve } from './valk-common.mjs';

const headers = { 'content-type': 'text/plain' };
const pathOf = (url) => url.slice(url.indexOf('/', 8));

async function drain(request) {
  for await (const _ of request.body ?? []);
  return { headers, body: hello };
}

await serve((request) => {
  switch (pathOf(request.url)) {
    case '/100k':
      return { headers, body: k100 };
    case '/10m':
      return { headers, body: m10 };
    case '/busy':
      work();
      return { headers, body: hello };
    case '/echo':
      return request.arrayBuffer().then((body) => ({ headers, body }));
    case '/upload':
      return drain(request);
    default:
      return { headers, body: hello };
  }
});
