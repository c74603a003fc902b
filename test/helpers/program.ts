import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { cert, key } from './certificate.js';
import { type Ended, PACKAGE } from './command.js';

/** A Node.js process that runs a program of the test's own. */
export interface Program {
  readonly child: ChildProcess;
  /** The next whole line of its standard output; rejects when it ends before. */
  line(): Promise<string>;
  /** Its end, and all that it wrote. */
  readonly ended: Promise<Ended>;
}

/** What stands before a program's source: the package, a key and a certificate. */
const PROLOGUE = `import { start } from 'valk-aio';
const { KEY: key, CERT: cert } = process.env;
`;

/**
 * Runs |source|, an ES module with `start`, `key` and `cert` in scope, in a process of its own; it is killed at the end of
 * the test.
 */
export function runSource(
  t: ExecutionContext,
  source: string,
  flags: readonly string[] = [],
  env: NodeJS.ProcessEnv = {},
): Program {
  return launch(t, [...flags, '--input-type=module', '--eval', PROLOGUE + source], env);
}

/** Runs a TypeScript program of this folder. */
export function runHelper(
  t: ExecutionContext,
  file: string,
  args: readonly string[] = [],
  flags: readonly string[] = [],
): Program {
  return launch(t, [...flags, '--import=tsx', fileURLToPath(new URL(file, import.meta.url)), ...args]);
}

function launch(t: ExecutionContext, args: readonly string[], env: NodeJS.ProcessEnv = {}): Program {
  const child = spawn(process.execPath, args, {
    cwd: PACKAGE,
    env: { ...process.env, ...env, KEY: key, CERT: cert },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const output = { stdout: '', stderr: '' };
  let taken = 0;
  let wake = (): void => {};
  let over = false;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output.stdout += text;
    wake();
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output.stderr += text;
  });
  child.stdin.on('error', () => {});
  const ended = once(child, 'close').then(([code, signal]): Ended => {
    over = true;
    wake();
    const by = signal === null ? '' : `\nended by ${signal}`;
    return { code: code as number | null, stdout: output.stdout, stderr: output.stderr + by };
  });
  return {
    child,
    ended,
    async line() {
      for (;;) {
        const end = output.stdout.indexOf('\n', taken);
        if (end !== -1) {
          const line = output.stdout.slice(taken, end);
          taken = end + 1;
          return line;
        }
        if (over) throw new Error(`ended before its line\n${output.stdout}${output.stderr}`);
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}
