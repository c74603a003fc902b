import { setTimeout as sleep } from 'node:timers/promises';
import { END_STREAM, encode, FRAME } from '../helpers/raw-client.js';
import type { Attack } from './attacks.js';
import { frame, headers, Peer } from './peer.js';
import { keepAttacking } from './strategy.js';

type Fields = readonly (readonly [string, string])[];

const PSEUDO: Fields = [
  [':method', 'GET'],
  [':scheme', 'https'],
  [':authority', 'x'],
  [':path', '/never'],
];

const fields = (list: Fields): Buffer => Buffer.concat(list.map(([name, value]) => encode({ [name]: value })));
const without = (name: string): Fields => PSEUDO.filter(([other]) => other !== name);
const changed = (name: string, value: string): Fields =>
  PSEUDO.map(([other, own]) => [other, other === name ? value : own] as const);

/** What a head is not allowed to be, RFC 9113, sections 8.1.1, 8.2 and 8.3. */
const HEADS: Record<string, readonly Fields[]> = {
  'names in upper case and connection-specific fields': [
    ['Upper-Case', 'x'],
    ['x-upperX', 'x'],
    ['connection', 'close'],
    ['connection', 'x-own'],
    ['proxy-connection', 'keep-alive'],
    ['keep-alive', 'timeout=5'],
    ['transfer-encoding', 'chunked'],
    ['upgrade', 'h2c'],
    ['te', 'gzip'],
  ].map(([name, value]) => [...PSEUDO, [name as string, value as string]]),

  'CR, LF and NUL in names and values': ['\r', '\n', '\0', '\r\n', '\r\nx-smuggled: 1', '\n\nGET / HTTP/1.1'].flatMap(
    (bytes): Fields[] => [
      [...PSEUDO, ['x-field', `a${bytes}b`]],
      [...PSEUDO, ['x-field', `${bytes}b`]],
      [...PSEUDO, [`x${bytes}y`, 'value']],
      changed(':path', `/never${bytes}`),
      changed(':authority', `x${bytes}`),
      changed(':method', `GET${bytes}`),
    ],
  ),

  'pseudo-fields that are missing, double, unknown or late': [
    ...PSEUDO.filter(([name]) => name !== ':authority').map(([name]) => without(name)),
    ...PSEUDO.map((pair): Fields => [...PSEUDO, pair]),
    [...PSEUDO, [':unknown', 'x']],
    [...PSEUDO, [':status', '200']],
    [...PSEUDO, [':protocol', 'websocket']],
    [['x-early', 'x'], ...PSEUDO],
    without(':authority'),
    [...PSEUDO, ['host', 'other']],
    changed(':authority', ''),
    changed(':authority', 'user@x'),
    changed(':method', ''),
    changed(':method', 'G ET'),
    changed(':path', ''),
    changed(':path', 'never'),
    changed(':path', '*'),
    changed(':path', 'https://x/never'),
    [
      [':method', 'CONNECT'],
      [':scheme', 'https'],
      [':authority', 'x'],
      [':path', '/never'],
    ],
    [
      [':method', 'CONNECT'],
      [':authority', 'x'],
    ],
  ],
};

/** A content-length, and the bodies that belie it. */
const LIES: readonly (readonly [string, readonly string[]])[] = [
  ['1', ['']],
  ['5', ['four']],
  ['3', ['four']],
  ['5', ['four', 'four']],
  ['0', ['x']],
  ['-1', ['']],
  ['+1', ['x']],
  ['1, 1', ['x']],
  ['0x1', ['x']],
  ['99999999999999999999999', ['x']],
  ['', ['x']],
];

type Attempt = (peer: Peer) => Buffer;

/** Makes each attempt on a stream of its own, which has to end without success. */
function tryAll(attempts: readonly Attempt[]): Attack {
  return (arena) =>
    keepAttacking(arena, async () => {
      const peer = await Peer.open(arena.port, arena.report);
      if (peer === undefined) return;
      for (const [at, attempt] of attempts.entries()) {
        await peer.send(attempt(peer));
        arena.report.sent++;
        const isAnswered = (): boolean => peer.answers + peer.resets >= peer.streams;
        await Promise.race([peer.when(isAnswered), sleep(2000)]);
        if (!isAnswered()) throw new Error(`attempt ${at} was not answered`);
      }
      peer.leave();
    });
}

const heads = Object.entries(HEADS).map(([name, list]): [string, Attack] => [
  name,
  tryAll(list.map((head) => (peer) => headers(peer.stream(), fields(head)))),
]);

const lies = LIES.flatMap(([length, body]): Attempt[] => {
  const head = fields([...changed(':method', 'POST'), ['content-length', length]]);
  return [
    (peer) => {
      const stream = peer.stream();
      const data = body.map((text, at) =>
        frame(FRAME.data, at === body.length - 1 ? END_STREAM : 0, stream, Buffer.from(text)),
      );
      return Buffer.concat([headers(stream, head, false), ...data]);
    },
  ];
});
const twice = fields([...changed(':method', 'POST'), ['content-length', '1'], ['content-length', '2']]);

export const malformed: Record<string, Attack> = {
  ...Object.fromEntries(heads),
  'content-length that lies': tryAll([...lies, (peer) => headers(peer.stream(), twice, false)]),
};
