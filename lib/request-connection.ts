import { inspect } from 'node:util';
import type { RequestSource } from './exchange.js';
import type { ConnectionInfo } from './types.js';

/** A handler's second argument: asks the engine only when it is touched. */
export class ConnectionView implements ConnectionInfo {
  readonly #source: Pick<RequestSource, 'connection'>;

  constructor(source: Pick<RequestSource, 'connection'>) {
    this.#source = source;
  }

  get remoteAddress(): string {
    return this.#source.connection.remoteAddress;
  }

  get remotePort(): number {
    return this.#source.connection.remotePort;
  }

  get localAddress(): string {
    return this.#source.connection.localAddress;
  }

  get localPort(): number {
    return this.#source.connection.localPort;
  }

  get tls(): ConnectionInfo['tls'] {
    return this.#source.connection.tls;
  }

  /** Getters are no own properties: JSON and logs would show an empty object. */
  toJSON(): ConnectionInfo {
    const { remoteAddress, remotePort, localAddress, localPort, tls } = this;
    return { remoteAddress, remotePort, localAddress, localPort, tls };
  }

  [inspect.custom](): ConnectionInfo {
    return this.toJSON();
  }
}
