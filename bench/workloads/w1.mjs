// W1: a GET that is answered with 13 bytes.
import { requestWorkload } from '../lib/requests.mjs';

const SHAPES = ['1x1', '10x10', '100x10', '500x10', '1x100', '100x100'];

export const workloads = SHAPES.map((shape) => {
  const [connections, streams] = shape.split('x').map(Number);
  return requestWorkload({
    name: `w1-${shape}`,
    what: `13-byte GET, ${connections} connections × ${streams} streams`,
    route: 'hello',
    path: '/',
    connections,
    streams,
  });
});
