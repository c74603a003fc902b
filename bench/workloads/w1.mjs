// W1: a GET that is answered with 13 bytes, and one that has as many fields as a browser's.
import { requestWorkload } from '../lib/requests.mjs';

const SHAPES = ['1x1', '10x10', '100x10', '500x10', '1x100', '100x100'];

const FIELDS = [
  'accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8',
  'accept-encoding: gzip, deflate, br',
  'accept-language: en-GB,en;q=0.5',
  'authorization: Bearer c2VjcmV0LXRva2VuLW9mLXNvbWVvbmU',
  'cookie: session=5f2b8c1e9d; theme=dark',
  'x-request-id: 5f2b8c1e9d0a4b7c',
  'referer: https://127.0.0.1/somewhere',
];

const byShape = SHAPES.map((shape) => {
  const [connections, streams] = shape.split('x').map(Number);
  return requestWorkload({
    name: `w1-${shape}`,
    what: `13-byte GET, ${connections} connections × ${streams} streams`,
    route: 'hello',
    path: '/',
    connections,
    streams,
    // One request at a time keeps no core busy: there the time counts that it takes.
    bars: shape === '1x1' ? 'p50 µs' : undefined,
  });
});

const withFields = requestWorkload({
  name: 'w1-fields',
  what: '13-byte GET with eight header fields, 100 connections × 10 streams',
  route: 'hello',
  path: '/',
  connections: 100,
  streams: 10,
  // And user-agent, which h2load sends.
  fields: FIELDS,
});

export const workloads = [...byShape, withFields];
