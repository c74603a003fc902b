// Development: the defaults, 100 connections with 100 streams each.
import { start } from 'valk-aio';
import { options, stopOnSignal } from './common.mjs';

const aio = start();
const server = await aio.listen(options, () => Response.json(aio.config));

stopOnSignal(aio);
console.log(server.url);
