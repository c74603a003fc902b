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

const USAGE = `usage: npm run bench -- [--workloads w1,w5] [--servers valk-plain,bun] [--rounds 5] [--seconds 2]
  [--quick] [--no-install] [--out folder] [--list]`;

const { values: options } = parseArgs({
  options: {
    workloads: { type: 'string' },
    servers: { type: 'string' },
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

/** Starts the workload's servers, warms them up, and measures them in turn: A B C A B C. */
async function runWorkload(workload, peers, context) {
  const servers = [];
  const rows = [];
  const core = workload.isUnpinned ? undefined : SERVER_CORE;
  try {
    for (const peer of peers.filter(({ routes }) => routes.includes(workload.route))) {
      if (workload.only && !workload.only(peer)) continue;
      for (const variant of workload.variants ?? [{}]) {
        const row = { server: variant.name ? `${peer.name} ${variant.name}` : peer.name, what: peer.what, runs: [] };
        rows.push(row);
        try {
          const settings = {
            ...context.certificate,
            folder: context.folder,
            ...workload.settings,
            ...variant.settings,
          };
          const server = await startServer(peer, settings, core);
          servers.push({ server, row, variant });
          server.plan = await workload.warmUp(server, context, variant);
          if (server.plan.failure) throw new Error(server.plan.failure);
        } catch (error) {
          say(`  ${row.server}: ${error.message}`);
          row.runs.push({ failure: error.message.split('\n')[0] });
          if (servers.at(-1)?.row === row) await servers.pop().server.end();
        }
      }
    }
    for (let round = 1; round <= context.rounds; round++) {
      for (const { server, row, variant } of servers) {
        process.stderr.write(
          `${IN_PLACE}  ${workload.name} round ${round} of ${context.rounds}: ${row.server}${IN_PLACE === '' ? '\n' : ''}`,
        );
        row.runs.push(await workload.measure(server, server.plan, context, variant));
      }
    }
    process.stderr.write(IN_PLACE);
  } finally {
    for (const { server } of servers) await server.end();
  }
  return { name: workload.name, what: workload.what, unit: workload.unit, bars: workload.bars, rows };
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
    rounds: context.rounds,
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
