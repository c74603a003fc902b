// Counts the instructions of a request: `node scripts/instructions.mjs [--write]`. Runs native/bench/instructions.c under
// callgrind, with the libraries in VALK_DEPS_PREFIX if it is set, and fails where a workload takes 5 % more than
// scripts/instructions.json says. The counts hold for one compiler and one set of libraries. With other versions, as
// after an update of the system's, the bound is 15 % more than the most alike that were counted; with other libraries, or
// on another kind of processor, it only prints them. --write puts the new counts into that file.
import fs from 'node:fs';
import path from 'node:path';
import { readLog, root, run } from './support.mjs';

const toleranceRatio = 0.05;
const otherVersionsToleranceRatio = 0.15;
const recordFile = path.join(root, 'scripts/instructions.json');
const out = process.env.VALK_DEPS_PREFIX ? 'build-native/shipped' : 'build-native';
const folder = path.join(root, out, 'instructions');
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
  await must('build-release', 'make', ['-C', 'native', 'build-release', `OUT=${out}`]);
  const program = path.join(root, out, 'release/instructions');
  const outFile = `--callgrind-out-file=${path.join(folder, 'out')}`;
  const text = await must('instructions-callgrind', 'valgrind', ['-q', '--tool=callgrind', outFile, program]);
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

/** What |key| says, with no more of versions than what changes much: `x64`, `gcc 12`, …, `OpenSSL 3.0`, …, `AVX2`, … */
const kindOf = (key) => key.replace(/ (\d+)(\.\d+)?[\d.]*/g, (_, major, minor) => ` ${major}${minor ?? ''}`);

/** The key in |record| that is |key|, or of those that differ in versions alone the one that shares the most. */
function mostAlike(record, key) {
  const parts = key.split(', ');
  const shared = (other) => other.split(', ').filter((part) => parts.includes(part)).length;
  return Object.keys(record)
    .filter((other) => kindOf(other) === kindOf(key))
    .sort((a, b) => shared(b) - shared(a))[0];
}

function compare(key, record, counts) {
  const known = mostAlike(record, key);
  const wanted = record[known];
  const tolerance = known === key ? toleranceRatio : otherVersionsToleranceRatio;
  if (known && known !== key) console.log(`compared with ${known}`);
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
      if (change > tolerance) {
        word += ` of ${bound}: more than it may be`;
        failed = true;
      } else if (change < -tolerance) {
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
  process.exitCode = compare(key, record, counts) ? 0 : 1;
} catch (error) {
  console.error(`instructions: ${error.message}`);
  process.exitCode = 1;
}
