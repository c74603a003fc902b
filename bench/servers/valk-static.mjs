// Ours: static routes, which never enter JavaScript.
import { hello, k100, m10 } from './common.mjs';
import { serve } from './valk-common.mjs';

const headers = { 'content-type': 'text/plain' };
await serve(() => ({ status: 404 }), {
  staticRoutes: { '/': { headers, body: hello }, '/100k': { headers, body: k100 }, '/10m': { headers, body: m10 } },
});
