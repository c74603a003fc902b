// Prints the tables of a result in markdown: node bench/table.mjs [results.json] [workload,…]
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../scripts/support.mjs';
import { markdownTable } from './lib/report.mjs';

const [file = join(root, 'build-native', 'bench', 'results', 'results.json'), names] = process.argv.slice(2);
const { date, machine, versions, rounds, skipped, workloads } = JSON.parse(readFileSync(file, 'utf8'));
const wanted = names?.split(',');

const words = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
console.log(
  `Measured on ${date.slice(0, 10)}: ${machine.processor}, ${machine.cores} cores, ${machine.memoryGib} GiB,`,
);
console.log(
  `Linux ${machine.kernel}; ${words.join(', ')}. Medians of ${rounds} interleaved runs; smallest and largest`,
);
console.log('in brackets; × is the deciding figure relative to the first row.');
for (const { server, reason } of skipped) console.log(`\n${server} was not measured: ${reason}.`);
for (const workload of workloads) {
  const isWanted = (name) => workload.name === name || workload.name.startsWith(`${name}-`);
  if (!wanted || wanted.some(isWanted)) console.log(`\n${markdownTable(workload)}`);
}
