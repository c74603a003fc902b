// The attackers' process: runs one attack at a time, as it is told over IPC by battle.ts. It is not the process of the client
// that measures, which must not wait for its own side.
import { type Arena, type Attack, attacks } from './attacks.js';
import { newReport, type Report } from './peer.js';

export interface Order {
  readonly name: string;
  readonly port: number;
  readonly durationMs: number;
  readonly connections: number;
}

process.on('message', async ({ name, port, durationMs, connections }: Order) => {
  const report: Report = newReport();
  const arena: Arena = { port, durationMs, connections, report, until: performance.now() + durationMs };
  try {
    await (attacks[name] as Attack)(arena);
    process.send?.({ report });
  } catch (error) {
    process.send?.({ error: error instanceof Error ? error.stack : String(error) });
  }
});
process.on('disconnect', () => process.exit());
process.send?.({ ready: true });
