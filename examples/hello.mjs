// A server in ten lines.
import { start } from 'valk-aio';
import { options, stopOnSignal } from './common.mjs';

const aio = start();
const server = await aio.listen(options, () => new Response('Hello, world!\n'));

stopOnSignal(aio);
console.log(server.url);
