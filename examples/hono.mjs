// Hono's fetch handler, unchanged.
import { Hono } from 'hono';
import { start } from 'valk-aio';
import { options, stopOnSignal } from './common.mjs';

const app = new Hono();
app.get('/', (c) => c.text('Hello from Hono!\n'));
app.get('/users/:name', (c) => c.json({ name: c.req.param('name') }));
app.post('/echo', async (c) => c.json(await c.req.json()));

const aio = start();
const server = await aio.listen(options, app.fetch);

stopOnSignal(aio);
console.log(server.url);
