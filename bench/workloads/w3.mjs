// W3: answers of 100 KiB.
import { requestWorkload } from '../lib/requests.mjs';

export const workloads = [
  requestWorkload({
    name: 'w3',
    what: '100 KiB answers, 100 connections × 10 streams',
    route: 'k100',
    path: '/100k',
    connections: 100,
    streams: 10,
    bytes: 100 * 1024,
  }),
];
