// The seed's T11: resident memory at rest and with every place taken, against the plan: `npm run bench:t11`.
// From the kernel's counters and not under massif, which does not see pages of reserved address space.
import { planMemory, resolveConfig } from 'valk-aio';
import { BRIM, fillToBrim } from '../helpers/brim.js';
import { ServerProcess } from '../helpers/server-process.js';

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const endings: (() => unknown)[] = [];
const t = { teardown: (end: () => unknown) => endings.push(end) };

for (const config of [{}, { maxConnections: 10 }, { maxConnections: 1000 }]) {
  const server = await ServerProcess.start(t, config);
  const { restBytes, rssBytes, plan } = await server.memory();
  const more = rssBytes - restBytes;
  const ratio = (more / plan.committedBytes).toFixed(2);
  console.log(
    `at rest, ${JSON.stringify(config)}: ${mebibytes(more)} of ${mebibytes(plan.committedBytes)} committed (${ratio})`,
  );
}

const server = await ServerProcess.start(t, BRIM);
const { memory, ...places } = await fillToBrim(t, server);
const more = memory.rssBytes - memory.restBytes;
const { totalBytes } = planMemory(resolveConfig(BRIM));
console.log(
  `at the brim, ${JSON.stringify(places)}: ${mebibytes(more)} of ${mebibytes(totalBytes)} (${(more / totalBytes).toFixed(2)})`,
);
for (const end of endings) await end();
process.exit();
