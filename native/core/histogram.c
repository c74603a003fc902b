#include "histogram.h"

#include <assert.h>

unsigned valk_histogram_bucket(uint64_t us) {
  if (us < 4) {
    return (unsigned) us;
  }
  unsigned doubling = 63 - (unsigned) __builtin_clzll(us);
  unsigned bucket = 4 * (doubling - 1) + (unsigned) ((us >> (doubling - 2)) & 3);
  return bucket < VALK_HISTOGRAM_BUCKETS ? bucket : VALK_HISTOGRAM_BUCKETS - 1;
}

uint64_t valk_histogram_edge(unsigned bucket) {
  assert(bucket < VALK_HISTOGRAM_BUCKETS);
  if (bucket < 4) {
    return bucket;
  }
  return ((uint64_t) (5 + bucket % 4) << (bucket / 4 - 1)) - 1;
}

/* There is one writer, so that no locked addition is needed. */
static void add(atomic_uint_fast64_t *counter, uint64_t n) {
  uint64_t before = atomic_load_explicit(counter, memory_order_relaxed);
  atomic_store_explicit(counter, before + n, memory_order_relaxed);
}

void valk_histogram_add(valk_histogram_t *histogram, uint64_t us) {
  add(&histogram->counts[valk_histogram_bucket(us)], 1);
  add(&histogram->sum_us, us);
}

void valk_histogram_sum(const valk_histogram_t *from, uint64_t counts[VALK_HISTOGRAM_BUCKETS],
                        uint64_t *sum_us) {
  for (unsigned i = 0; i < VALK_HISTOGRAM_BUCKETS; i++) {
    counts[i] += atomic_load_explicit(&from->counts[i], memory_order_relaxed);
  }
  *sum_us += atomic_load_explicit(&from->sum_us, memory_order_relaxed);
}

uint64_t valk_histogram_quantile(const uint64_t counts[VALK_HISTOGRAM_BUCKETS], double q) {
  uint64_t total = 0;
  for (unsigned i = 0; i < VALK_HISTOGRAM_BUCKETS; i++) {
    total += counts[i];
  }
  if (total == 0) {
    return 0;
  }
  /* The rank is the smallest whole number that is at least q of the total, from 1. */
  double share = q * (double) total;
  uint64_t rank = share > 0 ? (uint64_t) share : 0;
  rank += (double) rank < share;
  rank = rank < 1 ? 1 : rank > total ? total : rank;
  unsigned bucket = 0;
  for (uint64_t seen = counts[0]; seen < rank; seen += counts[bucket]) {
    bucket++;
  }
  return valk_histogram_edge(bucket);
}
