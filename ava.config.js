export default {
  files: ['test/**/*.test.ts', '!test/attacks/**'],
  extensions: { ts: 'module' },
  nodeArguments: ['--import=tsx'],
  // A process a file: a crash of the native code then fails that file alone.
  workerThreads: false,
  // The tests drive a server and its client on the same cores.
  concurrency: 1,
  timeout: '3m',
};
