// How the servers that are JavaScript programs are started.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { benchFolder } from './peers.mjs';

/** A file of one of bench/node_modules' packages. */
export const packageFile = (...path) => join(benchFolder, 'node_modules', ...path);

/** Why a peer cannot be had that needs a file, or null. */
export const missingFile = (file) => (existsSync(file) ? null : `${file.split('node_modules/')[1]} is not installed`);

/** Command and words that run a program of bench/servers/ with the workload's settings. */
export function program(file, context, command = process.execPath, flags = []) {
  const { folder: _, ...settings } = context;
  return { command, args: [...flags, join(benchFolder, 'servers', file), JSON.stringify(settings)], cwd: benchFolder };
}
