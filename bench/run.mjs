// `npm run bench`: see bench/README.md.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { root } from '../scripts/support.mjs';
import { endAll } from './lib/children.mjs';
import { buildLoad } from './lib/load.mjs';
import { describeMachine, describeVersions } from './lib/machine.mjs';
import { loadPeers } from './lib/peers.mjs';
import { buildOurs, fetchPeers, makeFiles } from './lib/prepare.mjs';
import { textTable } from './lib/report.mjs';
import { startServer } from './lib/servers.mjs';
import { barChart } from './lib/svg.mjs';
import { loadWorkloads } from './lib/workloads.mjs';

const USAGE = `usage: npm run bench -- [--workloads w1,w5] [--servers valk-plain,bun] [--starts 1] [--rounds 5]
  [--seconds 2] [--quick] [--no-install] [--out folder] [--list]`;

const { values: options } = parseArgs({
  options: {
    workloads: { type: 'string' },
    servers: { type: 'string' },
    starts: { type: 'string' },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    out: { type: 'string', default: join(root, 'build-native', 'bench', 'results') },
    quick: { type: 'boolean', default: false },
    'no-install': { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

// On a terminal the line of progress is written over.
const IN_PLACE = process.stderr.isTTY ? '\r\x1b[K' : '';
const SERVER_CORE = 0;
const CLIENT_CORE = Math.min(1, availableParallelism() - 1);
const say = (text) => process.stderr.write(`${text}\n`);
const split = (text) => text?.split(',').map((word) => word.trim());

function positive(name, fallback) {
  const value = options[name] === undefined ? fallback : Number(options[name]);
  if (!(value > 0)) throw new Error(`--${name} must be a number above 0`);
  return value;
}

/** The peers that can be had here, in the order of bench/peers/; says a word about each of the others. */
async function findPeers() {
  const found = [];
  const skipped = [];
  for (const peer of await loadPeers(split(options.servers))) {
    const reason = await peer.find();
    if (reason === null) {
      found.push(peer);
    } else {
      say(`${peer.name} is skipped: ${reason}`);
      skipped.push({ server: peer.name, reason });
    }
  }
  return { found, skipped };
}

/** The rows of a workload's table: each server that can do it, in each of the workload's variants. */
function rowsOf(workload, peers) {
  const able = peers.filter((peer) => peer.routes.includes(workload.route) && (!workload.only || workload.only(peer)));
  return able.flatMap((peer) =>
    (workload.variants ?? [{}]).map((variant) => ({
      peer,
      variant,
      row: { server: variant.name ? `${peer.name} ${variant.name}` : peer.name, what: peer.what, runs: [] },
    })),
  );
}

/** Starts and warms up the server of a row. Where that fails the row gets a failed run, and this resolves to null. */
async function startRow({ peer, variant, row }, workload, context) {
  const settings = { ...context.certificate, folder: context.folder, ...workload.settings, ...variant.settings };
  let server;
  try {
    server = await startServer(peer, settings, workload.isUnpinned ? undefined : SERVER_CORE);
    server.plan = await workload.warmUp(server, context, variant);
    if (server.plan.failure) throw new Error(server.plan.failure);
    return { server, variant, row };
  } catch (error) {
    say(`  ${row.server}: ${error.message}`);
    row.runs.push({ failure: error.message.split('\n')[0] });
    await server?.end();
    return null;
  }
}

/** One measured run. One that fails, as when the server is gone, says so, and the others go on. */
async function measureRow(workload, server, context, variant) {
  try {
    return await workload.measure(server, server.plan, context, variant);
  } catch (error) {
    return { failure: error.message.split('\n')[0] };
  }
}

/** Starts the workload's servers, warms them up, and measures them in turn: A B C A B C. And again, in fresh processes. */
async function runWorkload(workload, peers, context) {
  const rows = rowsOf(workload, peers);
  for (let start = 1; start <= context.starts; start++) {
    const servers = [];
    try {
      // Who is started last meets another machine than who is first: in turn.
      for (const row of start % 2 === 1 ? rows : rows.toReversed()) {
        const started = await startRow(row, workload, context);
        if (started) servers.push(started);
      }
      for (let round = 1; round <= context.rounds; round++) {
        for (const { server, row, variant } of servers) {
          const done = `${workload.name} start ${start} of ${context.starts}, round ${round} of ${context.rounds}`;
          process.stderr.write(`${IN_PLACE}  ${done}: ${row.server}${IN_PLACE === '' ? '\n' : ''}`);
          row.runs.push(await measureRow(workload, server, context, variant));
        }
      }
      process.stderr.write(IN_PLACE);
    } finally {
      for (const { server } of servers) await server.end();
    }
  }
  const { name, what, unit, bars } = workload;
  return { name, what, unit, bars, rows: rows.map(({ row }) => row) };
}

async function main(folder) {
  if (!options['no-install']) {
    await buildOurs(say);
    await fetchPeers(await loadPeers(split(options.servers)), say);
  }
  await buildLoad();
  const workloads = await loadWorkloads(split(options.workloads));
  const { found, skipped } = await findPeers();
  const certificate = makeFiles(folder);
  const context = {
    folder,
    certificate,
    files: certificate.files,
    starts: positive('starts', 1),
    rounds: positive('rounds', options.quick ? 1 : 5),
    seconds: positive('seconds', options.quick ? 0.2 : 2),
    isQuick: options.quick,
    clientCore: CLIENT_CORE,
  };
  const { loadNative } = await import('../dist/native.js');
  const result = {
    date: new Date().toISOString(),
    machine: describeMachine(),
    versions: describeVersions(loadNative().versions()),
    starts: context.starts,
    rounds: context.starts * context.rounds,
    secondsPerRun: context.seconds,
    skipped,
    workloads: [],
  };
  mkdirSync(options.out, { recursive: true });
  for (const workload of workloads) {
    say(`${workload.name}: ${workload.what}`);
    const measured = await runWorkload(workload, found, context);
    result.workloads.push(measured);
    console.log(`\n${textTable(measured)}\n`);
    // After each workload, so that what was measured is there whatever comes.
    writeFileSync(join(options.out, 'results.json'), `${JSON.stringify(result, null, 2)}\n`);
    writeFileSync(join(options.out, 'results.svg'), barChart(result));
  }
  say(`written: ${join(options.out, 'results.json')} and results.svg`);
}

if (options.help) {
  console.log(USAGE);
} else if (options.list) {
  for (const { name, what } of await loadWorkloads()) console.log(`${name.padEnd(14)}${what}`);
  for (const { name, what } of await loadPeers()) console.log(`${name.padEnd(14)}${what}`);
} else {
  const folder = mkdtempSync(join(tmpdir(), 'valk-aio-bench-'));
  // At a signal scripts/support.mjs ends the process; this is the last that it does.
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  try {
    await main(folder);
  } catch (error) {
    say(`bench: ${error.message}`);
    process.exitCode = 1;
  } finally {
    await endAll();
  }
}
