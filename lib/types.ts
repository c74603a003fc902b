import type { ReadableStream } from 'node:stream/web';

/** What is known of a connection's other end: a handler's second argument (specification, section 3). */
export interface ConnectionInfo {
  /** The client's address: IPv4 or IPv6 as text. */
  readonly remoteAddress: string;
  /** The client's port. */
  readonly remotePort: number;
  /** The address that the client reached. */
  readonly localAddress: string;
  /** The port that the client reached. */
  readonly localPort: number;
  /** What TLS agreed on. */
  readonly tls: {
    /** The protocol's version: `TLSv1.2`, `TLSv1.3`. */
    readonly version: string;
    /** The suite's name, as OpenSSL has it. */
    readonly cipher: string;
    /** The server name that the client asked for (SNI), if it named one. */
    readonly servername: string | undefined;
    /** Whether the client showed a certificate that the server's `ca` vouches for (with `requestCert`). */
    readonly authorized: boolean;
    /** With `requestCert` and `rejectUnauthorized: false`: why the client is not authorized, such as `CERT_HAS_EXPIRED`. */
    readonly authorizationError: string | undefined;
    /** The client's certificate, if it was asked for and showed one. */
    readonly peerCertificate: PeerCertificate | undefined;
  };
}

/** A client's certificate, with the members of node:crypto's `X509Certificate`, which takes `raw` for all that is not here. */
export interface PeerCertificate {
  /** A line for each part: `CN=…`. */
  readonly subject: string;
  /** Who signed it, as `subject`. */
  readonly issuer: string;
  /** In hexadecimal. */
  readonly serialNumber: string;
  /** SHA-256, in hexadecimal with colons. */
  readonly fingerprint256: string;
  /** As OpenSSL writes dates: `Nov 26 00:00:00 2026 GMT`. */
  readonly validFrom: string;
  /** The last moment of its validity, as `validFrom`. */
  readonly validTo: string;
  /** DER. */
  readonly raw: Buffer;
}

/**
 * A request: a WHATWG `Request` (`instanceof Request` holds, and `new Request(request, init)` works) whose parts are made
 * when they are first touched.
 *
 * It gives its own values or throws, however late it is read. With `bodyMode: 'buffer'` the body goes with the answer:
 * reading it after that rejects with an `AioError`. `clone()` takes the body out at once.
 */
export interface AioRequest extends Request {
  /** The body as bytes of its own. Rejects with a `TypeError` when the body was read before. */
  bytes(): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * The fields after the body (RFC 9110, section 6.5), always the same object: empty until the body has ended, and
   * filled when it is read after that.
   */
  readonly trailers: Headers;
}

/** A header's value: an array gives a field for each of its items, `undefined` gives none. */
export type HeaderValue = string | number | undefined | readonly (string | number)[];

/**
 * Header fields: names to values, or pairs, or `Headers`.
 *
 * Names are RFC 9110 tokens and are sent in lower case. Values hold visible characters, spaces and tabs up to U+00FF
 * (sent as Latin-1), no CR, LF or NUL; spaces around them are dropped. Fields of one connection (`connection`,
 * `keep-alive`, `proxy-connection`, `transfer-encoding`, `upgrade`) are dropped: HTTP/2 has none (RFC 9113, section 8.2.2).
 */
export type HeadersInput = Iterable<readonly [string, HeaderValue]> | { readonly [name: string]: HeaderValue };

/** A piece of a streamed body. An empty one is skipped. */
export type BodyChunk = string | NodeJS.ArrayBufferView | ArrayBuffer | SharedArrayBuffer;

/**
 * A body. A string is sent as UTF-8. Strings, bytes and a `Blob` are whole: their length is announced, and they are held
 * to `maxResponseBodySize`. Bytes are read while they are sent: what changes in them by then may be sent. Of the streaming
 * ones more is asked for only when the client has taken what there was.
 */
export type BodyInput =
  | BodyChunk
  | Blob
  | ReadableStream<BodyChunk>
  | AsyncIterable<BodyChunk>
  | Iterable<BodyChunk>
  | null
  | undefined;

/** The plain answer: it costs less than a `Response`. All members may be left out. */
export interface AioResponse {
  /**
   * 200 to 599.
   * @default 200
   */
  readonly status?: number | undefined;
  /** Header fields. `date`, and `content-length` for whole bodies, are added by the engine. */
  readonly headers?: HeadersInput | undefined;
  /** The body. HEAD, 204, 205 and 304 send none: a stream is cancelled, an iterator's `return()` called. */
  readonly body?: BodyInput;
  /** The fields after the body, or a function that is called when the body has been given and returns them. */
  readonly trailers?: HeadersInput | (() => HeadersInput | undefined | Promise<HeadersInput | undefined>) | undefined;
}

/**
 * Answers a request (specification, section 3). What it throws, or rejects with, goes to {@link OnError}, and the client
 * gets 500.
 */
export type Handler = (
  request: AioRequest,
  connection: ConnectionInfo,
) => Response | AioResponse | Promise<Response | AioResponse>;

/** Told of what a handler or a body threw, with the request it was about. What it throws or rejects with is ignored. */
export type OnError = (error: unknown, request: Request) => void;
