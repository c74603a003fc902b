import type { AbortCause } from './exchange.js';

/**
 * The reason with which signals abort and bodies are cancelled when a stream ends early.
 *
 * @returns a `DOMException`: a `TimeoutError` after `handlerTimeoutMs`, else an `AbortError`
 */
export function abortReason(cause: AbortCause): DOMException {
  switch (cause) {
    case 'timeout':
      return new DOMException('The handler took longer than handlerTimeoutMs', 'TimeoutError');
    case 'stopped':
      return new DOMException('The server has been stopped', 'AbortError');
    case 'limit':
      return new DOMException('A limit ended the request', 'AbortError');
    case 'reset':
    case 'closed':
      return new DOMException('The client has left', 'AbortError');
  }
}
