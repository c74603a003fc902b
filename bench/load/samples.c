#include "samples.h"

#include <stdio.h>
#include <stdlib.h>

void samples_add(struct samples *samples, uint64_t ns) {
  if (samples->count == samples->capacity) {
    samples->capacity = samples->capacity ? samples->capacity * 2 : 1024;
    samples->ns = realloc(samples->ns, samples->capacity * sizeof *samples->ns);
    if (!samples->ns) {
      fputs("out of memory\n", stderr);
      exit(1);
    }
  }
  samples->ns[samples->count++] = ns;
}

static int compare(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;
  return (x > y) - (x < y);
}

double samples_percentile_us(struct samples *samples, double share) {
  if (samples->count == 0)
    return -1;
  qsort(samples->ns, samples->count, sizeof *samples->ns, compare);
  size_t rank = (size_t) (share * (double) samples->count);
  if (rank >= samples->count)
    rank = samples->count - 1;
  return (double) samples->ns[rank] / 1000;
}
