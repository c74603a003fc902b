// What the soak's bad peers do. Each attack ends by itself within seconds, whatever the server does.
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { encode, FRAME, RawClient, SETTING } from '../helpers/raw-client.js';

/** Runs |attack| over a connection that is gone afterwards. */
async function over(
  port: number,
  settings: [number, number][],
  attack: (client: RawClient) => Promise<void>,
): Promise<void> {
  const ends: (() => void)[] = [];
  const context = { teardown: (end: () => void) => void ends.push(end) } as unknown as ExecutionContext;
  try {
    await attack(await RawClient.open(context, port, settings));
  } finally {
    for (const end of ends) end();
  }
}

async function closing(client: RawClient, mostMs: number): Promise<void> {
  for (const end = performance.now() + mostMs; !client.closed && performance.now() < end; await sleep(50));
}

/** The counters of `stats()` that each attack moves. */
export const CAUSES: Record<keyof typeof ATTACKS, readonly string[]> = {
  resets: ['request.reset.client', 'connection.closed.flood'],
  pings: ['connection.closed.flood'],
  slowHeaders: ['connection.closed.headersTimeout'],
  slowReader: ['request.reset.writeTimeout'],
  vanish: ['connection.closed.peer'],
};

/** By name: each takes the port. */
export const ATTACKS = {
  resets: (port: number) =>
    over(port, [], async (client) => {
      for (let count = 0; count < 3000 && !client.closed; count++) {
        client.reset(client.request('/down'));
        if (count % 100 === 0) await sleep(1);
      }
      await closing(client, 1000);
    }),
  pings: (port: number) =>
    over(port, [], async (client) => {
      for (let count = 0; count < 5000 && !client.closed; count++) {
        client.ping();
        if (count % 500 === 0) await sleep(1);
      }
      await closing(client, 1000);
    }),
  slowHeaders: (port: number) =>
    over(port, [], async (client) => {
      client.frame(FRAME.headers, 0, client.newStream(), encode({ ':method': 'GET' }));
      await closing(client, 4000);
    }),
  slowReader: (port: number) =>
    over(port, [[SETTING.initialWindowSize, 0]], async (client) => {
      const ids = Array.from({ length: 20 }, () => client.request('/down'));
      for (let round = 0; round < 10 && !client.closed; round++, await sleep(100)) {
        for (const id of ids) client.openWindow(id, 1);
      }
      // Then it takes nothing more.
      await closing(client, 4000);
    }),
  vanish: async (port: number) => {
    const sockets = Array.from({ length: 10 }, () => connect(port, '127.0.0.1').on('error', () => {}));
    await Promise.all(sockets.map((socket) => once(socket, 'connect').catch(() => {})));
    for (const [at, socket] of sockets.entries()) {
      if (at % 3 === 0) socket.write(Buffer.from([22, 3, 1, 2, 0, 1]));
      if (at % 2 === 0) socket.resetAndDestroy();
      else socket.destroy();
    }
    await over(port, [], async (client) => {
      client.request('/down');
      client.request('/echo', {}, false);
      client.socket.destroy();
    });
  },
} as const;
