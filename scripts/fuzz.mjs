// Fuzzes what takes bytes from outside: `npm run test:fuzz`, with VALK_FUZZ_SECONDS for each target (default 60) and
// VALK_FUZZ_TARGETS for some of them. What a run adds to the seeds of native/fuzz/corpus stays in build-native/fuzz.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setup } from './setup.mjs';
import { cores, readLog, root, run } from './support.mjs';

const seconds = Number(process.env.VALK_FUZZ_SECONDS ?? 60);
const corpus = path.join(root, 'native/fuzz/corpus');
const targets = (process.env.VALK_FUZZ_TARGETS ?? fs.readdirSync(corpus).join(' ')).split(' ').sort();

// Sanitizers of this age lose their way in a wide randomised address space: so scripts/run-native.sh, too.
const fixed = spawnSync('setarch', ['-R', 'true'], { stdio: 'ignore' }).status === 0 ? ['setarch', '-R'] : [];

async function fuzz(target) {
  const folder = path.join(root, 'build-native/fuzz', target);
  fs.mkdirSync(folder, { recursive: true });
  const args = [
    ...[folder, path.join(corpus, target)],
    ...[`-max_total_time=${seconds}`, '-timeout=20', '-rss_limit_mb=2048', '-max_len=4096', '-print_final_stats=1'],
    `-artifact_prefix=${folder}-`,
  ];
  const name = `fuzz-${target}`;
  const program = path.join(root, `build-native/fuzz/fuzz_${target}`);
  const [command, ...rest] = [...fixed, program, ...args];
  const { ok, log } = await run(name, command, rest, { timeoutMs: (seconds + 120) * 1000 });
  const text = fs.readFileSync(log, 'utf8');
  const executions = text.match(/number_of_executed_units: (\d+)/)?.[1] ?? 0;
  const [coverage] = [...text.matchAll(/cov: \d+ ft: \d+/g)].at(-1) ?? ['cov: ?'];
  if (ok && Number(executions) > 0) {
    console.log(`ok ${target}: ${executions} executions in ${seconds} s, ${coverage}`);
    return true;
  }
  console.log(`not ok ${target}\n${readLog(log, 200)}`);
  return false;
}

let passed = 0;
let failed = 0;
await setup('fuzz');
const build = await run('fuzz-build', 'make', ['-C', 'native', `-j${cores}`, 'build-fuzz']);
if (build.ok) {
  const waiting = [...targets];
  const work = async () => {
    for (let target = waiting.shift(); target !== undefined; target = waiting.shift()) {
      if (await fuzz(target)) passed++;
      else failed++;
    }
  };
  await Promise.all(Array.from({ length: cores }, work));
} else {
  console.log(readLog(build.log));
  failed++;
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
