// Server-sent events: an async iterable is a streaming body. An open stream holds no arena, so that hundreds of them
// leave the server free for other requests. When the client leaves, the generator is ended.
import { setTimeout } from 'node:timers/promises';
import { start } from 'valk-aio';
import { options, stopOnSignal } from './common.mjs';

async function* ticks() {
  for (let id = 1; ; id += 1) {
    yield `id: ${id}\ndata: ${new Date().toISOString()}\n\n`;
    await setTimeout(1000);
  }
}

const aio = start();
const server = await aio.listen(options, () => ({
  headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-store' },
  body: ticks(),
}));

// These streams never end by themselves: after a second they are reset.
stopOnSignal(aio, { timeoutMs: 1000 });
console.log(server.url);
