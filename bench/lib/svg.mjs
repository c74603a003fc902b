// One SVG with a bar chart for each workload, drawn from medians; whiskers show the smallest and the largest run.
import { cell } from './report.mjs';
import { formatNumber } from './statistics.mjs';

const WIDTH = 860;
const LABEL = 170;
const ROW = 20;
const RIGHT = 110;

const escapeText = (text) =>
  String(text).replace(/[&<>"]/g, (letter) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[letter]);

function chart(workload, top) {
  const bars = workload.rows.map((row) => ({ row, value: cell(row, workload.bars) })).filter(({ value }) => value);
  const most = Math.max(...bars.map(({ value }) => value.max), Number.MIN_VALUE);
  const x = (value) => LABEL + (Math.max(0, value) / most) * (WIDTH - LABEL - RIGHT);
  const lines = [
    `<text x="0" y="${top + 14}" class="head">${escapeText(`${workload.name}: ${workload.what} (${workload.bars})`)}</text>`,
  ];
  bars.forEach(({ row, value }, index) => {
    const y = top + 24 + index * ROW;
    const kind = row.server.startsWith('valk-') ? 'ours' : 'peer';
    const middle = y + 7;
    lines.push(
      `<text x="${LABEL - 8}" y="${y + 11}" class="name">${escapeText(row.server)}</text>`,
      `<rect x="${LABEL}" y="${y}" width="${(x(value.median) - LABEL).toFixed(1)}" height="14" class="${kind}"/>`,
      `<path d="M${x(value.min).toFixed(1)} ${middle}H${x(value.max).toFixed(1)}" class="range"/>`,
      `<text x="${(x(value.max) + 6).toFixed(1)}" y="${y + 11}">${formatNumber(value.median)}</text>`,
    );
  });
  return { lines, height: 24 + bars.length * ROW + 24 };
}

/** The chart of a whole result. */
export function barChart(result) {
  const lines = [];
  let top = 10;
  for (const workload of result.workloads) {
    const { lines: drawn, height } = chart(workload, top);
    lines.push(...drawn);
    top += height;
  }
  const note = `${result.date.slice(0, 10)}, ${result.machine.processor}, ${result.machine.cores} cores, medians of ${result.rounds}`;
  lines.push(`<text x="0" y="${top + 8}" class="note">${escapeText(note)}</text>`);
  const style =
    'text{font:12px sans-serif;fill:#222}.head{font-weight:bold}.name{text-anchor:end}.note{fill:#666}' +
    '.ours{fill:#2a78d6}.peer{fill:#b8bcc2}.range{stroke:#222;stroke-width:1.5}';
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 0 ${WIDTH + 20} ${top + 24}" width="${WIDTH + 20}">
<style>${style}</style>
<rect x="-10" width="100%" height="100%" fill="#fff"/>
${lines.join('\n')}
</svg>
`;
}
