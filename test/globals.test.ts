import test from 'ava';

const NativeRequest = globalThis.Request;
const NativeResponse = globalThis.Response;
const nativeFetched = new NativeRequest('https://localhost/');
const nativeAnswer = new NativeResponse('native');

await import('valk-aio/globals');
