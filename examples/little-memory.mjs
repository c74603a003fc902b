// Little memory: fewer streams need fewer buffers, and arenas are smaller and fewer. planMemory() says what that takes
// at most; configForMemory() goes the other way, from a number of bytes to a configuration.
import { planMemory, start } from 'valk-aio';
import { options, stopOnSignal } from './common.mjs';

const aio = start({
  maxConnections: 50,
  maxConcurrentStreams: 20,
  arenaSize: 16 * 1024 * 1024, // instead of 64 MiB
  arenaPoolSize: 50, // one for each connection instead of two
});
const server = await aio.listen(options, () => Response.json({ ...aio.config, ...planMemory(aio.config) }));

stopOnSignal(aio);
console.log(server.url);
