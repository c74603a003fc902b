import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Arena, Attack } from './attacks.js';
import { clientHello, type Handmade, handmade12, handmade13 } from './handmade.js';
import { block, headers, Peer, PREFACE, settings } from './peer.js';
import { isOver, keepAttacking } from './strategy.js';

/** Connects by TCP alone; resolves when it is connected, or has failed. */
async function dial({ port, report }: Arena): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  let isOpen = false;
  socket.on('error', () => {});
  socket.on('close', () => {
    if (isOpen) report.ended++;
  });
  socket.resume();
  await new Promise<void>((resolve) => socket.once('connect', resolve).once('close', () => resolve()));
  isOpen = !socket.destroyed;
  if (isOpen) report.opened++;
  else report.failed++;
  return socket;
}

/** Connections that say |bytes| and wait for the end. */
function blurt(bytes: () => Buffer): Attack {
  return (arena) =>
    keepAttacking(arena, async () => {
      const socket = await dial(arena);
      socket.write(bytes());
      arena.report.sent++;
      await Promise.race([new Promise((resolve) => socket.once('close', resolve)), sleep(500)]);
      socket.destroy();
    });
}

/** As many connections as the arena has, each in the TLS handshake: |pace| ms between the bytes of its hello, or silent. */
function dawdle(paceMs?: number): Attack {
  return async (arena) => {
    const hello = await clientHello();
    const sockets: Socket[] = [];
    for (let at = 0; at < arena.connections && !isOver(arena); at += 50) {
      sockets.push(...(await Promise.all(Array.from({ length: 50 }, () => dial(arena)))));
    }
    for (let at = 0; !isOver(arena); at++) {
      if (paceMs !== undefined) {
        for (const socket of sockets) {
          if (!socket.destroyed && at < hello.length - 1) socket.write(hello.subarray(at, at + 1));
        }
        arena.report.sent += sockets.length;
      }
      await sleep(paceMs ?? 50);
    }
    for (const socket of sockets) socket.destroy();
  };
}

/** Peers that vanish after |bytes| of their hello. */
function vanish(share: number, how: 'FIN' | 'RST'): Attack {
  return async (arena) => {
    const hello = await clientHello();
    const part = hello.subarray(0, Math.floor(hello.length * share));
    await keepAttacking(arena, async () => {
      const socket = await dial(arena);
      if (part.length > 0) await new Promise<void>((resolve) => socket.write(part, () => resolve()));
      if (how === 'FIN') socket.destroy();
      else socket.resetAndDestroy();
      arena.report.sent++;
      await sleep(1);
    });
  };
}

/** Handmade records without end. */
function rekey<Writer extends { data(bytes: Buffer): Buffer }>(
  open: (port: number) => Promise<Handmade<Writer>>,
  record: (writer: Writer) => Buffer,
): Attack {
  return (arena) =>
    keepAttacking(arena, async () => {
      const { tcp, writer } = await open(arena.port);
      arena.report.opened++;
      tcp.on('close', () => {
        arena.report.ended++;
      });
      tcp.write(writer.data(Buffer.concat([PREFACE, settings()])));
      while (!tcp.destroyed && !isOver(arena)) {
        const room = tcp.write(Buffer.concat(Array.from({ length: 50 }, () => record(writer))));
        arena.report.sent += 50;
        if (room) await sleep(1);
        else await Promise.race([new Promise((resolve) => tcp.once('drain', resolve)), sleep(100)]);
      }
      tcp.destroy();
    });
}

export const tls: Record<string, Attack> = {
  'silent connections, thousands': dawdle(),
  'slow handshakes, thousands': dawdle(100),
  'plain HTTP/1.1 on the port': blurt(() => Buffer.from('GET /never HTTP/1.1\r\nhost: x\r\n\r\n')),
  'plain HTTP/2 on the port': blurt(() => Buffer.concat([PREFACE, settings(), headers(1, block('/never'))])),
  'random bytes on the port': blurt(() => randomBytes(1 + Math.floor(Math.random() * 4000))),
  'HTTP/1.1 inside TLS': (arena) =>
    keepAttacking(arena, async () => {
      const peer = await Peer.handshake(arena.port, arena.report, { ALPNProtocols: ['h2'] });
      await peer?.send(Buffer.from('GET /never HTTP/1.1\r\nhost: x\r\n\r\n'));
      await Promise.race([peer?.when(() => false), sleep(500)]);
      peer?.leave();
    }),
  'random bytes inside TLS': (arena) =>
    keepAttacking(arena, async () => {
      const peer = await Peer.open(arena.port, arena.report);
      await peer?.send(randomBytes(1000));
      await Promise.race([peer?.when(() => false), sleep(100)]);
      peer?.leave();
    }),
  'connections beyond the limit': async (arena) => {
    const peers = await Promise.all(
      Array.from({ length: arena.connections }, async () => {
        const opened = Peer.open(arena.port, arena.report);
        void opened.then(async (peer) => {
          // A client that works, so that none is idle.
          while (peer !== undefined && !peer.closed && !isOver(arena)) {
            await peer.send(headers(peer.stream(), block('/')));
            await sleep(100);
          }
        });
        const late = sleep(Math.max(0, arena.until - performance.now())).then(() => undefined);
        return { opened, peer: await Promise.race([opened, late]) };
      }),
    );
    await sleep(Math.max(0, arena.until - performance.now()));
    for (const { peer } of peers) peer?.leave();
    // Those in the backlog get their turn now, and leave at once.
    for (const { opened } of peers) (await opened)?.leave();
  },
  'TLS 1.3 key updates': rekey(handmade13, (writer) => writer.keyUpdate()),
  'TLS 1.2 renegotiation': rekey(handmade12, (writer) => writer.hello()),
  'peers that vanish before the handshake, by FIN': vanish(0, 'FIN'),
  'peers that vanish before the handshake, by RST': vanish(0, 'RST'),
  'peers that vanish in the handshake, by FIN': vanish(0.5, 'FIN'),
  'peers that vanish in the handshake, by RST': vanish(0.5, 'RST'),
  'peers that vanish before they answer our handshake, by FIN': vanish(1, 'FIN'),
  'peers that vanish before they answer our handshake, by RST': vanish(1, 'RST'),
};
