// Ours, with each kind of handler.
import { program } from '../lib/javascript.mjs';
import { FILE_ROUTES, ROUTES } from '../lib/peers.mjs';

const ours = (name, what, routes = ROUTES) => ({
  name: `valk-${name}`,
  what: `valk-aio, ${what}`,
  isOurs: true,
  routes,
  find: () => null,
  start: (context) => program(`valk-${name}.mjs`, context),
});

export const peers = [
  ours('plain', 'plain objects'),
  ours('response', 'Response, valk-aio/globals'),
  ours('response-native', "Node's own Response"),
  ours('hono', 'hono, valk-aio/globals'),
  ours('headers', 'method, 8 headers, signal; sets 3 headers', ['hello']),
  ours('static', 'static routes', FILE_ROUTES),
  {
    ...ours('loop', "plain objects, ioThreads 0: the engine on JavaScript's thread", ['hello']),
    ioThreads: 0,
    start: (context) => program('valk-plain.mjs', { ...context, ioThreads: 0 }),
  },
];
