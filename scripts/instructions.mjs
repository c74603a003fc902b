// Counts the instructions of a request: `node scripts/instructions.mjs [--write]`. Runs native/bench/instructions.c under
// callgrind, and fails where a workload takes 5 % more than scripts/instructions.json says. The counts hold for one
// compiler and one set of libraries: with others, it only prints them. --write puts the new counts into that file.
import fs from 'node:fs';
import path from 'node:path';
import { readLog, root, run } from './support.mjs';

const toleranceRatio = 0.05;
const recordFile = path.join(root, 'scripts/instructions.json');
const folder = path.join(root, 'build-native/instructions');
const isWriting = process.argv.includes('--write');

async function must(log, command, args) {
  const result = await run(log, command, args, { timeoutMs: 600_000 });
  if (!result.ok) throw new Error(`${command} failed\n${readLog(result.log)}`);
  return fs.readFileSync(result.log, 'utf8');
}

/** What callgrind wrote at each request to the server to do so, the newest by its name. */
function readDumps() {
  const totals = new Map();
  const number = (name) => Number(name.split('.')[1]);
  const names = fs.readdirSync(folder).filter((name) => /^out\.\d+$/.test(name));
  for (const name of names.sort((a, b) => number(a) - number(b))) {
    const text = fs.readFileSync(path.join(folder, name), 'utf8');
    const workload = text.match(/^desc: Trigger: Client Request: (.*)$/m)?.[1];
    const total = text.match(/^summary: (\d+)$/m)?.[1];
    if (workload && total) totals.set(workload, Number(total));
  }
  return totals;
}

/** The circumstances, and the instructions of each workload done once. */
async function measure() {
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(folder, { recursive: true });
  await must('build-release', 'make', ['-C', 'native', 'build-release']);
  const program = path.join(root, 'build-native/release/instructions');
  const out = `--callgrind-out-file=${path.join(folder, 'out')}`;
  const text = await must('instructions-callgrind', 'valgrind', ['-q', '--tool=callgrind', out, program]);
  const valgrind = (await must('valgrind-version', 'valgrind', ['--version'])).trim().replace('-', ' ');
  const circumstances = text.match(/^with (.*)$/m)?.[1];
  const counts = {};
  const totals = readDumps();
  for (const [, workload, times] of text.matchAll(/^([\w-]+) (\d+)$/gm)) {
    if (!totals.has(workload)) throw new Error(`callgrind counted nothing of ${workload}`);
    counts[workload] = Math.round(totals.get(workload) / Number(times));
  }
  if (!circumstances || Object.keys(counts).length === 0) throw new Error(`the program printed no workload:\n${text}`);
  return { key: `${process.arch}, ${circumstances}, ${valgrind}`, counts };
}

function compare(key, counts, wanted) {
  let failed = false;
  for (const workload of new Set([...Object.keys(counts), ...Object.keys(wanted ?? {})])) {
    const count = counts[workload];
    const bound = wanted?.[workload];
    let word = '';
    if (wanted && (bound === undefined || count === undefined)) {
      word = bound === undefined ? 'no number recorded' : 'recorded, but not measured';
      failed = true;
    } else if (wanted) {
      const change = count / bound - 1;
      word = `${change < 0 ? '' : '+'}${(change * 100).toFixed(1)} %`;
      if (change > toleranceRatio) {
        word += ` of ${bound}: more than it may be`;
        failed = true;
      } else if (change < -toleranceRatio) {
        word += ` of ${bound}: better; npm run bench:instructions -- --write records it`;
      }
    }
    console.log(`${workload.padEnd(28)} ${String(count ?? '-').padStart(9)}  ${word}`);
  }
  if (!wanted) console.log(`no numbers are recorded for ${key}: nothing was compared`);
  return !failed;
}

try {
  const record = JSON.parse(fs.readFileSync(recordFile, 'utf8'));
  const { key, counts } = await measure();
  console.log(key);
  if (isWriting) {
    record[key] = counts;
    const sorted = Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
    fs.writeFileSync(recordFile, `${JSON.stringify(sorted, null, 2)}\n`);
  }
  process.exitCode = compare(key, counts, record[key]) ? 0 : 1;
} catch (error) {
  console.error(`instructions: ${error.message}`);
  process.exitCode = 1;
}
