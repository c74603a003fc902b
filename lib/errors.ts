/**
 * A stable code. `ERR_VALK_AIO_CONFIG`: a bad option. `ERR_VALK_AIO_TLS`: a key or certificate that is unreadable, or the
 * two do not belong together. `ERR_VALK_AIO_STOPPED`: the system has been stopped, or is stopping. Others are named
 * where they are thrown.
 */
export type AioErrorCode = `ERR_VALK_AIO_${string}`;

/**
 * An error of this package at run time. `code` is stable; the message is for people and may change.
 *
 * Errors of the operating system keep the system's own codes (`EADDRINUSE`, `EMFILE`) and are not of this class.
 */
export class AioError extends Error {
  /** Which error it is, for programs. */
  readonly code: AioErrorCode;

  /**
   * @param code - a stable code
   * @param message - a sentence for people
   * @param options - `cause`, as for every `Error`
   */
  constructor(code: AioErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }

  static {
    // On the prototype, so that it stands in the stack's first line and is no enumerable field of each error.
    defineName(AioError, 'AioError');
  }
}

/**
 * A bad option, `code` `ERR_VALK_AIO_CONFIG` (specification, section 1). Nothing has been started when it is thrown.
 */
export class AioConfigError extends AioError {
  declare readonly code: 'ERR_VALK_AIO_CONFIG';

  /**
   * The option that is wrong, always the first word of the message; `config`, `options` or `memory` where the argument
   * as a whole is wrong.
   */
  readonly field: string;

  /**
   * What stood there. Only a number is enumerable: a log line that shows the error must not show a private key.
   */
  declare readonly value: unknown;

  /**
   * @param message - a sentence whose first word is the option's name
   * @param value - what stood there
   * @param options - `cause`, as for every `Error`
   */
  constructor(message: string, value: unknown, options?: ErrorOptions) {
    super('ERR_VALK_AIO_CONFIG', message, options);
    this.field = message.split(/\s/, 1)[0] ?? '';
    Object.defineProperty(this, 'value', { value, enumerable: typeof value === 'number' });
  }

  static {
    defineName(AioConfigError, 'AioConfigError');
  }
}

function defineName(type: { readonly prototype: Error }, name: string): void {
  Object.defineProperty(type.prototype, 'name', { value: name, configurable: true, writable: true });
}
