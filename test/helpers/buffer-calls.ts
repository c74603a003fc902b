/** How often |run| calls a method of Buffer that its types leave out. */
export function countCalls(method: 'latin1Slice' | 'latin1Write' | 'utf8Write', run: () => void): number {
  const prototype = Buffer.prototype as unknown as Record<string, (...args: unknown[]) => unknown>;
  const original = prototype[method] as (...args: unknown[]) => unknown;
  let calls = 0;
  const define = (value: (...args: unknown[]) => unknown) =>
    Object.defineProperty(prototype, method, { configurable: true, writable: true, value });
  define(function count(this: unknown, ...args: unknown[]) {
    calls += 1;
    return original.apply(this, args);
  });
  try {
    run();
  } finally {
    define(original);
  }
  return calls;
}
