/**
 * A look inside the platform's own responses. A body that was given whole is known there, and spares reading a stream,
 * where the state is kept under a symbol (Node 20 and 22). Elsewhere nothing is found, and the stream is read.
 */

interface NativeBody {
  readonly source: unknown;
  readonly stream: { readonly locked: boolean };
}

type State = { readonly body?: NativeBody | null } | undefined;

const NativeResponse = globalThis.Response;

const stateSymbol = Object.getOwnPropertySymbols(new NativeResponse('probe')).find((symbol) => {
  const state = stateOf(new NativeResponse('probe'), symbol);
  return state?.body?.source === 'probe';
});

function stateOf(response: Response, symbol: symbol): State {
  return (response as unknown as Record<symbol, State>)[symbol];
}

/** Bodies that were taken past their stream, which does not know. */
const taken = new WeakSet<NativeBody>();

/** Whether a value is one of the platform's own responses. */
export function isNativeResponse(value: object): value is Response {
  return value instanceof NativeResponse;
}

/**
 * Takes the body of a response that was made with a string or bytes.
 *
 * @returns `undefined` where the stream has to be read
 * @throws TypeError when it was taken before
 */
export function takeNativeBody(response: Response): string | Uint8Array | undefined {
  if (stateSymbol === undefined) return undefined;
  const body = stateOf(response, stateSymbol)?.body;
  if (body === undefined || body === null) return undefined;
  const { source } = body;
  if (typeof source !== 'string' && !(source instanceof Uint8Array)) return undefined;
  if (taken.has(body)) throw new TypeError('The response has been sent already');
  // The stream's reader will say what is wrong.
  if (response.bodyUsed || body.stream.locked) return undefined;
  taken.add(body);
  return source;
}
