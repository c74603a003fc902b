// Ours: hono, with the light classes of 'valk-aio/globals'.
import '../../dist/globals.js';
import { app } from './hono-app.mjs';
import { serve } from './valk-common.mjs';

await serve(app.fetch);
