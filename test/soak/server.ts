// The process of the soak's server: does what its parent asks, one thing at a time.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { AioConfig, AioStats, KeyAndCertificate } from 'valk-aio';
import { descriptorCount, threadCount } from '../helpers/serve.js';

/** What can be asked. */
export type Order =
  | { readonly what: 'start'; readonly config: AioConfig; readonly certificate: KeyAndCertificate }
  | { readonly what: 'restart' }
  | { readonly what: 'certificate'; readonly certificate: KeyAndCertificate }
  | { readonly what: 'figures' };

/** The answer to each order. */
export interface Figures {
  readonly port: number;
  readonly rssBytes: number;
  readonly descriptors: number;
  readonly threads: number;
  readonly stats: AioStats;
}

let worker: Worker;
let port = 0;
let config: AioConfig = {};
let certificate: KeyAndCertificate;

async function begin(): Promise<void> {
  worker = new Worker(new URL('worker.mjs', import.meta.url), {
    workerData: { ...certificate, port, config },
    execArgv: [],
  });
  const [started] = (await once(worker, 'message')) as [{ port: number }];
  port = started.port;
}

async function obey(order: Order): Promise<Figures> {
  if (order.what === 'start') {
    ({ config, certificate } = order);
    await begin();
  } else if (order.what === 'restart') {
    await worker.terminate();
    await begin();
  } else if (order.what === 'certificate') {
    ({ certificate } = order);
  }
  worker.postMessage(order.what === 'certificate' ? { certificate } : {});
  const [{ stats }] = (await once(worker, 'message')) as [{ stats: AioStats }];
  globalThis.gc?.();
  return { port, rssBytes: process.memoryUsage.rss(), descriptors: descriptorCount(), threads: threadCount(), stats };
}

process.on('message', async (order: Order) => {
  process.send?.(await obey(order));
});
process.on('disconnect', () => process.exit());
