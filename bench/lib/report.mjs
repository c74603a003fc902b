// Tables of a result: for the terminal, and in markdown.
import { formatNumber, ratio, summarize } from './statistics.mjs';

/** The columns that a workload's rows have, in the order in which they first appear. */
export function columnsOf(workload) {
  const names = new Set();
  for (const { runs } of workload.rows) {
    for (const run of runs)
      for (const [name, value] of Object.entries(run)) if (typeof value === 'number') names.add(name);
  }
  return [...names];
}

/** A row's values of one column, summed up. */
export function cell(row, column) {
  return summarize(row.runs.map((run) => run[column]));
}

const range = ({ median, min, max }) =>
  min === max ? formatNumber(median) : `${formatNumber(median)} (${formatNumber(min)}–${formatNumber(max)})`;

/** The rows of a workload as text: head first. The last column relates the deciding figure to the first row that has one. */
export function tableOf(workload, { short = false } = {}) {
  const columns = columnsOf(workload);
  const base = workload.rows.map((row) => cell(row, workload.bars)?.median).find((value) => value > 0);
  const head = ['server', ...columns, '×'];
  const body = workload.rows.map((row) => {
    const failures = row.runs.filter((run) => run.failure).length;
    const name =
      failures > 0
        ? `${row.server} (${failures} of ${row.runs.length} failed: ${row.runs.find((run) => run.failure).failure})`
        : row.server;
    const cells = columns.map((column) => {
      const summary = cell(row, column);
      if (!summary) return '–';
      return short || column !== workload.bars ? formatNumber(summary.median) : range(summary);
    });
    return [name, ...cells, formatNumber(ratio(cell(row, workload.bars)?.median, base))];
  });
  return [head, ...body];
}

/** A table with aligned columns, for the terminal. */
export function textTable(workload) {
  const rows = tableOf(workload);
  const widths = rows[0].map((_, index) => Math.max(...rows.map((row) => row[index].length)));
  const line = (row) => row.map((text, i) => (i === 0 ? text.padEnd(widths[i]) : text.padStart(widths[i]))).join('  ');
  return [`${workload.name}: ${workload.what}`, ...rows.map((row) => `  ${line(row).trimEnd()}`)].join('\n');
}

/** The same in markdown. */
export function markdownTable(workload) {
  const [head, ...body] = tableOf(workload);
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const rule = line(head.map((_, index) => (index === 0 ? '---' : '---:')));
  return [`### ${workload.name}: ${workload.what}`, '', line(head), rule, ...body.map(line)].join('\n');
}
