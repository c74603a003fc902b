// Starts and stops a system again and again, `restarts.ts <times> <traffic: 0 or 1>`, and prints as JSON what grew.
import { once } from 'node:events';
import { connect } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import { start } from 'valk-aio';
import { descriptorCount, threadCount } from './serve.js';

/** What `restarts.ts` prints: the difference between a time after a warm-up and the end. */
export interface Growth {
  readonly rssBytes: number;
  readonly descriptors: number;
  readonly threads: number;
}

const key = process.env.KEY as string;
const cert = process.env.CERT as string;

async function cycle(withTraffic: boolean): Promise<void> {
  const aio = start();
  const server = await aio.listen({ key, cert }, async (request) => ({ body: await request.text() }));
  if (withTraffic) {
    const session = connect(server.url, { ca: cert });
    await Promise.all(
      Array.from({ length: 10 }, async () => {
        const stream = session.request({ ':method': 'POST', ':path': '/' });
        stream.end('x'.repeat(20_000));
        let length = 0;
        for await (const chunk of stream) length += (chunk as Buffer).length;
        if (length !== 20_000) throw new Error(`${length} bytes came`);
      }),
    );
    const closed = once(session, 'close');
    await aio.stop();
    await closed;
  } else {
    await aio.stop();
  }
}

/** The figures once what the last cycle left to the collector and the event loop is gone. */
async function measure(): Promise<Growth> {
  for (let round = 0; round < 3; round++) {
    globalThis.gc?.();
    await sleep(20);
  }
  return { rssBytes: process.memoryUsage.rss(), descriptors: descriptorCount(), threads: threadCount() };
}

async function main(times: number, withTraffic: boolean): Promise<void> {
  const repeat = async (count: number): Promise<void> => {
    for (let round = 0; round < count; round++) {
      await cycle(withTraffic);
      // V8 is in no hurry to collect the memory that it shared with systems of the past.
      if (round % 20 === 0) globalThis.gc?.();
    }
  };
  await repeat(Math.max(times / 5, 60));
  const before = await measure();
  await repeat(times);
  const after = await measure();
  const growth: Growth = {
    rssBytes: after.rssBytes - before.rssBytes,
    descriptors: after.descriptors - before.descriptors,
    threads: after.threads - before.threads,
  };
  console.log(JSON.stringify(growth));
}

await main(Number(process.argv[2]), process.argv[3] === '1');
