// What a process and its descendants have used, from /proc.
import { readdirSync, readFileSync } from 'node:fs';

const TICK_NS = 10_000_000; // 1 / sysconf(_SC_CLK_TCK) on every Linux that Node runs on

function read(path) {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return ''; // The process or thread has ended.
  }
}

function list(path) {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

/** The process and all that descend from it. */
export function processTree(pid) {
  const tree = [pid];
  for (const parent of tree) {
    for (const task of list(`/proc/${parent}/task`)) {
      tree.push(...read(`/proc/${parent}/task/${task}/children`).split(' ').filter(Boolean).map(Number));
    }
  }
  return tree;
}

/** Nanoseconds on a core by the threads that live, as the scheduler counts them. */
function schedulerNs(pid) {
  let sum = 0;
  for (const task of list(`/proc/${pid}/task`)) {
    sum += Number(read(`/proc/${pid}/task/${task}/schedstat`).split(' ')[0]);
  }
  return sum;
}

/** Nanoseconds of user and system time, those of ended threads included, in steps of a tick. */
function tickNs(pid) {
  // After the command's name, which is in brackets and may hold anything: fields 3 onward.
  const stat = read(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return stat === '' ? 0 : (Number(fields[11]) + Number(fields[12])) * TICK_NS;
}

/** A stopwatch for the CPU time of a process tree: call it to get the nanoseconds since it was made. */
export function cpuStopwatch(pid) {
  const now = () => {
    const pids = processTree(pid);
    const sum = (of) => pids.reduce((total, one) => total + of(one), 0);
    return { fine: sum(schedulerNs), coarse: sum(tickNs) };
  };
  const begin = now();
  return () => {
    const end = now();
    const fine = end.fine - begin.fine;
    const coarse = end.coarse - begin.coarse;
    // The fine count loses what threads that ended meanwhile have used; the other one keeps it.
    return coarse - fine > 5 * TICK_NS ? coarse : fine;
  };
}

/** Bytes of resident memory of a process tree. Pages that processes share are counted once where the kernel says so. */
export function residentBytes(pid) {
  let sum = 0;
  for (const one of processTree(pid)) {
    const kib = /^Pss:\s+(\d+) kB/m.exec(read(`/proc/${one}/smaps_rollup`))?.[1];
    const rss = /^VmRSS:\s+(\d+) kB/m.exec(read(`/proc/${one}/status`))?.[1];
    sum += Number(kib ?? rss ?? 0) * 1024;
  }
  return sum;
}
