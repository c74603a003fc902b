#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Argument, type Command, InvalidArgumentError, program } from 'commander';
import { planAsJson, renderConfig, renderMemory, renderPlan } from './cli-plan.js';
import { DevCertificateError, devCertificate } from './dev-certificate.js';
import { parseSize } from './format.js';
import { configForMemory, configWarnings, planMemory, resolveConfig, start } from './index.js';
import { createSite } from './site.js';

interface PrimaryOptions {
  readonly maxConnections?: number;
  readonly maxConcurrentStreams?: number;
}

interface ServeOptions extends PrimaryOptions {
  readonly port: number;
  readonly host: string;
  readonly key?: string;
  readonly cert?: string;
}

interface PlanOptions extends PrimaryOptions {
  readonly memory?: number;
  readonly json?: true;
}

/** A site's requests are small: their arenas need not be 64 MiB, and the plan's total says what is true. */
const SITE_CONFIG = { arenaSize: 1024 * 1024, maxRequestBodySize: 64 * 1024 } as const;

const DOCS = fileURLToPath(new URL('../docs', import.meta.url));

function packageVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

function wholeNumber(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('It must be a whole number.');
  return Number(text);
}

function portNumber(text: string): number {
  const port = wholeNumber(text);
  if (port > 65_535) throw new InvalidArgumentError('It must be between 0 and 65,535.');
  return port;
}

function size(text: string): number {
  const bytes = parseSize(text);
  if (bytes === null) throw new InvalidArgumentError('It must be a size such as 512MiB, 2GB or 1048576.');
  return bytes;
}

function withPrimaries(command: Command): Command {
  return command
    .option('--max-connections <number>', 'connections at one time, 1 to 100,000 (default: 100)', wholeNumber)
    .option('--max-concurrent-streams <number>', 'streams a connection, 1 to 1,000 (default: 100)', wholeNumber);
}

async function serve(directory: string, options: ServeOptions): Promise<void> {
  const { port, host, key, cert, ...primaries } = options;
  const site = createSite(directory);
  const pair = await readPair(key, cert);
  // What start() has to warn of is the command's own output, not a trace of Node's.
  process.removeAllListeners('warning');
  process.on('warning', ({ message }) => process.stderr.write(`warning: ${message}\n`));

  const aio = start({ ...SITE_CONFIG, ...primaries });
  const stopped = stopSignal();
  try {
    const server = await aio.listen({ port, host, key: pair.key, cert: pair.cert }, site);
    process.stdout.write(
      `${server.url}\n\n` +
        `Directory      ${resolve(directory)}\n` +
        `Certificate    ${pair.origin}\n\n` +
        `${renderConfig(aio.config)}\n${renderMemory(aio.config, planMemory(aio.config))}\n` +
        'Ctrl+C stops the server.\n',
    );
    await stopped;
  } finally {
    await aio.stop();
  }
}

async function readPair(
  keyPath: string | undefined,
  certPath: string | undefined,
): Promise<{ key: string | Buffer; cert: string | Buffer; origin: string }> {
  if (keyPath === undefined && certPath === undefined) {
    const { key, cert, path, created, validUntil } = await devCertificate();
    const state = created ? 'made now' : 'kept';
    return {
      key,
      cert,
      origin: `for development, self-signed, ${state}, until ${validUntil.toISOString().slice(0, 10)}:\n  ${path}`,
    };
  }
  if (keyPath === undefined) throw new CommandError("option '--cert' needs '--key' beside it");
  if (certPath === undefined) throw new CommandError("option '--key' needs '--cert' beside it");
  return { key: await readPem('--key', keyPath), cert: await readPem('--cert', certPath), origin: certPath };
}

async function readPem(option: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new CommandError(`option '${option}': ${(error as Error).message}`);
  }
}

/** Resolves at the first SIGINT or SIGTERM; the next one ends the process, as it does by default. */
async function stopSignal(): Promise<void> {
  await new Promise<void>((resolve) => {
    const stop = (): void => {
      process.off('SIGINT', stop).off('SIGTERM', stop);
      resolve();
    };
    process.on('SIGINT', stop).on('SIGTERM', stop);
  });
}

function plan(options: PlanOptions): void {
  const { memory, json, ...primaries } = options;
  const config = memory === undefined ? resolveConfig(primaries) : configForMemory(memory, primaries);
  const render = json === true ? planAsJson : renderPlan;
  process.stdout.write(render(config, planMemory(config), configWarnings(config)));
}

/** Bad input, found by the command itself. */
class CommandError extends Error {
  readonly code = 'ERR_VALK_AIO_COMMAND';
}

/** Turns an error with a code into a sentence for the person at the terminal; others are bugs and keep their stack. */
function explain(error: unknown, command: Command): string {
  if (!(error instanceof Error) || !('code' in error)) throw error;
  if (error.code === 'EADDRINUSE') {
    const { host, port } = command.opts<ServeOptions>();
    return `error: ${host}:${port} is taken; choose another port with '--port', or 0 for a free one`;
  }
  if (error instanceof DevCertificateError) {
    return `error: ${error.message}\nA pair of your own is taken with '--key' and '--cert'.`;
  }
  const field = 'field' in error ? String(error.field) : '';
  const option = command.options.find((candidate) => candidate.attributeName() === field);
  return option === undefined ? `error: ${error.message}` : `error: option '${option.flags}': ${error.message}`;
}

program.name('valk-aio').description('HTTP/2 over TLS from a bounded amount of memory.').version(packageVersion());

withPrimaries(program.command('serve'))
  .description('serve the files of a directory')
  .addArgument(new Argument('[dir]', 'the directory').default(DOCS, "the package's documentation"))
  .option('--port <number>', 'the port, 0 for a free one', portNumber, 8443)
  .option('--host <address>', 'the address to listen on', '127.0.0.1')
  .option('--key <file>', 'the private key in PEM (default: made and kept)')
  .option('--cert <file>', 'the certificate in PEM (default: made and kept)')
  .action(async (directory: string, options: ServeOptions, command: Command) => {
    await serve(directory, options).catch((error: unknown) => command.error(explain(error, command)));
  });

withPrimaries(program.command('plan'))
  .description('print a configuration and the memory that it can take')
  .option('--memory <size>', 'find the most connections that fit, for example 512MiB', size)
  .option('--json', 'print JSON')
  .action((options: PlanOptions, command: Command) => {
    try {
      plan(options);
    } catch (error) {
      command.error(explain(error, command));
    }
  });

await program.parseAsync();
