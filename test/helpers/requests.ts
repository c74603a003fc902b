import { createRequest } from '../../lib/request.js';
import { FakeExchange, type FakeRequest } from './fake-exchange.js';

/** A request over an exchange that is a fake. */
export function make(request: FakeRequest = {}): { exchange: FakeExchange; request: ReturnType<typeof createRequest> } {
  const exchange = new FakeExchange(request);
  return { exchange, request: createRequest(exchange) };
}

/** A request with fields of several kinds. */
export const POST = {
  method: 'POST',
  path: '/form?a=b',
  fields: [
    ['content-type', 'text/plain'],
    ['x-twice', '1'],
    ['x-twice', '2'],
    ['cookie', 'a=b; c=d'],
  ],
} as const;
