// The attacks (`npm run test:attacks`): one at a time, each with a server, an attacker and a client that measures.
export default {
  files: ['test/attacks/*.test.ts'],
  extensions: { ts: 'module' },
  nodeArguments: ['--import=tsx'],
  workerThreads: false,
  concurrency: 1,
  timeout: '5m',
};
