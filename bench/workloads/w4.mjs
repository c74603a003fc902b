// W4: answers and uploads of 10 MiB.
import { requestWorkload } from '../lib/requests.mjs';

const bytes = 10 * 1024 * 1024;
// node:http2 ends streams of a session that has 10 MB under way: what is sent here needs more, as its users find out.
const sessionMemoryMb = 100;

export const workloads = [
  requestWorkload({
    name: 'w4-down',
    what: '10 MiB answers, 4 connections × 4 streams',
    route: 'm10',
    path: '/10m',
    connections: 4,
    streams: 4,
    bytes,
    settings: { sessionMemoryMb },
  }),
  requestWorkload({
    name: 'w4-up',
    what: '10 MiB uploads, 4 connections × 4 streams',
    route: 'upload',
    path: '/upload',
    connections: 4,
    streams: 4,
    post: '10m',
    bytes,
    // Ours, as its users would take large uploads.
    settings: { sessionMemoryMb, listen: { bodyMode: 'stream' } },
  }),
];
