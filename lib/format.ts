const BYTES_PER_UNIT: Readonly<Record<string, number>> = {
  b: 1,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
};

const BINARY_UNITS = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/**
 * Reads a size such as `512MiB`, `1.5 GiB`, `64kb` or `1048576`.
 *
 * @param text - A decimal number and one of B, KiB, MiB, GiB (powers of 1024), KB, MB, GB (powers
 *   of 1000), in any case; without a unit it is bytes.
 * @returns Whole bytes, rounded down; `null` when the text is no size or not a safe integer.
 */
export function parseSize(text: string): number | null {
  const match = /^(\d{1,16}(?:\.\d{1,9})?) ?([a-z]{0,3})$/i.exec(text.trim());
  if (match === null) return null;
  const unit = BYTES_PER_UNIT[(match[2] || 'b').toLowerCase()];
  if (unit === undefined) return null;
  const bytes = Math.floor(Number(match[1]) * unit);
  return Number.isSafeInteger(bytes) ? bytes : null;
}

/**
 * Writes a number of bytes with at most one decimal in the largest binary unit that fits.
 *
 * @param bytes - 0 or more.
 * @returns For example `512 B`, `32.6 KiB`, `64 MiB`, `12.5 GiB`.
 */
export function formatSize(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  let value = bytes / 1024;
  let unit = 0;
  // 1023.95 and more would be written as 1024.0: that is one of the next unit.
  while (value >= 1023.95 && unit < BINARY_UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(1).replace(/\.0$/, '')} ${BINARY_UNITS[unit]}`;
}
