// The workloads: one module for each of W1 to W8 in bench/workloads/.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { benchFolder } from './peers.mjs';

/** All workloads, or those whose name or whose name's beginning (`w1` for `w1-100x10`) is among |names|. */
export async function loadWorkloads(names) {
  const all = [];
  for (const file of readdirSync(join(benchFolder, 'workloads')).sort()) {
    const { workloads } = await import(`../workloads/${file}`);
    all.push(...workloads);
  }
  if (!names) return all;
  const isMeant = (workload, name) => workload.name === name || workload.name.startsWith(`${name}-`);
  const unknown = names.filter((name) => !all.some((workload) => isMeant(workload, name)));
  if (unknown.length > 0) {
    throw new Error(`no workload is called ${unknown.join(', ')}; there are ${all.map(({ name }) => name).join(', ')}`);
  }
  return all.filter((workload) => names.some((name) => isMeant(workload, name)));
}
