import type { ResolvedConfig } from './config-types.js';
import { CONTROL, EVENT, type NativeMemory, OUT, RECORD } from './native.js';
import { RING_TEXT_BYTES, RING_TEXT_MAX_BYTES, RING_TEXT_MIN_BYTES } from './plan.js';

const OUT_BYTES = 256 * 1024;
const EVENTS_A_TIME = 1024;

/**
 * The memory that JavaScript and the engine share. Shared buffers cannot be detached under the engine's threads. Answers
 * are written, and taken over, on JavaScript's own: copying into a buffer that is not shared takes half the time.
 */
export function makeMemory(config: ResolvedConfig): NativeMemory {
  const records = 2 ** Math.ceil(Math.log2(config.queueCapacity));
  const textBytes = Math.min(Math.max(records * RING_TEXT_BYTES, RING_TEXT_MIN_BYTES), RING_TEXT_MAX_BYTES);
  const out = new Uint8Array(OUT_BYTES);
  new Int32Array(out.buffer)[OUT.used] = OUT.startBytes;
  return {
    control: new Int32Array(new SharedArrayBuffer(CONTROL.words * 4)),
    records: new Int32Array(new SharedArrayBuffer(records * RECORD.words * 4)),
    text: new Uint8Array(new SharedArrayBuffer(textBytes)),
    out,
    events: new Int32Array(new SharedArrayBuffer(EVENTS_A_TIME * EVENT.words * 4)),
  };
}
