/**
 * What an object that stands for one of the platform's own (a lazy `Request` or `Response`) needs to share with it.
 */

/**
 * Gives |prototype| every member of the platform's class that it has none of its own for: `mode`, `cache`, whatever comes
 * with later versions, and the symbols under which the platform keeps its state, where it does.
 *
 * @param prototype - the prototype of the objects that stand in
 * @param nativePrototype - that of the platform's class
 * @param example - any of the platform's objects
 * @param native - gives the platform's object behind one that stands in
 */
export function delegateMembers(
  prototype: object,
  nativePrototype: object,
  example: object,
  native: (object: unknown) => object | undefined,
): void {
  for (const name of Object.getOwnPropertyNames(nativePrototype)) {
    if (name === 'constructor' || Object.hasOwn(prototype, name)) continue;
    const descriptor = Object.getOwnPropertyDescriptor(nativePrototype, name) ?? {};
    if (descriptor.get !== undefined) defineGetter(prototype, name, native);
    else if (typeof descriptor.value === 'function') defineMethod(prototype, name, descriptor.value, native);
  }
  for (const symbol of Object.getOwnPropertySymbols(example)) defineGetter(prototype, symbol, native);
}

function defineGetter(prototype: object, name: PropertyKey, native: (object: unknown) => object | undefined): void {
  Object.defineProperty(prototype, name, {
    configurable: true,
    enumerable: true,
    get() {
      return Reflect.get(native(this) ?? {}, name);
    },
  });
}

function defineMethod(
  prototype: object,
  name: string,
  method: (...args: unknown[]) => unknown,
  native: (object: unknown) => object | undefined,
): void {
  Object.defineProperty(prototype, name, {
    configurable: true,
    enumerable: true,
    writable: true,
    value(...args: unknown[]) {
      return method.apply(native(this), args);
    },
  });
}

/** Makes |target| hold what |source| holds. */
export function replaceFields(target: Headers, source: Headers): void {
  for (const name of [...target.keys()]) target.delete(name);
  for (const [name, value] of source) target.append(name, value);
}
