// A system with the lab's handler in a process of its own, told what to do over IPC by server-process.ts.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type Aio, type AioConfig, type ListenOptions, planMemory, type Server, start } from 'valk-aio';
import { Lab } from './lab.js';
import type { Command, Memory } from './server-process.js';

const lab = new Lab();
let aio: Aio | undefined;
let server: Server | undefined;
let restBytes = 0;

/** A figure of /proc/self/status, in bytes. */
function status(name: string): number {
  const line = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(readFileSync('/proc/self/status', 'utf8'));
  return Number(line?.[1]) * 1024;
}

function memory(): Memory {
  if (aio === undefined) throw new Error('not started');
  globalThis.gc?.();
  return { restBytes, rssBytes: status('VmRSS'), peakBytes: status('VmHWM'), plan: planMemory(aio.config) };
}

const commands = {
  start(config: AioConfig, options: ListenOptions) {
    globalThis.gc?.();
    // The peak counts from here on (proc(5)).
    writeFileSync('/proc/self/clear_refs', '5');
    restBytes = status('VmRSS');
    aio = start(config);
    return commands.listen(options);
  },
  async listen(options: ListenOptions) {
    server = await aio?.listen({ onError: lab.onError, ...options }, lab.handler);
    return { url: server?.url, port: server?.port, healthPort: server?.healthPort };
  },
  stats: () => aio?.stats(),
  memory,
  log: () => lab.log,
  release: () => lab.release(),
  threads: () => readdirSync('/proc/self/task').length,
  async stop() {
    lab.release();
    await aio?.stop({ timeoutMs: 1000 });
    process.disconnect?.();
  },
} satisfies Record<Command, (...args: never[]) => unknown>;

process.on('message', async ({ id, name, args }: { id: number; name: Command; args: never[] }) => {
  try {
    const run = commands[name] as (...args: never[]) => unknown;
    process.send?.({ id, result: await run(...args) });
  } catch (error) {
    process.send?.({ id, error: String(error) });
  }
});
process.on('disconnect', () => process.exit());
