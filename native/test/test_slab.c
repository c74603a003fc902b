#include "test.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include "../core/annotate.h"
#include "../core/fault.h"
#include "../core/slab.h"
#include "../core/vm.h"
#include "../include/valk.h"

enum { SIZE = VALK_TCP_BUFFER_SIZE, STRIDE = VALK_TCP_BUFFER_STRIDE, MANY = 200 };

static valk_slab_t slab;
static unsigned notified[4];

static void on_grant(void *data, uint32_t consumer) {
  ASSERT_PTR_EQ(data, &slab);
  notified[consumer]++;
}

static void open_slab(uint32_t capacity, uint32_t reserve) {
  ASSERT_OK(valk_slab_init(&slab, SIZE, capacity, reserve, 4, on_grant, &slab));
}

static valk_gate_stats_t look(void) {
  valk_gate_stats_t stats;
  valk_gate_stats(&slab.gate, &stats);
  return stats;
}

static size_t count_resident(void *item) {
  unsigned char pages[STRIDE / VALK_PAGE_SIZE];
  size_t count = 0;
  ASSERT_OK(mincore(item, STRIDE, pages));
  for (size_t i = 0; i < sizeof pages; i++) {
    count += pages[i] & 1;
  }
  return count;
}

static int compare_addresses(const void *left, const void *right) {
  uintptr_t a = (uintptr_t) * (void *const *) left;
  uintptr_t b = (uintptr_t) * (void *const *) right;
  return (a > b) - (a < b);
}

TEST(slab_items_are_apart_and_whole) {
  open_slab(MANY, 0);
  ASSERT_EQ(slab.stride, (size_t) STRIDE);
  uint8_t *items[MANY];
  for (unsigned i = 0; i < MANY; i++) {
    items[i] = valk_slab_get(&slab, 0, 0);
    ASSERT_NOT_NULL(items[i]);
    memset(items[i], (int) i, SIZE);
  }
  for (unsigned i = 0; i < MANY; i++) {
    ASSERT_EQ(items[i][0], (uint8_t) i);
    ASSERT_EQ(items[i][SIZE - 1], (uint8_t) i);
  }
  ASSERT_NULL(valk_slab_try(&slab, 1, 0));
  ASSERT_EQ(look().in_use, (uint32_t) MANY);
  ASSERT_EQ(look().high_water, (uint32_t) MANY);
  qsort(items, MANY, sizeof *items, compare_addresses);
  for (unsigned i = 1; i < MANY; i++) {
    ASSERT_GE(items[i] - items[i - 1], (ptrdiff_t) STRIDE);
  }
  for (unsigned i = 0; i < MANY; i++) {
    valk_slab_put(&slab, items[i]);
  }
  ASSERT_EQ(look().in_use, 0u);
  valk_slab_deinit(&slab);
}

TEST(slab_gives_the_warmest_item_first) {
  open_slab(MANY, 0);
  void *first = valk_slab_get(&slab, 0, 0);
  void *second = valk_slab_get(&slab, 0, 0);
  valk_slab_put(&slab, first);
  valk_slab_put(&slab, second);
  ASSERT_PTR_EQ(valk_slab_get(&slab, 1, 0), second);
  ASSERT_PTR_EQ(valk_slab_try(&slab, 1, 0), first);
  valk_slab_put(&slab, second);
  valk_slab_put(&slab, first);
  valk_slab_deinit(&slab);
}

TEST(slab_full_makes_wait_and_put_notifies) {
  open_slab(2, 0);
  void *first = valk_slab_get(&slab, 0, 0);
  void *second = valk_slab_get(&slab, 0, 0);
  ASSERT_NULL(valk_slab_get(&slab, 1, 0));
  ASSERT_NULL(valk_slab_get(&slab, 2, 0));
  ASSERT_EQ(look().waiting, 2u);
  ASSERT_EQ(look().times_full, 2u);
  valk_slab_put(&slab, first);
  ASSERT_EQ(notified[1], 1u);
  ASSERT_NULL(valk_slab_try(&slab, 3, 0));
  /* Consumer 1 has nobody any more who waits: its grant goes on. */
  valk_slab_settle(&slab, 1, 0);
  ASSERT_EQ(notified[2], 1u);
  ASSERT_PTR_EQ(valk_slab_get(&slab, 2, 0), first);
  valk_slab_put(&slab, first);
  valk_slab_put(&slab, second);
  valk_slab_deinit(&slab);
}

TEST(slab_reading_leaves_the_reserve_to_writing) {
  open_slab(4, 1);
  void *items[4];
  for (unsigned i = 0; i < 3; i++) {
    items[i] = valk_slab_get(&slab, 0, 1);
    ASSERT_NOT_NULL(items[i]);
  }
  ASSERT_NULL(valk_slab_get(&slab, 0, 1));
  items[3] = valk_slab_get(&slab, 0, 0);
  ASSERT_NOT_NULL(items[3]);
  valk_slab_put(&slab, items[3]);
  ASSERT_EQ(notified[0], 0u);
  valk_slab_put(&slab, items[2]);
  ASSERT_EQ(notified[0], 1u);
  ASSERT_NOT_NULL(valk_slab_get(&slab, 0, 1));
  valk_slab_put(&slab, items[2]);
  valk_slab_put(&slab, items[1]);
  valk_slab_put(&slab, items[0]);
  valk_slab_deinit(&slab);
}

/* A million buffers, 37 GB of addresses: what is neither committed nor touched costs nothing. */
TEST(slab_of_a_million_is_address_space_only) {
  open_slab(1000000, 1000);
  struct rusage before, after;
  ASSERT_OK(getrusage(RUSAGE_SELF, &before));
  void *items[MANY];
  for (unsigned i = 0; i < MANY; i++) {
    items[i] = valk_slab_get(&slab, 0, 0);
    ASSERT_NOT_NULL(items[i]);
    ASSERT_EQ(count_resident(items[i]), 0u);
  }
  ASSERT_OK(getrusage(RUSAGE_SELF, &after));
  ASSERT_LT(after.ru_maxrss - before.ru_maxrss, 16384);
  ASSERT_LT(slab.committed, 2u * MANY);
  for (unsigned i = 0; i < MANY; i++) {
    valk_slab_put(&slab, items[i]);
  }
  valk_slab_deinit(&slab);
}

TEST(slab_trim_returns_the_pages_of_idle_items) {
  open_slab(MANY, 0);
  void *items[MANY];
  for (unsigned i = 0; i < MANY; i++) {
    items[i] = valk_slab_get(&slab, 0, 0);
    memset(items[i], 1, SIZE);
  }
  for (unsigned i = 0; i < MANY; i++) {
    valk_slab_put(&slab, items[i]);
  }
  /* All were in use since the beginning. */
  valk_slab_trim(&slab);
  for (unsigned i = 0; i < MANY; i++) {
    ASSERT_EQ(count_resident(items[i]), (size_t) (STRIDE / VALK_PAGE_SIZE));
  }
  /* Two are in use in this period, one after the other and both at once. */
  void *warm = valk_slab_get(&slab, 0, 0);
  void *other = valk_slab_get(&slab, 0, 0);
  valk_slab_put(&slab, other);
  valk_slab_put(&slab, warm);
  valk_slab_trim(&slab);
  for (unsigned i = 0; i < MANY; i++) {
    bool used = items[i] == warm || items[i] == other;
    ASSERT_EQ(count_resident(items[i]), used ? (size_t) (STRIDE / VALK_PAGE_SIZE) : 0);
  }
  valk_slab_trim(&slab);
  for (unsigned i = 0; i < MANY; i++) {
    ASSERT_EQ(count_resident(items[i]), 0u);
  }
  /* What was trimmed is as good as any. */
  for (unsigned i = 0; i < MANY; i++) {
    items[i] = valk_slab_get(&slab, 0, 0);
    memset(items[i], 2, SIZE);
  }
  for (unsigned i = 0; i < MANY; i++) {
    valk_slab_put(&slab, items[i]);
  }
  valk_slab_deinit(&slab);
}

TEST(slab_trim_leaves_lent_items_alone) {
  open_slab(MANY, 0);
  uint8_t *items[MANY];
  for (unsigned i = 0; i < MANY; i++) {
    items[i] = valk_slab_get(&slab, 0, 0);
    memset(items[i], 7, SIZE);
  }
  for (unsigned i = 0; i < MANY; i += 2) {
    valk_slab_put(&slab, items[i]);
  }
  valk_slab_trim(&slab);
  valk_slab_trim(&slab);
  for (unsigned i = 0; i < MANY; i++) {
    if (i % 2 == 0) {
      ASSERT_EQ(count_resident(items[i]), 0u);
    } else {
      ASSERT_EQ(items[i][0], 7);
      ASSERT_EQ(items[i][SIZE - 1], 7);
      valk_slab_put(&slab, items[i]);
    }
  }
  valk_slab_deinit(&slab);
}

TEST(slab_free_items_and_what_lies_behind_an_item_may_not_be_touched) {
  open_slab(4, 0);
  uint8_t *item = valk_slab_get(&slab, 0, 0);
  ASSERT(valk__is_lent(item));
  ASSERT(valk__is_lent(item + SIZE - 1));
  if (valk__is_watched()) {
    ASSERT_FALSE(valk__is_lent(item + SIZE));
    ASSERT_FALSE(valk__is_lent(item + STRIDE)); /* the next one */
  }
  valk_slab_put(&slab, item);
  ASSERT_EQ(valk__is_lent(item), !valk__is_watched());
  ASSERT_EQ(valk__is_lent(item + SIZE - 1), !valk__is_watched());
  ASSERT_PTR_EQ(valk_slab_get(&slab, 0, 0), item);
  ASSERT(valk__is_lent(item));
  valk_slab_put(&slab, item);
  valk_slab_deinit(&slab);
}

/* Runs |misuse| in a child of its own and asserts that it is stopped. */
static void assert_aborts(void (*misuse)(void)) {
  fflush(NULL);
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    struct rlimit none = {0, 0};
    (void) setrlimit(RLIMIT_CORE, &none);
    (void) !freopen("/dev/null", "w", stderr);
    misuse();
    _exit(0);
  }
  int status;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void forget_an_item(void) {
  open_slab(4, 0);
  (void) valk_slab_get(&slab, 0, 0);
  valk_slab_deinit(&slab);
}

static void put_twice(void) {
  open_slab(4, 0);
  void *item = valk_slab_get(&slab, 0, 0);
  valk_slab_put(&slab, item);
  valk_slab_put(&slab, item);
}

static void put_something_else(void) {
  open_slab(4, 0);
  uint8_t *item = valk_slab_get(&slab, 0, 0);
  valk_slab_put(&slab, item + 16);
}

TEST(slab_misuse_is_an_assertion) {
  assert_aborts(forget_an_item);
  assert_aborts(put_twice);
  assert_aborts(put_something_else);
}

#if defined(VALK_FAULTS) && VALK_FAULTS
TEST(slab_without_memory_is_full_until_put_or_trim) {
  open_slab(MANY, 100);
  void *first = valk_slab_get(&slab, 0, 0);
  uint32_t chunk = slab.committed;
  ASSERT_GT(chunk, 2u);
  ASSERT_LT(chunk, (uint32_t) MANY);
  void *items[MANY];
  for (uint32_t i = 1; i < chunk; i++) {
    items[i] = valk_slab_get(&slab, 0, 0);
    ASSERT_NOT_NULL(items[i]);
  }
  valk__fault_arm(VALK_FAULT_COMMIT, 1, true, 0);
  ASSERT_NULL(valk_slab_try(&slab, 1, 0));
  ASSERT_EQ(look().waiting, 0u);
  ASSERT_NULL(valk_slab_get(&slab, 1, 0));
  ASSERT_EQ(look().waiting, 1u);
  ASSERT_EQ(look().in_use, chunk);
  ASSERT_EQ(notified[1], 0u);
  /* What is put back goes to the one that waits; no commit is tried for it. */
  uint64_t tried = valk__fault_count(VALK_FAULT_COMMIT);
  valk_slab_put(&slab, first);
  ASSERT_EQ(notified[1], 1u);
  ASSERT_PTR_EQ(valk_slab_get(&slab, 1, 0), first);
  ASSERT_EQ(valk__fault_count(VALK_FAULT_COMMIT), tried);
  /* Nothing is put back: the trim lets one try. Memory still lacks at first. */
  ASSERT_NULL(valk_slab_get(&slab, 2, 0));
  valk_slab_trim(&slab);
  ASSERT_EQ(notified[2], 1u);
  ASSERT_NULL(valk_slab_get(&slab, 2, 0));
  ASSERT_EQ(look().waiting, 1u);
  valk__fault_arm(VALK_FAULT_COMMIT, 0, false, 0);
  valk_slab_trim(&slab);
  ASSERT_EQ(notified[2], 2u);
  void *last = valk_slab_get(&slab, 2, 0);
  ASSERT_NOT_NULL(last);
  ASSERT_GT(slab.committed, chunk);
  ASSERT_EQ(look().in_use, chunk + 1);
  valk_slab_put(&slab, last);
  valk_slab_put(&slab, first);
  for (uint32_t i = 1; i < chunk; i++) {
    valk_slab_put(&slab, items[i]);
  }
  valk_slab_deinit(&slab);
}

TEST(slab_without_its_first_page_serves_those_who_wait_after_a_trim) {
  open_slab(MANY, 10);
  valk__fault_arm(VALK_FAULT_COMMIT, 1, true, 0);
  ASSERT_NULL(valk_slab_get(&slab, 0, 1));
  ASSERT_NULL(valk_slab_get(&slab, 0, 0));
  ASSERT_EQ(look().in_use, 0u);
  ASSERT_EQ(look().waiting, 2u);
  valk__fault_arm(VALK_FAULT_COMMIT, 0, false, 0);
  valk_slab_trim(&slab);
  ASSERT_EQ(notified[0], 2u);
  void *item = valk_slab_get(&slab, 0, 0);
  void *other = valk_slab_get(&slab, 0, 1);
  ASSERT_NOT_NULL(item);
  ASSERT_NOT_NULL(other);
  valk_slab_put(&slab, item);
  valk_slab_put(&slab, other);
  valk_slab_deinit(&slab);
}

TEST(slab_init_fails_whole) {
  for (unsigned nth = 1; nth <= 2; nth++) {
    valk__fault_arm(VALK_FAULT_MALLOC, nth, false, 0);
    ASSERT_EQ(valk_slab_init(&slab, SIZE, 4, 0, 1, on_grant, &slab), VALK_ENOMEM);
  }
  valk__fault_arm(VALK_FAULT_MALLOC, 3, false, 0);
  valk__fault_arm(VALK_FAULT_COMMIT, 1, false, 0);
  ASSERT_EQ(valk_slab_init(&slab, SIZE, 4, 0, 1, on_grant, &slab), VALK_ENOMEM);
  valk__fault_arm(VALK_FAULT_MALLOC, 0, false, 0);
  valk__fault_arm(VALK_FAULT_COMMIT, 0, false, 0);
  ASSERT_OK(valk_slab_init(&slab, SIZE, 4, 0, 1, on_grant, &slab));
  valk_slab_deinit(&slab);
}
#endif
