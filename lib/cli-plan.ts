import type { ConfigField, ConfigWarning, MemoryPlan, ResolvedConfig } from './config-types.js';
import { formatSize } from './format.js';
import { CONFIG_LIMITS, formatCount } from './limits.js';

/** The value that is looked at, as a person writes it. */
function formatField(field: ConfigField, value: number): string {
  if (CONFIG_LIMITS[field].unit === 'bytes') return formatSize(value);
  if (field === 'minBodyRate') return `${formatSize(value)}/s`;
  if (field.endsWith('Ms')) return value % 1000 === 0 ? `${formatCount(value / 1000)} s` : `${formatCount(value)} ms`;
  return formatCount(value);
}

/**
 * Renders a configuration, a field a line, with its units.
 *
 * @param config - As `resolveConfig` gives it.
 * @returns Lines of at most 80 columns, each with its end.
 */
export function renderConfig(config: ResolvedConfig): string {
  const fields = Object.keys(config) as ConfigField[];
  const rows = fields.map((field) => [`  ${field}`, formatField(field, config[field])]);
  return table([['Configuration', ''], ...rows]);
}

/**
 * Renders the memory that a configuration can take: each pool's items, their number and their sum, the
 * total, and what of it is there from the start (specification, section 1).
 *
 * @param config - As `resolveConfig` gives it.
 * @param plan - As `planMemory` gives it for that configuration.
 * @returns Lines of at most 80 columns, each with its end.
 */
export function renderMemory(config: ResolvedConfig, plan: MemoryPlan): string {
  const pool = (name: string, count: number, bytes: number): string[] => [
    `  ${name}`,
    formatCount(count),
    formatSize(Math.round(bytes / count)),
    formatSize(bytes),
  ];
  return table([
    ['Memory, at most', 'count', 'each', 'bytes'],
    pool('TCP buffers', config.tcpBufferPoolSize, plan.bufferBytes),
    pool('arenas', config.arenaPoolSize + config.maxOverflowArenas, plan.arenaBytes),
    pool('connections', config.maxConnections, plan.connectionBytes),
    ['  other', '', '', formatSize(plan.otherBytes)],
    ['  total', '', '', formatSize(plan.totalBytes)],
    ['  committed at start', '', '', formatSize(plan.committedBytes)],
  ]);
}

/**
 * Renders what `valk-aio plan` prints: configuration, memory and warnings.
 *
 * @param config - As `resolveConfig` gives it.
 * @param plan - As `planMemory` gives it for that configuration.
 * @param warnings - As `configWarnings` gives them for that configuration.
 */
export function renderPlan(config: ResolvedConfig, plan: MemoryPlan, warnings: readonly ConfigWarning[]): string {
  const notes = warnings.map(({ message }) => `${wrap(`warning: ${message}`)}\n`);
  return [renderConfig(config), renderMemory(config, plan), ...(notes.length > 0 ? [notes.join('')] : [])].join('\n');
}

/**
 * The same for programs: bytes, milliseconds and counts as plain numbers.
 *
 * @returns An object with `config`, `memory` and `warnings`, in JSON.
 */
export function planAsJson(config: ResolvedConfig, plan: MemoryPlan, warnings: readonly ConfigWarning[]): string {
  return `${JSON.stringify({ config, memory: plan, warnings }, null, 2)}\n`;
}

/** Pads the first column on its right and the others on their left. */
function table(rows: readonly (readonly string[])[]): string {
  const columns = Math.max(...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  const lines = rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart((widths[column] ?? 0) + 3)))
      .join('')
      .trimEnd(),
  );
  return `${lines.join('\n')}\n`;
}

/** Breaks a sentence at spaces into lines of at most 80 columns; a longer word keeps a line of its own. */
function wrap(text: string): string {
  const lines = [''];
  for (const word of text.split(' ')) {
    const line = lines.at(-1) ?? '';
    const longer = line === '' ? word : `${line} ${word}`;
    if (longer.length <= 80 || line === '') lines[lines.length - 1] = longer;
    else lines.push(`  ${word}`);
  }
  return lines.join('\n');
}
