/**
 * `import 'valk-aio/globals'` puts light subclasses in place of the global `Request` and `Response`, before the modules
 * that use them: requests are then made lazily on every version of Node.js, and a `Response` that goes straight back to
 * the server is never built in full. Importing it again changes nothing.
 *
 * `instanceof` holds between the light classes and the platform's own in both directions. Where the platform's `fetch`
 * would not take a lazy request (Node 24), it is replaced by one that does.
 *
 * @module
 */
import { adoptRequestClass, lazyRequestsPass, unwrapRequest } from './request.js';
import { LightResponse } from './response-light.js';

const NativeRequest = globalThis.Request;
const nativeFetch = globalThis.fetch;

/** The platform's `Request`, which takes lazy requests for its own. */
class LightRequest extends NativeRequest {
  constructor(input: ConstructorParameters<typeof Request>[0], init?: RequestInit) {
    super(unwrapRequest(input), init);
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: a subclass inherits this, and asks for itself
    if (this === LightRequest) return value instanceof NativeRequest;
    // biome-ignore lint/complexity/noThisInStatic: as above
    return Function.prototype[Symbol.hasInstance].call(this, value);
  }
}
Object.defineProperty(LightRequest, 'name', { value: 'Request' });

function replaceGlobal(name: 'Request' | 'Response' | 'fetch', value: unknown): void {
  Object.defineProperty(globalThis, name, { value, configurable: true, enumerable: false, writable: true });
}

adoptRequestClass(LightRequest);
replaceGlobal('Request', LightRequest);
replaceGlobal('Response', LightResponse);
if (!lazyRequestsPass) {
  replaceGlobal('fetch', function fetch(input: Parameters<typeof globalThis.fetch>[0], init?: RequestInit) {
    return nativeFetch(unwrapRequest(input), init);
  });
}
