// Ours: a fetch handler that returns a Response, with the light classes of 'valk-aio/globals'.
import '../../dist/globals.js';
import { handle } from './fetch.mjs';
import { serve } from './valk-common.mjs';

await serve(handle);
