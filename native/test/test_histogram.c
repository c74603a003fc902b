#include "test.h"

#include <uv.h>

#include "../core/histogram.h"
#include "../include/valk.h"

_Static_assert(VALK_HISTOGRAM_BUCKETS == VALK_HISTOGRAM_SIZE, "the public size is the core's");

TEST(histogram_small_durations_have_a_bucket_each) {
  for (unsigned us = 0; us < 8; us++) {
    ASSERT_EQ(valk_histogram_bucket(us), us);
    ASSERT_EQ(valk_histogram_edge(us), us);
  }
}

TEST(histogram_edge_is_the_exact_inverse_of_bucket) {
  for (unsigned bucket = 0; bucket < VALK_HISTOGRAM_BUCKETS; bucket++) {
    uint64_t edge = valk_histogram_edge(bucket);
    ASSERT_EQ(valk_histogram_bucket(edge), bucket);
    if (bucket + 1 < VALK_HISTOGRAM_BUCKETS) {
      ASSERT_EQ(valk_histogram_bucket(edge + 1), bucket + 1);
      ASSERT_LT(edge, valk_histogram_edge(bucket + 1));
    }
  }
}

TEST(histogram_has_four_buckets_a_doubling) {
  for (unsigned bucket = 4; bucket + 4 < VALK_HISTOGRAM_BUCKETS; bucket++) {
    ASSERT_EQ(valk_histogram_edge(bucket + 4) + 1, 2 * (valk_histogram_edge(bucket) + 1));
  }
  /* No edge is further above the bucket's least than a quarter. */
  for (unsigned bucket = 4; bucket < VALK_HISTOGRAM_BUCKETS; bucket++) {
    uint64_t least = valk_histogram_edge(bucket - 1) + 1;
    ASSERT_LE(4 * (valk_histogram_edge(bucket) + 1 - least), least);
  }
}

TEST(histogram_last_bucket_takes_all_that_is_longer) {
  ASSERT_EQ(valk_histogram_edge(127), (UINT64_C(1) << 33) - 1);
  ASSERT_GT(valk_histogram_edge(126), UINT64_C(3600) * 1000000);
  ASSERT_EQ(valk_histogram_bucket(UINT64_C(1) << 33), 127u);
  ASSERT_EQ(valk_histogram_bucket(UINT64_MAX), 127u);
}

TEST(histogram_sum_adds_to_what_is_there) {
  static valk_histogram_t one, other;
  uint64_t counts[VALK_HISTOGRAM_BUCKETS] = {0};
  uint64_t sum_us = 0;
  valk_histogram_add(&one, 3);
  valk_histogram_add(&one, 1000);
  valk_histogram_add(&other, 1000);
  valk_histogram_sum(&one, counts, &sum_us);
  valk_histogram_sum(&other, counts, &sum_us);
  ASSERT_EQ(sum_us, 2003u);
  uint64_t total = 0;
  for (unsigned i = 0; i < VALK_HISTOGRAM_BUCKETS; i++) {
    total += counts[i];
  }
  ASSERT_EQ(total, 3u);
  ASSERT_EQ(counts[3], 1u);
  ASSERT_EQ(counts[valk_histogram_bucket(1000)], 2u);
}

TEST(histogram_quantile_is_the_edge_of_its_bucket) {
  uint64_t counts[VALK_HISTOGRAM_BUCKETS] = {0};
  ASSERT_EQ(valk_histogram_quantile(counts, 0.5), 0u);
  counts[valk_histogram_bucket(10)] = 90;
  counts[valk_histogram_bucket(500)] = 9;
  counts[valk_histogram_bucket(90000)] = 1;
  uint64_t quick = valk_histogram_edge(valk_histogram_bucket(10));
  uint64_t slow = valk_histogram_edge(valk_histogram_bucket(500));
  uint64_t slowest = valk_histogram_edge(valk_histogram_bucket(90000));
  ASSERT_EQ(valk_histogram_quantile(counts, 0.0), quick);
  ASSERT_EQ(valk_histogram_quantile(counts, 0.5), quick);
  ASSERT_EQ(valk_histogram_quantile(counts, 0.9), quick);
  ASSERT_EQ(valk_histogram_quantile(counts, 0.901), slow);
  ASSERT_EQ(valk_histogram_quantile(counts, 0.99), slow);
  ASSERT_EQ(valk_histogram_quantile(counts, 0.991), slowest);
  ASSERT_EQ(valk_histogram_quantile(counts, 1.0), slowest);
}

enum { ADDITIONS = 200000 };

static void add_many(void *histogram) {
  for (uint64_t i = 0; i < ADDITIONS; i++) {
    valk_histogram_add(histogram, i % 100);
  }
}

TEST(histogram_can_be_read_while_it_is_written) {
  static valk_histogram_t histogram;
  uv_thread_t writer;
  ASSERT_OK(uv_thread_create(&writer, add_many, &histogram));
  uint64_t before = 0;
  uint64_t total;
  do {
    uint64_t counts[VALK_HISTOGRAM_BUCKETS] = {0};
    uint64_t sum_us = 0;
    valk_histogram_sum(&histogram, counts, &sum_us);
    total = 0;
    for (unsigned i = 0; i < VALK_HISTOGRAM_BUCKETS; i++) {
      total += counts[i];
    }
    ASSERT_GE(total, before);
    ASSERT_LE(total, (uint64_t) ADDITIONS);
    before = total;
  } while (total < ADDITIONS);
  ASSERT_OK(uv_thread_join(&writer));
}
