// A growing list of times.
#ifndef BENCH_SAMPLES_H
#define BENCH_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

struct samples {
  uint64_t *ns;
  size_t count, capacity;
};

void samples_add(struct samples *samples, uint64_t ns);

// The smallest time in microseconds that at least |share| (0 to 1) of all do not exceed; -1 where
// there are none.
double samples_percentile_us(struct samples *samples, double share);

#endif
