// What the examples share. A server of your own reads its key and certificate with readFile().
import { devCertificate } from '../dist/dev-certificate.js';

const { key, cert } = await devCertificate();

/** For listen(): PORT from the environment, or a free port. */
export const options = { port: Number(process.env.PORT ?? 0), key, cert };

/** Ends the process once the requests in flight have their answers. */
export function stopOnSignal(aio, stopOptions) {
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => aio.stop(stopOptions));
}
