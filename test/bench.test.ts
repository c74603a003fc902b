import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { PACKAGE, runNode } from './helpers/command.js';

interface Row {
  readonly server: string;
  readonly runs: readonly { readonly [name: string]: number | string }[];
}

interface Result {
  readonly versions: Readonly<Record<string, string>>;
  readonly workloads: readonly { readonly name: string; readonly bars: string; readonly rows: readonly Row[] }[];
}

interface Statistics {
  median(values: readonly number[]): number;
  percentile(sorted: readonly number[], share: number): number;
  summarize(values: readonly (number | undefined)[]): { median: number; min: number; max: number } | null;
  ratio(value: number, base: number): number;
  formatNumber(value: number | null): string;
}

// The suite is plain JavaScript, which the compiler does not look into.
const load = async <T>(file: string): Promise<T> => (await import(join(PACKAGE, 'bench', file))) as T;

/** The commands of processes that have |text| among their words. */
function commandsWith(text: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      } catch {
        return ''; // It has ended meanwhile.
      }
    })
    .filter((command) => command.includes(text));
}

test('median, percentile, summary and ratio', async (t) => {
  const { median, percentile, summarize, ratio } = await load<Statistics>('lib/statistics.mjs');
  t.is(median([3, 1, 2]), 2);
  t.is(median([4, 1, 3, 2]), 2.5);
  t.true(Number.isNaN(median([])));
  const hundred = Array.from({ length: 100 }, (_, index) => index + 1);
  t.deepEqual([percentile(hundred, 0.5), percentile(hundred, 0.99), percentile(hundred, 1)], [50, 99, 100]);
  t.is(percentile([7], 0), 7);
  t.deepEqual(summarize([5, undefined, 1, Number.NaN, 3]), { median: 3, min: 1, max: 5 });
  t.is(summarize([undefined, Number.NaN]), null);
  const never = Number.POSITIVE_INFINITY;
  t.deepEqual(summarize([never, 19, never]), { median: never, min: 19, max: never });
  t.is(ratio(3, 4), 0.75);
  t.true(Number.isNaN(ratio(3, 0)));
});

test('numbers are written with three digits', async (t) => {
  const { formatNumber } = await load<Statistics>('lib/statistics.mjs');
  t.deepEqual([0.1234, 1.234, 12.34, 123.4, 1234, 0].map(formatNumber), ['0.123', '1.23', '12.3', '123', '1,234', '0']);
  t.is(formatNumber(Number.NaN), '–');
  t.is(formatNumber(null), '–');
  t.is(formatNumber(Number.POSITIVE_INFINITY), '∞');
});

const made = {
  date: '2026-01-02T03:04:05.000Z',
  machine: { processor: 'A <B> & C', cores: 2, memoryGib: 8, kernel: '6' },
  versions: { Node: '20' },
  rounds: 2,
  skipped: [{ server: 'gone', reason: 'it is not there' }],
  workloads: [
    {
      name: 'w1',
      what: 'a GET',
      unit: 'request',
      bars: 'CPU µs/request',
      rows: [
        { server: 'valk-plain', runs: [{ 'CPU µs/request': 2 }, { 'CPU µs/request': 4 }] },
        { server: 'other', runs: [{ 'CPU µs/request': 6 }, { failure: 'no end' }] },
        { server: 'broken', runs: [{ failure: 'no start' }] },
      ],
    },
  ],
};

test('the chart has a bar for each server with a figure, as long as its median', async (t) => {
  const { barChart } = await load<{ barChart(result: object): string }>('lib/svg.mjs');
  const svg = barChart(made);
  const widths = [...svg.matchAll(/width="([\d.]+)" height="14" class="(\w+)"/g)].map(([, width, kind]) => [
    kind,
    Number(width),
  ]);
  t.deepEqual(widths, [
    ['ours', 290],
    ['peer', 580],
  ]);
  t.true(svg.includes('A &lt;B&gt; &amp; C'));
  t.false(svg.includes('broken'));
});

test('the markdown table relates all rows to the first', async (t) => {
  const { markdownTable } = await load<{ markdownTable(workload: object): string }>('lib/report.mjs');
  const rows = markdownTable(made.workloads[0] ?? {})
    .split('\n')
    .slice(4);
  t.deepEqual(rows, [
    '| valk-plain | 3.00 (2.00–4.00) | 1.00 |',
    '| other (1 of 2 failed: no end) | 6.00 | 2.00 |',
    '| broken (1 of 1 failed: no start) | – | – |',
  ]);
});

test('what h2load prints is read', async (t) => {
  const { parseSummary } = await load<{ parseSummary(text: string): object }>('lib/h2load.mjs');
  const text = `finished in 20.98ms, 9532.84 req/s, 1.00MB/s
requests: 200 total, 200 started, 200 done, 199 succeeded, 1 failed, 1 errored, 0 timeout
status codes: 198 2xx, 0 3xx, 1 4xx, 0 5xx`;
  t.deepEqual(parseSummary(text), { perSecond: 9532.84, succeeded: 199, ok: 198 });
});

test('the requests that began first are not among the latencies', async (t) => {
  const { latenciesUs } = await load<{ latenciesUs(log: string, first: number): number[] }>('lib/h2load.mjs');
  // In the order of their ends: when it began, the status, how long it took.
  const log = '1000200\t200\t50\n1000100\t200\t900\n1000300\t200\t10\n1000400\t200\t7\n1000050\t200\t5000\n';
  t.deepEqual(latenciesUs(log, 2), [7, 10, 50]);
  t.deepEqual(latenciesUs(log, 0), [7, 10, 50, 900, 5000]);
});

test('unknown servers and workloads are named', async (t) => {
  const none = ['bench/run.mjs', '--no-install'];
  const server = await runNode([...none, '--workloads', 'w1', '--servers', 'nobody']);
  t.is(server.code, 1);
  t.regex(server.stderr, /no server is called nobody; there are .*valk-plain/);
  const workload = await runNode([...none, '--workloads', 'w99']);
  t.is(workload.code, 1);
  t.regex(workload.stderr, /no workload is called w99; there are w1-1x1/);
});

test.serial('a run measures what it is asked for, and leaves no process behind', async (t) => {
  const out = mkdtempSync(join(tmpdir(), 'valk-aio-bench-test-'));
  try {
    // Its own folder for temporary files tells its processes from those of another run.
    const words = ['--quick', '--starts', '2', '--rounds', '1', '--seconds', '0.1', '--no-install', '--out', out];
    const what = ['--workloads', 'w1-10x10,w5-resumed', '--servers', 'node-stream,valk-static'];
    const { code, stdout, stderr } = await runNode(['bench/run.mjs', ...words, ...what], { TMPDIR: out });
    t.is(code, 0, stderr);
    const result = JSON.parse(readFileSync(join(out, 'results.json'), 'utf8')) as Result;
    t.deepEqual(
      result.workloads.map(({ name }) => name),
      ['w1-10x10', 'w5-resumed'],
    );
    for (const { bars, rows } of result.workloads) {
      t.deepEqual(rows.map(({ server }) => server).sort(), ['node-stream', 'valk-static']);
      for (const { server, runs } of rows) {
        t.is(runs.length, 2);
        t.true(Number(runs[0]?.[bars]) > 0, `${server}: ${JSON.stringify(runs)}`);
        t.true(stdout.includes(server));
      }
    }
    t.is(result.workloads[1]?.rows[0]?.runs[0]?.['resumed %'], 100);
    t.regex(readFileSync(join(out, 'results.svg'), 'utf8'), /^<svg [\s\S]*<\/svg>\n$/);
    t.deepEqual(commandsWith(out), []);

    const table = await runNode(['bench/table.mjs', join(out, 'results.json')]);
    t.is(table.code, 0, table.stderr);
    t.regex(table.stdout, /^### w5-resumed: /m);
    t.true(table.stdout.includes(`Node ${result.versions.Node}`));
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
});
