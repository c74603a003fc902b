// One hono application, for the server it was made for and for ours.
import { Hono } from 'hono';
import { hello, k100, m10, work } from './common.mjs';

export const app = new Hono();
const text = { 'content-type': 'text/plain' };

app.get('/', (c) => c.text(hello));
app.get('/100k', (c) => c.body(k100, 200, text));
app.get('/10m', (c) => c.body(m10, 200, text));
app.get('/livez', (c) => c.text(hello));
app.get('/busy', (c) => {
  work();
  return c.text(hello);
});
app.post('/echo', async (c) => c.body(await c.req.arrayBuffer(), 200, text));
app.post('/upload', async (c) => {
  await c.req.arrayBuffer();
  return c.text(hello);
});
