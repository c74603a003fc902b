// Many clients: two numbers are set, the rest follows from them. tcpBufferPoolSize is 14,500 and arenaPoolSize 2,000.
import { start } from 'valk-aio';
import { options, stopOnSignal } from './common.mjs';

const aio = start({ maxConnections: 1000, maxConcurrentStreams: 100 });
const server = await aio.listen(options, () => Response.json(aio.config));

stopOnSignal(aio);
console.log(server.url);
