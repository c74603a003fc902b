// What a path may try against the static server of the command.
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { planMemory, resolveConfig } from 'valk-aio';
import { devCertificate } from '../../lib/dev-certificate.js';
import { until } from '../helpers/client.js';
import { PACKAGE, startServer } from '../helpers/command.js';
import { SECRET } from './attacks-paths.js';
import { Attacker, DURATION_MS, GoodClient, P99_MS } from './battle.js';

const NAME = 'paths that lead out of the directory';
const base = realpathSync(mkdtempSync(join(tmpdir(), 'valk-aio-attack-')));
test.after.always(() => rmSync(base, { recursive: true, force: true }));

/** The process that listens on |port|: the one child whose command names the site. */
function processOf(site: string): number {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  const found = pids.find((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(site);
    } catch {
      return false;
    }
  });
  return Number(found);
}

const rss = (pid: number, name: string): number =>
  Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;

test(NAME, async (t) => {
  const site = join(base, 'site');
  mkdirSync(join(site, 'inner'), { recursive: true });
  mkdirSync(join(site, '.hidden'));
  mkdirSync(join(base, 'site-beside'));
  for (const file of ['secret.txt', 'site-beside/secret.txt', 'site/.hidden/secret.txt', 'site/.secret']) {
    writeFileSync(join(base, file), SECRET);
  }
  writeFileSync(join(site, 'good.txt'), 'good');
  symlinkSync('../secret.txt', join(site, 'link.txt'));
  symlinkSync(join(base, 'secret.txt'), join(site, 'absolute.txt'));
  symlinkSync('../site-beside', join(site, 'beside'));
  symlinkSync('/', join(site, 'root'));
  symlinkSync('.secret', join(site, 'hidden.txt'));
  symlinkSync('loop', join(site, 'loop'));

  const data = join(base, 'data');
  const { cert } = await devCertificate({ directory: join(data, 'valk-aio') });
  const server = await startServer([join(PACKAGE, 'dist', 'cli.js'), 'serve', site, '--port', '0'], {
    XDG_DATA_HOME: data,
  });
  t.teardown(() => server.end('SIGTERM'));
  const pid = processOf(site);
  const attacker = await Attacker.start(t);
  const good = await GoodClient.open(t, server.url, cert, '/good.txt');
  good.begin();
  await sleep(300);
  await good.end();
  good.times.length = 0;
  const descriptors = (): number => readdirSync(`/proc/${pid}/fd`).length;
  const before = { descriptors: descriptors(), rss: rss(pid, 'VmRSS') };

  good.begin();
  const port = Number(new URL(server.url).port);
  const report = await attacker.run({ name: NAME, port, durationMs: DURATION_MS, connections: 2 });
  await good.end();
  const peak = rss(pid, 'VmHWM');
  await until('no descriptor is left', () => descriptors() <= before.descriptors);
  t.log(
    `${NAME}: good ${good.times.length} answered, p50 ${good.quantile(0.5).toFixed(1)} ms, ` +
      `p99 ${good.quantile(0.99).toFixed(1)} ms; RSS ${[before.rss, peak, rss(pid, 'VmRSS')].map((bytes) => Math.round(bytes / 2 ** 20)).join(' / ')} MiB; ` +
      `${report.sent} sent; ${JSON.stringify(report.statuses)}`,
  );
  t.deepEqual(good.failures, []);
  t.true(good.quantile(0.99) < P99_MS);
  t.true(report.sent > 0);
  // Redirections to a path of the site's own are no way out; what is served is looked at by the attacker.
  for (const status of Object.keys(report.statuses))
    t.true(['301', '308', '400', '403', '404'].includes(status), status);
  t.true(peak - before.rss < planMemory(resolveConfig()).totalBytes);
});
