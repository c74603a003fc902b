import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http2';
import { fileURLToPath } from 'node:url';

/** The package's own folder, where commands are run. */
export const PACKAGE = fileURLToPath(new URL('../..', import.meta.url));

/** How a command ended, and what it wrote. */
export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A running Node program that has printed the address it serves. */
export interface RunningServer {
  readonly url: string;
  /** Sends a signal, and resolves when the process has ended. */
  end(signal: NodeJS.Signals): Promise<Ended>;
}

function collect(child: ChildProcess): { stdout: string; stderr: string } {
  const output = { stdout: '', stderr: '' };
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    output.stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    output.stderr += text;
  });
  return output;
}

function startNode(args: readonly string[], env: NodeJS.ProcessEnv): ChildProcess {
  return spawn(process.execPath, args, {
    cwd: PACKAGE,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/**
 * Runs a Node program to its end.
 *
 * @param args - The script, and its arguments.
 * @param env - Added to the environment.
 */
export async function runNode(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  const child = startNode(args, env);
  const output = collect(child);
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...output };
}

/**
 * Starts a Node program and waits until it has printed an address as a line's beginning.
 *
 * @param args - The script, and its arguments.
 * @param env - Added to the environment.
 * @throws When the program ends before, with what it wrote.
 */
export async function startServer(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<RunningServer> {
  const child = startNode(args, env);
  const output = collect(child);
  const closed = once(child, 'close') as Promise<[number | null]>;
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout?.on('data', () => {
      const match = /^https:\S+(?=\n)/m.exec(output.stdout);
      if (match !== null) resolve(match[0]);
    });
    closed.then(
      ([code]) => reject(new Error(`ended with ${code} before it served\n${output.stdout}${output.stderr}`)),
      reject,
    );
  });
  return {
    url,
    async end(signal) {
      child.kill(signal);
      const [code] = await closed;
      return { code, ...output };
    },
  };
}

/** An answer as node:http2 received it. */
export interface Received {
  readonly status: number | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** What a request has beside its address. */
export interface RequestOptions {
  readonly method?: string;
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: string | Uint8Array;
  /** The certificate that is trusted, in PEM. */
  readonly ca: string;
  /** Cancel the stream once this much of the body has come; default: wait for its end. */
  readonly until?: (body: string) => boolean;
}

/**
 * Makes one request on a connection of its own.
 *
 * @param url - The whole address.
 * @param options - See `RequestOptions`.
 */
export async function request(url: string, options: RequestOptions): Promise<Received> {
  const { origin, pathname, search } = new URL(url);
  const session = connect(origin, { ca: options.ca });
  try {
    return await new Promise<Received>((resolve, reject) => {
      session.on('error', reject);
      const stream = session.request({
        ':method': options.method ?? 'GET',
        ':path': pathname + search,
        ...options.headers,
      });
      const chunks: Buffer[] = [];
      let headers: IncomingHttpHeaders & { ':status'?: number } = {};
      const finish = (): void => resolve({ status: headers[':status'], headers, body: Buffer.concat(chunks) });
      stream.on('response', (received) => {
        headers = received;
      });
      stream.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        if (options.until?.(Buffer.concat(chunks).toString()) === true) finish();
      });
      stream.on('end', finish).on('error', reject).end(options.body);
    });
  } finally {
    session.destroy();
  }
}
