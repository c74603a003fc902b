// The seed's T11: memory at rest and at the brim, against the plan (specification, sections 1 and 6).
import test from 'ava';
import type { AioConfig } from 'valk-aio';
import { BRIM, fillToBrim } from './helpers/brim.js';
import { ask, open } from './helpers/client.js';
import { ServerProcess } from './helpers/server-process.js';

for (const config of [{}, { maxConnections: 10 }, { maxConnections: 1000 }] as AioConfig[]) {
  test.serial(`T11: at rest no more than is committed: ${JSON.stringify(config)}`, async (t) => {
    const server = await ServerProcess.start(t, config);
    const { restBytes, rssBytes, plan } = await server.memory();
    const ratio = (rssBytes - restBytes) / plan.committedBytes;
    t.log(`RSS +${mebibytes(rssBytes - restBytes)}, committed ${mebibytes(plan.committedBytes)}: ${ratio.toFixed(2)}`);
    t.true(ratio <= 1.1, `${ratio}`);
  });
}

test.serial('T11: at the brim the plan holds, and is no exaggeration', async (t) => {
  t.timeout(120_000);
  const server = await ServerProcess.start(t, BRIM);
  const { memory, ...places } = await fillToBrim(t, server);
  const { restBytes, rssBytes, plan } = memory;
  const ratio = (rssBytes - restBytes) / plan.totalBytes;
  t.log(places, `RSS +${mebibytes(rssBytes - restBytes)} of ${mebibytes(plan.totalBytes)}: ${ratio.toFixed(2)}`);
  t.is(places.connections, BRIM.maxConnections);
  t.is(places.arenas, 2 * BRIM.maxConnections);
  t.true(places.refused > 0, 'no place was left to wait in');
  t.true(ratio >= 0.7 && ratio <= 1, `${ratio}`);
  await server.assertBounds(t);
});

test.serial('T11: a thousand requests later memory is where it was', async (t) => {
  const server = await ServerProcess.start(t, {});
  const session = await open(t, server.url);
  const some = async (count: number): Promise<void> => {
    for (let at = 0; at < count; at += 50) {
      await Promise.all(Array.from({ length: 50 }, () => ask(session, '/sum', { body: 'x'.repeat(10_000) })));
    }
  };
  await some(500);
  const before = (await server.memory()).rssBytes;
  await some(1000);
  const growth = (await server.memory()).rssBytes - before;
  t.log(`RSS +${mebibytes(growth)}`);
  t.true(growth < 32 << 20, mebibytes(growth));
});

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
