// W2: a POST of 1 KiB that is sent back.
import { requestWorkload } from '../lib/requests.mjs';

export const workloads = [
  requestWorkload({
    name: 'w2',
    what: 'echo of a 1 KiB POST, 100 connections × 10 streams',
    route: 'echo',
    path: '/echo',
    connections: 100,
    streams: 10,
    post: '1k',
  }),
];
