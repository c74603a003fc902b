/* Latency histograms: fixed buckets, four to each doubling, from 1 microsecond to over an hour. One
 * writer thread, any reader: counts are relaxed atomics, so a snapshot is cheap and may be a few
 * counts apart.
 *
 * Buckets 0 to 3 hold exactly 0 to 3 µs; bucket 4 (e - 1) + s, for e >= 2 and s in 0..3, holds
 * 2^(e - 2) (4 + s) up to just below 2^(e - 2) (5 + s). The last one holds everything above too. */
#ifndef VALK_CORE_HISTOGRAM_H
#define VALK_CORE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#define VALK_HISTOGRAM_BUCKETS 128

typedef struct {
  atomic_uint_fast64_t counts[VALK_HISTOGRAM_BUCKETS];
  atomic_uint_fast64_t sum_us;
} valk_histogram_t;

/* The bucket of a duration. Any thread. */
unsigned valk_histogram_bucket(uint64_t us);
/* The longest duration that a bucket holds, in microseconds; |bucket| < VALK_HISTOGRAM_BUCKETS.
 * For the last one, which holds all above too, 2^33 - 1. Any thread. */
uint64_t valk_histogram_edge(unsigned bucket);
/* The writer's thread. */
void valk_histogram_add(valk_histogram_t *histogram, uint64_t us);
/* Adds |from|'s counts into plain numbers. Any thread. */
void valk_histogram_sum(const valk_histogram_t *from, uint64_t counts[VALK_HISTOGRAM_BUCKETS],
                        uint64_t *sum_us);
/* The upper edge of the bucket that holds the |q|-quantile (0..1); 0 when empty. */
uint64_t valk_histogram_quantile(const uint64_t counts[VALK_HISTOGRAM_BUCKETS], double q);

#endif
