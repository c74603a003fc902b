// Medians, percentiles and ratios of what was measured.

/** The value in the middle; the mean of the two in the middle where their number is even. */
export function median(values) {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The smallest value that at least |share| (0 to 1) of all values do not exceed. |sorted| is in rising order. */
export function percentile(sorted, share) {
  if (sorted.length === 0) return Number.NaN;
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)];
}

/** Median, smallest and largest of the values that are numbers, also without end; null where there is none. */
export function summarize(values) {
  const known = values.filter((value) => typeof value === 'number' && !Number.isNaN(value));
  if (known.length === 0) return null;
  return { median: median(known), min: Math.min(...known), max: Math.max(...known) };
}

/** |value| / |base|, or NaN where there is no base. */
export function ratio(value, base) {
  return base > 0 ? value / base : Number.NaN;
}

/** Three significant digits, no exponent: 0.123, 1.23, 12.3, 1,230; ∞ for what had no end. */
export function formatNumber(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return '–';
  if (!Number.isFinite(value)) return '∞';
  if (value === 0) return '0';
  const decimals = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toLocaleString('en-US', {
    minimumFractionDigits: Math.min(decimals, 3),
    maximumFractionDigits: Math.min(decimals, 3),
  });
}
