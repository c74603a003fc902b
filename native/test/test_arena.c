#include "test.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include "../core/annotate.h"
#include "../core/arena.h"
#include "../core/fault.h"
#include "../core/vm.h"
#include "../include/valk.h"

#define MIB ((size_t) 1 << 20)

static valk_arena_pool_t pool;
static unsigned notified[4];

static void on_grant(void *data, uint32_t consumer) {
  ASSERT_PTR_EQ(data, &pool);
  notified[consumer]++;
}

static void open_pool(uint32_t count, uint32_t overflow, size_t size) {
  ASSERT_OK(valk_arena_pool_init(&pool, count, overflow, size, 4, on_grant, &pool));
}

static valk_gate_stats_t look(void) {
  valk_gate_stats_t stats;
  valk_gate_stats(&pool.gate, &stats);
  return stats;
}

/* Of the whole arena, the uncommitted part too. */
static size_t count_resident(const valk_arena_t *arena) {
  size_t count = 0;
  for (size_t at = 0; at < arena->size; at += VALK_PAGE_SIZE) {
    unsigned char page;
    ASSERT_OK(mincore(arena->base + at, VALK_PAGE_SIZE, &page));
    count += page & 1;
  }
  return count;
}

static size_t count_mappings(void) {
  FILE *maps = fopen("/proc/self/maps", "r");
  ASSERT_NOT_NULL(maps);
  size_t lines = 0;
  for (int c; (c = fgetc(maps)) != EOF;) {
    lines += c == '\n';
  }
  fclose(maps);
  return lines;
}

static size_t read_data_size(void) {
  FILE *status = fopen("/proc/self/status", "r");
  ASSERT_NOT_NULL(status);
  char line[256];
  size_t kib = 0;
  while (fgets(line, sizeof line, status)) {
    if (sscanf(line, "VmData: %zu", &kib) == 1) {
      break;
    }
  }
  fclose(status);
  ASSERT_GT(kib, 0u);
  return kib << 10;
}

/* ---- one arena ---- */

TEST(arena_blocks_are_aligned_apart_and_whole) {
  open_pool(1, 0, MIB);
  valk_arena_t *arena = valk_arena_pool_get(&pool, 0);
  ASSERT_NOT_NULL(arena);
  ASSERT_EQ(arena->used, 0u);
  uint8_t *before = NULL;
  size_t before_size = 0;
  for (size_t size = 0; size < 1000; size += 7) {
    uint8_t *block = valk_arena_alloc(arena, size);
    ASSERT_NOT_NULL(block);
    ASSERT_EQ((uintptr_t) block % 16, 0u);
    memset(block, 0xff, size);
    if (before) {
      ASSERT_GE(block - before, (ptrdiff_t) before_size);
    }
    before = block;
    before_size = size;
  }
  ASSERT_LE(arena->used, arena->committed);
  valk_arena_pool_put(&pool, arena);
  valk_arena_pool_deinit(&pool);
}

TEST(arena_gives_all_its_space_and_no_more) {
  open_pool(1, 0, MIB);
  valk_arena_t *arena = valk_arena_pool_get(&pool, 0);
  ASSERT_NULL(valk_arena_alloc(arena, MIB + 1));
  ASSERT_NULL(valk_arena_alloc(arena, SIZE_MAX));
  ASSERT_NULL(valk_arena_alloc(arena, SIZE_MAX - 15));
  ASSERT_EQ(arena->used, 0u);
  size_t most = MIB - VALK_REDZONE;
  uint8_t *block = valk_arena_alloc(arena, most);
  ASSERT_NOT_NULL(block);
  memset(block, 1, most);
  ASSERT_EQ(arena->used, MIB);
  ASSERT_EQ(arena->committed, MIB);
  ASSERT_NULL(valk_arena_alloc(arena, 1));
  valk_arena_reset(arena);
  for (size_t left = MIB; left > 0; left -= 64) {
    ASSERT_NOT_NULL(valk_arena_alloc(arena, 64 - VALK_REDZONE));
  }
  ASSERT_NULL(valk_arena_alloc(arena, 1));
  valk_arena_pool_put(&pool, arena);
  valk_arena_pool_deinit(&pool);
}

TEST(arena_commits_in_steps_that_grow) {
  open_pool(1, 0, 8 * MIB);
  valk_arena_t *arena = valk_arena_pool_get(&pool, 0);
  ASSERT_EQ(arena->committed, (size_t) VALK_ARENA_RESIDENT);
  ASSERT_NOT_NULL(valk_arena_alloc(arena, VALK_ARENA_RESIDENT - VALK_REDZONE));
  ASSERT_EQ(arena->committed, (size_t) VALK_ARENA_RESIDENT);
  unsigned steps = 0;
  size_t committed = arena->committed;
  while (valk_arena_alloc(arena, 1024)) {
    ASSERT_LE(arena->committed, arena->size);
    if (arena->committed != committed) {
      size_t step = arena->committed - committed;
      ASSERT(step >= 65536 || arena->committed == arena->size);
      ASSERT_LE(step, MIB);
      steps++;
      committed = arena->committed;
    }
  }
  ASSERT_EQ(committed, 8 * MIB);
  ASSERT_LE(steps, 16u);
  /* One large block is committed at once, and not rounded up to more than its pages. */
  valk_arena_reset(arena);
  ASSERT_NOT_NULL(valk_arena_alloc(arena, 5 * MIB));
  ASSERT_EQ(arena->committed, VALK_PAGE_ROUND(5 * MIB + VALK_REDZONE));
  valk_arena_pool_put(&pool, arena);
  valk_arena_pool_deinit(&pool);
}

TEST(arena_grow_keeps_the_block_in_place) {
  open_pool(1, 0, MIB);
  valk_arena_t *arena = valk_arena_pool_get(&pool, 0);
  ASSERT_NOT_NULL(valk_arena_alloc(arena, 100));
  uint8_t *block = valk_arena_alloc(arena, 10);
  memset(block, 3, 10);
  size_t size = 10;
  for (size_t next = 11; next < MIB / 2; next = next * 3 / 2) {
    ASSERT_PTR_EQ(valk_arena_grow(arena, block, size, next), block);
    ASSERT_EQ(block[9], 3);
    memset(block + size, 4, next - size);
    size = next;
  }
  ASSERT_EQ(block[10], 4);
  size_t used = arena->used;
  ASSERT_NULL(valk_arena_grow(arena, block, size, MIB));
  ASSERT_NULL(valk_arena_grow(arena, block, size, SIZE_MAX));
  ASSERT_EQ(arena->used, used);
  ASSERT_EQ(block[size - 1], 4);
  /* Shorter, too: what is left is there for the next block. */
  ASSERT_PTR_EQ(valk_arena_grow(arena, block, size, 8), block);
  ASSERT_LT(arena->used, 256u);
  ASSERT_EQ(block[7], 3);
  uint8_t *next = valk_arena_alloc(arena, 1);
  ASSERT_GE(next - block, 8);
  ASSERT_LT(next - block, 64);
  valk_arena_pool_put(&pool, arena);
  valk_arena_pool_deinit(&pool);
}

TEST(arena_blocks_that_have_ended_and_the_gaps_may_not_be_touched) {
  open_pool(1, 0, MIB);
  valk_arena_t *arena = valk_arena_pool_get(&pool, 0);
  uint8_t *first = valk_arena_alloc(arena, 24);
  uint8_t *second = valk_arena_alloc(arena, 32);
  ASSERT(valk__is_lent(first) && valk__is_lent(first + 23) && valk__is_lent(second));
  if (valk__is_watched()) {
    ASSERT_FALSE(valk__is_lent(first + 24));
    ASSERT_FALSE(valk__is_lent(second - 1));
    ASSERT_FALSE(valk__is_lent(second + 32));
  }
  ASSERT_PTR_EQ(valk_arena_grow(arena, second, 32, 40000), second);
  ASSERT(valk__is_lent(second + 39999));
  ASSERT_PTR_EQ(valk_arena_grow(arena, second, 40000, 40), second);
  ASSERT(valk__is_lent(second + 39));
  if (valk__is_watched()) {
    ASSERT_FALSE(valk__is_lent(second + 40));
  }
  valk_arena_reset(arena);
  ASSERT_EQ(valk__is_lent(first), !valk__is_watched());
  ASSERT_EQ(valk__is_lent(second), !valk__is_watched());
  ASSERT_PTR_EQ(valk_arena_alloc(arena, 24), first);
  ASSERT(valk__is_lent(first));
  valk_arena_pool_put(&pool, arena);
  ASSERT_EQ(valk__is_lent(first), !valk__is_watched());
  valk_arena_pool_deinit(&pool);
}

TEST(arena_reset_and_put_keep_the_resident_pages_only) {
  open_pool(1, 0, 4 * MIB);
  for (unsigned round = 0; round < 3; round++) {
    valk_arena_t *arena = valk_arena_pool_get(&pool, 0);
    size_t size = 3 * MIB;
    memset(valk_arena_alloc(arena, size), 1, size);
    ASSERT_GE(count_resident(arena), size / VALK_PAGE_SIZE);
    valk_arena_reset(arena);
    ASSERT_EQ(arena->used, 0u);
    ASSERT_EQ(arena->committed, (size_t) VALK_ARENA_RESIDENT);
    ASSERT_EQ(count_resident(arena), (size_t) VALK_ARENA_RESIDENT / VALK_PAGE_SIZE);
    memset(valk_arena_alloc(arena, size), 2, size);
    valk_arena_pool_put(&pool, arena);
    ASSERT_EQ(count_resident(arena), (size_t) VALK_ARENA_RESIDENT / VALK_PAGE_SIZE);
  }
  valk_arena_pool_deinit(&pool);
}

/* ---- the pool ---- */

TEST(arena_pool_lends_each_arena_once_and_makes_wait) {
  enum { COUNT = 5 };
  open_pool(COUNT, 0, MIB);
  valk_arena_t *arenas[COUNT];
  for (unsigned i = 0; i < COUNT; i++) {
    arenas[i] = valk_arena_pool_get(&pool, 0);
    ASSERT_NOT_NULL(arenas[i]);
    ASSERT_FALSE(arenas[i]->overflow);
    for (unsigned j = 0; j < i; j++) {
      ASSERT_PTR_NE(arenas[i], arenas[j]);
    }
    memset(valk_arena_alloc(arenas[i], 1000), (int) i, 1000);
  }
  for (unsigned i = 0; i < COUNT; i++) {
    ASSERT_EQ(arenas[i]->base[999], i);
  }
  ASSERT_NULL(valk_arena_pool_get(&pool, 1));
  ASSERT_NULL(valk_arena_pool_get(&pool, 2));
  ASSERT_EQ(look().waiting, 2u);
  valk_arena_pool_put(&pool, arenas[3]);
  ASSERT_EQ(notified[1], 1u);
  ASSERT_NULL(valk_arena_pool_get(&pool, 3));
  ASSERT_PTR_EQ(valk_arena_pool_get(&pool, 1), arenas[3]);
  ASSERT_EQ(arenas[3]->used, 0u);
  valk_arena_pool_settle(&pool, 2);
  valk_arena_pool_put(&pool, arenas[4]);
  ASSERT_EQ(notified[2], 0u);
  ASSERT_EQ(notified[3], 1u);
  valk_arena_pool_settle(&pool, 3);
  for (unsigned i = 0; i < 4; i++) {
    valk_arena_pool_put(&pool, arenas[i]);
  }
  ASSERT_EQ(look().high_water, (uint32_t) COUNT);
  ASSERT_EQ(look().in_use, 0u);
  valk_arena_pool_deinit(&pool);
}

TEST(arena_pool_trim_returns_the_pages_of_idle_arenas) {
  enum { COUNT = 40 };
  open_pool(COUNT, 0, MIB);
  valk_arena_t *arenas[COUNT];
  for (unsigned i = 0; i < COUNT; i++) {
    arenas[i] = valk_arena_pool_get(&pool, 0);
    memset(valk_arena_alloc(arenas[i], 16000), 1, 16000);
  }
  for (unsigned i = 0; i < COUNT; i++) {
    valk_arena_pool_put(&pool, arenas[i]);
  }
  valk_arena_pool_trim(&pool); /* all were in use since the beginning */
  for (unsigned i = 0; i < COUNT; i++) {
    ASSERT_EQ(count_resident(arenas[i]), 4u);
  }
  valk_arena_t *warm = valk_arena_pool_get(&pool, 0);
  valk_arena_pool_put(&pool, warm);
  valk_arena_pool_trim(&pool);
  for (unsigned i = 0; i < COUNT; i++) {
    ASSERT_EQ(count_resident(arenas[i]), arenas[i] == warm ? 4u : 0u);
    ASSERT_EQ(arenas[i]->committed, (size_t) VALK_ARENA_RESIDENT);
  }
  valk_arena_pool_trim(&pool);
  ASSERT_EQ(count_resident(warm), 0u);
  memset(valk_arena_alloc(valk_arena_pool_get(&pool, 0), 16000), 1, 16000);
  valk_arena_pool_trim(&pool);
  ASSERT_EQ(count_resident(warm), 4u); /* lent */
  valk_arena_pool_put(&pool, warm);
  valk_arena_pool_deinit(&pool);
}

TEST(arena_pool_overflow_is_lent_when_the_pool_is_at_its_size) {
  open_pool(2, 2, MIB);
  valk_arena_t *own[2] = {valk_arena_pool_get(&pool, 0), valk_arena_pool_get(&pool, 0)};
  ASSERT_EQ(pool.overflow_used, 0u);
  valk_arena_t *more[2] = {valk_arena_pool_get(&pool, 0), valk_arena_pool_get(&pool, 0)};
  ASSERT(more[0]->overflow && more[1]->overflow);
  ASSERT_FALSE(own[0]->overflow || own[1]->overflow);
  ASSERT_PTR_NE(more[0], more[1]);
  ASSERT_EQ(pool.overflow_used, 2u);
  ASSERT_NULL(valk_arena_pool_get(&pool, 1));
  ASSERT_EQ(look().in_use, 4u);
  ASSERT_EQ(look().waiting, 1u);
  size_t size = MIB - VALK_REDZONE;
  memset(valk_arena_alloc(more[0], size), 1, size);
  valk_arena_pool_put(&pool, more[0]);
  ASSERT_EQ(count_resident(more[0]), 0u); /* it keeps nothing */
  ASSERT_EQ(notified[1], 0u);
  ASSERT_NULL(valk_arena_pool_get(&pool, 2)); /* one waits already */
  valk_arena_pool_put(&pool, own[0]);
  ASSERT_EQ(notified[1], 0u);
  valk_arena_pool_put(&pool, more[1]);
  ASSERT_EQ(notified[1], 1u);
  ASSERT_PTR_EQ(valk_arena_pool_get(&pool, 1), own[0]);
  valk_arena_pool_settle(&pool, 2);
  /* Nobody waits, and the pool is at its size. */
  more[0] = valk_arena_pool_get(&pool, 2);
  ASSERT(more[0]->overflow);
  ASSERT_EQ(pool.overflow_used, 3u);
  valk_arena_pool_put(&pool, own[0]);
  valk_arena_pool_put(&pool, own[1]);
  valk_arena_pool_put(&pool, more[0]);
  valk_arena_pool_deinit(&pool);
}

/* An overflow arena stays out while the pool's own come back: places and arenas are counted apart.
 */
TEST(arena_pool_overflow_and_own_come_back_in_any_order) {
  enum { COUNT = 3, OVERFLOW = 2, TOTAL = COUNT + OVERFLOW };
  open_pool(COUNT, OVERFLOW, MIB);
  uint32_t random = 1;
  valk_arena_t *held[TOTAL];
  unsigned count = 0;
  for (unsigned step = 0; step < 5000; step++) {
    random = random * 1664525 + 1013904223;
    if ((random >> 16) % 2 == 0) {
      valk_arena_t *arena = valk_arena_pool_get(&pool, 0);
      ASSERT_EQ(arena != NULL, count < TOTAL);
      if (arena) {
        held[count++] = arena;
        *(char *) valk_arena_alloc(arena, 1) = 1;
      } else {
        valk_arena_pool_settle(&pool, 0);
      }
    } else if (count > 0) {
      unsigned at = (random >> 20) % count;
      valk_arena_pool_put(&pool, held[at]);
      held[at] = held[--count];
    }
    ASSERT_EQ(look().in_use, count);
  }
  while (count > 0) {
    valk_arena_pool_put(&pool, held[--count]);
  }
  ASSERT_LE(look().high_water, (uint32_t) TOTAL);
  valk_arena_pool_deinit(&pool);
}

/* The seed's default, 200 arenas of 64 MiB: 12.5 GiB of addresses, 3.2 MiB of memory. */
TEST(arena_pool_of_the_default_size_starts_within_rlimit_data) {
  size_t before = read_data_size();
  struct rlimit old, limit;
  ASSERT_OK(getrlimit(RLIMIT_DATA, &old));
  limit = (struct rlimit){.rlim_cur = before + 512 * MIB, .rlim_max = old.rlim_max};
  ASSERT_OK(setrlimit(RLIMIT_DATA, &limit));
  open_pool(200, 0, 64 * MIB);
  ASSERT_LT(read_data_size() - before, 16 * MIB);
  valk_arena_t *arenas[8];
  for (unsigned i = 0; i < 8; i++) {
    arenas[i] = valk_arena_pool_get(&pool, 0);
    ASSERT_NOT_NULL(valk_arena_alloc(arenas[i], 32 * MIB));
  }
  /* 256 MiB are lent; the largest body comes and goes beside them. */
  for (unsigned i = 0; i < 8; i++) {
    valk_arena_t *arena = valk_arena_pool_get(&pool, 0);
    ASSERT_NOT_NULL(valk_arena_alloc(arena, 64 * MIB - VALK_REDZONE));
    valk_arena_pool_put(&pool, arena);
  }
  for (unsigned i = 0; i < 8; i++) {
    valk_arena_pool_put(&pool, arenas[i]);
  }
  ASSERT_LT(read_data_size() - before, 16 * MIB);
  valk_arena_pool_deinit(&pool);
  ASSERT_OK(setrlimit(RLIMIT_DATA, &old));
}

/* vm.max_map_count is 65,530. */
TEST(arena_pool_of_the_largest_size_needs_two_mappings_an_arena) {
  uint32_t count = valk__on_valgrind() ? 1000 : 10000;
  size_t before = count_mappings();
  open_pool(count, 0, MIB);
  ASSERT_LE(count_mappings() - before, 2 * (size_t) count + 64);
  /* Used, some grown and some not, given back and trimmed, in another order: still. */
  valk_arena_t **arenas = calloc(count, sizeof *arenas);
  for (uint32_t i = 0; i < count; i++) {
    arenas[i] = valk_arena_pool_get(&pool, 0);
    ASSERT_NOT_NULL(arenas[i]);
    size_t size = i % 3 == 0 ? 1000 : 100000;
    uint8_t *block = valk_arena_alloc(arenas[i], size);
    ASSERT_NOT_NULL(block);
    block[0] = block[size - 1] = 1;
  }
  ASSERT_NULL(valk_arena_pool_get(&pool, 1));
  valk_arena_pool_settle(&pool, 1);
  ASSERT_LE(count_mappings() - before, 2 * (size_t) count + 64);
  for (uint32_t i = 0; i < count; i += 2) {
    valk_arena_pool_put(&pool, arenas[i]);
  }
  ASSERT_LE(count_mappings() - before, 2 * (size_t) count + 64);
  for (uint32_t i = 1; i < count; i += 2) {
    valk_arena_pool_put(&pool, arenas[i]);
  }
  valk_arena_pool_trim(&pool);
  valk_arena_pool_trim(&pool);
  ASSERT_LE(count_mappings() - before, 2 * (size_t) count + 64);
  free(arenas);
  valk_arena_pool_deinit(&pool);
}

#if defined(VALK_FAULTS) && VALK_FAULTS
TEST(arena_that_cannot_be_committed_is_full) {
  open_pool(1, 0, MIB);
  valk_arena_t *arena = valk_arena_pool_get(&pool, 0);
  valk__fault_arm(VALK_FAULT_COMMIT, 1, true, 0);
  uint8_t *block = valk_arena_alloc(arena, 8000);
  ASSERT_NOT_NULL(block); /* the resident part needs nothing */
  size_t used = arena->used;
  ASSERT_NULL(valk_arena_alloc(arena, 20000));
  ASSERT_NULL(valk_arena_grow(arena, block, 8000, 20000));
  ASSERT_EQ(arena->used, used);
  ASSERT_NOT_NULL(valk_arena_alloc(arena, 4000));
  valk__fault_arm(VALK_FAULT_COMMIT, 0, false, 0);
  ASSERT_NOT_NULL(valk_arena_alloc(arena, 20000));
  valk_arena_pool_put(&pool, arena);
  valk_arena_pool_deinit(&pool);
}

TEST(arena_put_of_a_small_request_commits_nothing) {
  open_pool(1, 0, MIB);
  valk__fault_arm(VALK_FAULT_COMMIT, 0, false, 0);
  for (unsigned i = 0; i < 100; i++) {
    valk_arena_t *arena = valk_arena_pool_get(&pool, 0);
    ASSERT_NOT_NULL(valk_arena_alloc(arena, VALK_ARENA_RESIDENT - VALK_REDZONE));
    valk_arena_pool_put(&pool, arena);
  }
  ASSERT_EQ(valk__fault_count(VALK_FAULT_COMMIT), 0u);
  valk_arena_pool_deinit(&pool);
}

TEST(arena_pool_overflow_without_memory_is_a_full_pool) {
  open_pool(1, 1, MIB);
  valk_arena_t *own = valk_arena_pool_get(&pool, 0);
  valk__fault_arm(VALK_FAULT_COMMIT, 1, true, 0);
  ASSERT_NULL(valk_arena_pool_get(&pool, 1));
  ASSERT_EQ(look().in_use, 1u);
  ASSERT_EQ(look().waiting, 1u);
  ASSERT_EQ(pool.overflow_used, 0u);
  valk_arena_pool_put(&pool, own);
  ASSERT_EQ(notified[1], 1u);
  ASSERT_PTR_EQ(valk_arena_pool_get(&pool, 1), own);
  valk__fault_arm(VALK_FAULT_COMMIT, 0, false, 0);
  valk_arena_t *more = valk_arena_pool_get(&pool, 1);
  ASSERT(more->overflow);
  valk_arena_pool_put(&pool, more);
  valk_arena_pool_put(&pool, own);
  valk_arena_pool_deinit(&pool);
}

TEST(arena_pool_init_fails_whole) {
  for (unsigned nth = 1; nth <= 3; nth++) {
    valk__fault_arm(VALK_FAULT_MALLOC, nth, false, 0);
    ASSERT_EQ(valk_arena_pool_init(&pool, 4, 1, MIB, 1, on_grant, &pool), VALK_ENOMEM);
  }
  valk__fault_arm(VALK_FAULT_MALLOC, 0, false, 0);
  for (unsigned nth = 1; nth <= 5; nth++) {
    valk__fault_arm(VALK_FAULT_COMMIT, nth, false, 0);
    ASSERT_EQ(valk_arena_pool_init(&pool, 4, 1, MIB, 1, on_grant, &pool), VALK_ENOMEM);
  }
  /* Three allocations, one reservation and four arenas are all there is. */
  valk__fault_arm(VALK_FAULT_MALLOC, 4, true, 0);
  valk__fault_arm(VALK_FAULT_COMMIT, 6, true, 0);
  open_pool(4, 1, MIB);
  valk_arena_pool_deinit(&pool);
}
#endif
