/** The platform's own classes, for tests that put others in their place after this was loaded. */
export const NativeRequest = globalThis.Request;
export const NativeResponse = globalThis.Response;
export const nativeFetch = globalThis.fetch;
