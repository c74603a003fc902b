// Ours: a fetch handler that returns Node's own Response.
import { handle } from './fetch.mjs';
import { serve } from './valk-common.mjs';

await serve(handle);
