// Checks the models of docs/models with spin: each holds, whatever the order of steps, and each of its broken variants
// fails, which shows that the property is one that can be missed. `node scripts/check-models.mjs [model…]`.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setup } from './setup.mjs';
import { listFiles, root } from './support.mjs';

/** How a model is checked: the compiler's and the verifier's arguments. */
const deadlocks = { what: 'no run ends early', compile: ['-DSAFETY'], verify: [] };
const cycles = { what: 'no run is endless', compile: ['-DNP', '-DNOFAIR'], verify: ['-l'] };
const fair = { what: 'whoever waits is served', compile: ['-DNFAIR=4'], verify: ['-a', '-f'] };

const broken = (...numbers) => numbers.map((number) => ({ ...deadlocks, flags: [`-DBROKEN=${number}`], fails: true }));
const models = {
  buffers: [deadlocks, cycles, { ...fair, flags: ['-DLIVE'] }, ...broken(1, 2, 3)],
  admission: [deadlocks, cycles, ...broken(1, 2, 3)],
  bridge: [
    deadlocks,
    cycles,
    ...broken(1, 2, 3, 5),
    { ...deadlocks, flags: ['-DBROKEN=4', '-DTEXT_LACKS=true'], fails: true },
  ],
};

const folder = path.join(root, 'build-native/models');

function check(model, { compile, verify, flags = [] }) {
  // The verifier, and the trail of an error, are written into the folder where spin runs.
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(folder, { recursive: true });
  for (const file of listFiles(['docs/models'])) {
    fs.copyFileSync(path.join(root, file), path.join(folder, path.basename(file)));
  }
  const run = (command, args) => execFileSync(command, args, { cwd: folder, encoding: 'utf8', timeout: 300_000 });
  run('spin', ['-a', ...flags, `${model}.pml`]);
  run('gcc', ['-O2', '-w', '-DCOLLAPSE', '-DVECTORSZ=2048', ...compile, '-o', 'pan', 'pan.c']);
  return run('./pan', ['-m1000000', '-w22', ...verify]);
}

await setup('model');
const asked = process.argv.slice(2);
let passed = 0;
let failed = 0;
for (const [model, checks] of Object.entries(models)) {
  if (asked.length > 0 && !asked.includes(model)) continue;
  for (const each of checks) {
    const name = [model, ...(each.flags ?? [])].join(' ');
    let text;
    try {
      text = check(model, each);
    } catch (error) {
      text = `${error.stdout ?? ''}${error.stderr ?? ''}${error.message}`;
    }
    const errors = text.match(/errors: (\d+)/)?.[1];
    const states = text.match(/(\d+) states, stored/)?.[1];
    const seconds = text.match(/elapsed time ([\d.]+)/)?.[1];
    // A search that was cut off by its depth or its memory has shown nothing.
    const whole = !/max search depth too small|out of memory|Search not completed/.test(text);
    const holds = errors === '0' && whole;
    const isAsItShould = each.fails ? errors === '1' : holds;
    const outcome = each.fails ? 'fails, as it must' : each.what;
    if (isAsItShould) {
      passed++;
      console.log(`ok ${name}: ${outcome}, ${states} states, ${seconds} s`);
    } else {
      failed++;
      console.log(`not ok ${name}: expected: ${outcome}\n  ${text.replaceAll('\n', '\n  ')}`);
    }
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
