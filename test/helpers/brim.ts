import type { ExecutionContext } from 'ava';
import { until } from './client.js';
import { pattern } from './lab.js';
import { RawClient, SETTING } from './raw-client.js';
import type { Memory, ServerProcess } from './server-process.js';

const MIB = 1 << 20;

/** A small configuration whose every place can be filled: 16 connections, 32 arenas of 1 MiB, a buffer for each connection. */
export const BRIM = {
  maxConnections: 16,
  maxConcurrentStreams: 50,
  tcpBufferPoolSize: 16,
  arenaSize: MIB,
  queueTimeoutMs: 600_000,
  bodyTimeoutMs: 600_000,
  handlerTimeoutMs: 600_000,
} as const;

/** What stands when every place is taken. */
export interface Brim {
  readonly memory: Memory;
  readonly connections: number;
  readonly arenas: number;
  readonly waiting: number;
  readonly refused: number;
}

/**
 * Fills a server of the configuration `BRIM`: on every connection answers that wait for a window, two requests whose bodies
 * fill their arenas, and waiting requests with large heads until no more are taken.
 */
export async function fillToBrim(t: Pick<ExecutionContext, 'teardown'>, server: ServerProcess): Promise<Brim> {
  const clients: RawClient[] = [];
  // Without a window no byte of an answer leaves: they stay in their connections' budgets.
  for (let at = 0; at < BRIM.maxConnections; at++) {
    clients.push(await RawClient.open(t as ExecutionContext, server.port, [[SETTING.initialWindowSize, 0]]));
  }
  for (const client of clients) for (let flow = 0; flow < 3; flow++) client.request('/flow?size=1000000000');
  await until('the answers have begun', () =>
    clients.every((client) => [...client.streams.values()].every(({ status }) => status === 200)),
  );

  const body = pattern(MIB - 8192);
  for (const client of clients) {
    for (let count = 0; count < 2; count++) {
      const id = client.request('/hold', { 'content-length': String(body.length) }, false);
      for (let sent = 0; sent < body.length; ) {
        await until('a window', () => client.stream(id).window > 0 && client.window > 0);
        const piece = Math.min(client.stream(id).window, client.window, body.length - sent);
        client.data(id, body.subarray(sent, sent + piece), sent + piece === body.length);
        sent += piece;
      }
    }
  }
  await until('every arena is taken', async () => (await server.log()).running >= 2 * BRIM.maxConnections);

  // One frame's worth.
  const large = 'x'.repeat(15_500);
  for (const client of clients) for (let count = 0; count < 45; count++) client.request('/hold', { 'x-large': large });
  await until('each waits or was refused', async () => {
    const { waiting, reset } = (await server.stats()).request;
    return waiting + reset.refused === 45 * BRIM.maxConnections;
  });
  const { connections, arenas, request } = await server.stats();
  return {
    memory: await server.memory(),
    connections: connections.inUse,
    arenas: arenas.inUse,
    waiting: request.waiting,
    refused: request.reset.refused as number,
  };
}
