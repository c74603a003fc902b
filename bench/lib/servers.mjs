// Starts the servers of a workload and waits until each answers.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:http2';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { endProcess, startProcess } from './children.mjs';

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Status and body of one GET, or an error. */
async function get(origin, path) {
  const session = connect(origin, { rejectUnauthorized: false });
  try {
    session.on('error', () => {});
    const stream = session.request({ ':path': path });
    stream.setTimeout(2000, () => stream.destroy(new Error('no answer')));
    const [headers] = await once(stream, 'response');
    let length = 0;
    for await (const chunk of stream) length += chunk.length;
    return { status: headers[':status'], length };
  } finally {
    session.destroy();
  }
}

async function untilAnswers(child, origin, log) {
  let last = 'no answer';
  for (const end = Date.now() + 20_000; Date.now() < end; await sleep(100)) {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}\n${readFileSync(log, 'utf8')}`);
    try {
      const { status, length } = await get(origin, '/');
      if (status === 200 && length === 13) return;
      last = `status ${status} with ${length} bytes`;
    } catch (error) {
      last = error.message;
    }
  }
  throw new Error(`${last}\n${readFileSync(log, 'utf8')}`);
}

/**
 * Starts one server: `{ peer, child, pid, port, origin, end() }`.
 *
 * |context| has the certificate's files, the folder for logs and files, and what the workload wants: `connections`,
 * `streams`, `queueTimeoutMs`, `ioThreads`. |core| pins it.
 */
export async function startServer(peer, context, core) {
  const port = await freePort();
  const log = join(context.folder, `${peer.name}.log`);
  const { command, args, env, cwd, signal } = await peer.start({ ...context, port });
  const child = startProcess({ command, args, env, cwd, core, log });
  const origin = `https://127.0.0.1:${port}`;
  try {
    await untilAnswers(child, origin, log);
  } catch (error) {
    await endProcess(child);
    throw new Error(`${peer.name} did not start: ${error.message}`);
  }
  return { peer, context, core, child, pid: child.pid, port, origin, end: () => endProcess(child, signal) };
}

/** The same server in a fresh process; the used one ends. */
export async function restart(used) {
  await used.end();
  return startServer(used.peer, used.context, used.core);
}
