/* Blocks of whole pages, and the ledger's use of them. */
#include "test.h"

#include <sys/mman.h>
#include <uv.h>

#include "../core/annotate.h"
#include "../core/block.h"
#include "../core/fault.h"
#include "../core/ledger.h"

enum { PAGES = VALK_BLOCK_SIZE / VALK_PAGE_SIZE, RECORD = 17000 };

static unsigned count_resident(void *block) {
  unsigned char pages[PAGES];
  unsigned count = 0;
  ASSERT_OK(mincore(block, VALK_BLOCK_SIZE, pages));
  for (unsigned i = 0; i < PAGES; i++)
    count += pages[i] & 1;
  return count;
}

static bool ledger_uses_blocks(void) {
  return !VALK__ASAN && !valk__on_valgrind();
}

TEST(block_that_was_used_last_comes_again_with_its_pages) {
  void *block = valk__block_get(false);
  ASSERT_NOT_NULL(block);
  memset(block, 1, VALK_BLOCK_SIZE);
  valk__block_put(block, false);
  ASSERT_EQ((uintptr_t) valk__block_get(false), (uintptr_t) block);
  ASSERT_EQ(count_resident(block), (unsigned) PAGES);
  valk__block_put(block, false);
}

TEST(block_of_few_pages_comes_again_with_those_few) {
  void *used = valk__block_get(false);
  memset(used, 1, VALK_BLOCK_SIZE);
  valk__block_put(used, false);
  uint8_t *few = valk__block_get(true);
  ASSERT_NE((uintptr_t) few, (uintptr_t) used);
  ASSERT_EQ(count_resident(few), 0u);
  few[0] = 1;
  valk__block_put(few, true);
  ASSERT_EQ((uintptr_t) valk__block_get(true), (uintptr_t) few);
  ASSERT_EQ(count_resident(few), 1u);
  uint8_t *next = valk__block_get(true);
  ASSERT_EQ(count_resident(next), 0u);
  valk__block_put(next, true);
  valk__block_put(few, true);
  /* They are not in the way of those that are filled. */
  ASSERT_EQ((uintptr_t) valk__block_get(false), (uintptr_t) used);
  ASSERT_EQ(count_resident(used), (unsigned) PAGES);
  valk__block_put(used, false);
  valk__blocks_trim();
  ASSERT_EQ(count_resident(few), 0u);
}

TEST(blocks_beyond_those_that_a_thread_keeps_give_their_pages_back) {
  enum { COUNT = VALK_BLOCKS_WARM + 100 };
  void *blocks[COUNT];
  for (unsigned i = 0; i < COUNT; i++) {
    blocks[i] = valk__block_get(false);
    ASSERT_NOT_NULL(blocks[i]);
    memset(blocks[i], 1, VALK_BLOCK_SIZE);
  }
  for (unsigned i = 0; i < COUNT; i++)
    valk__block_put(blocks[i], false);
  unsigned resident = 0;
  for (unsigned i = 0; i < COUNT; i++)
    resident += count_resident(blocks[i]);
  ASSERT_EQ(resident, VALK_BLOCKS_WARM * PAGES);
  valk__blocks_trim();
  for (unsigned i = 0; i < COUNT; i++)
    ASSERT_EQ(count_resident(blocks[i]), 0u);
}

/* Both kinds together: no more than is planned for a thread. */
TEST(blocks_of_both_kinds_share_what_a_thread_keeps) {
  enum { COUNT = VALK_BLOCKS_WARM };
  void *blocks[2][COUNT];
  for (unsigned i = 0; i < 2 * COUNT; i++) {
    void **block = &blocks[i % 2][i / 2];
    *block = valk__block_get(i % 2 == 1);
    ASSERT_NOT_NULL(*block);
    memset(*block, 1, VALK_BLOCK_SIZE);
  }
  for (unsigned i = 0; i < 2 * COUNT; i++)
    valk__block_put(blocks[i % 2][i / 2], i % 2 == 1);
  unsigned resident = 0;
  for (unsigned i = 0; i < 2 * COUNT; i++)
    resident += count_resident(blocks[i % 2][i / 2]);
  ASSERT_EQ(resident, VALK_BLOCKS_WARM * PAGES);
  valk__blocks_trim();
}

static void take_and_give(void *block) {
  for (unsigned i = 0; i < 1000; i++) {
    void *blocks[20];
    for (unsigned j = 0; j < 20; j++) {
      blocks[j] = valk__block_get(j % 2 == 0);
      ASSERT_NOT_NULL(blocks[j]);
      *(unsigned *) blocks[j] = i;
    }
    for (unsigned j = 0; j < 20; j++) {
      ASSERT_EQ(*(unsigned *) blocks[j], i);
      valk__block_put(blocks[j], j % 2 == 0);
    }
  }
  /* One that comes from another thread. */
  valk__block_put(block, false);
  valk__blocks_trim();
}

TEST(blocks_go_from_thread_to_thread) {
  uv_thread_t threads[3];
  for (unsigned i = 0; i < 3; i++)
    ASSERT_OK(uv_thread_create(&threads[i], take_and_give, valk__block_get(false)));
  for (unsigned i = 0; i < 3; i++)
    ASSERT_OK(uv_thread_join(&threads[i]));
}

TEST(ledger_takes_buffers_from_blocks_and_charges_what_was_asked_for) {
  valk_ledger_t *ledger = valk_ledger_new(0);
  char *record = valk_ledger_malloc(ledger, RECORD);
  ASSERT_NOT_NULL(record);
  ASSERT_EQ((uintptr_t) record % 16, 0u);
  ASSERT_EQ(atomic_load(&ledger->used), (size_t) RECORD + 16);
  if (ledger_uses_blocks())
    ASSERT_EQ((uintptr_t) (record - 16) % VALK_PAGE_SIZE, 0u);
  memset(record, 7, RECORD);
  valk_ledger_free(record);
  char *frame = valk_ledger_malloc_few_pages(ledger, RECORD);
  if (ledger_uses_blocks()) {
    ASSERT_EQ(count_resident(frame - 16), 1u);
    ASSERT_EQ(count_resident(record - 16), 5u);
  }
  valk_ledger_free(frame);
  if (ledger_uses_blocks())
    ASSERT_EQ((uintptr_t) valk__block_get(true), (uintptr_t) (frame - 16));
  valk_ledger_close(ledger);
}

TEST(ledger_moves_a_block_that_changes_its_size) {
  static const size_t sizes[] = {RECORD + 1000, 100000, RECORD, 100};
  valk_ledger_t *ledger = valk_ledger_new(0);
  char *block = valk_ledger_malloc(ledger, RECORD);
  memset(block, 7, RECORD);
  for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
    block = valk_ledger_realloc(ledger, block, sizes[i]);
    ASSERT_NOT_NULL(block);
    ASSERT_EQ(atomic_load(&ledger->used), sizes[i] + 16);
    for (size_t at = 0; at < sizes[i] && at < RECORD; at++)
      ASSERT_EQ(block[at], 7);
  }
  valk_ledger_free(block);
  ASSERT_EQ(atomic_load(&ledger->used), 0u);
  valk_ledger_close(ledger);
}

TEST(ledger_retires_a_block_and_frees_it_once) {
  valk_ledger_t *ledger = valk_ledger_new(0);
  void *list = NULL;
  char *block = valk_ledger_malloc(ledger, RECORD);
  block[0] = 7;
  valk_ledger_retire(block, &list);
  valk_ledger_retire(block, &list);
  ASSERT_EQ(atomic_load(&ledger->used), 0u);
  ASSERT_EQ(block[0], 7);
  valk_ledger_free_retired(&list);
  valk_ledger_close(ledger);
}

TEST(ledger_keeps_a_block_that_could_not_grow) {
  valk_ledger_t *ledger = valk_ledger_new(50000);
  char *block = valk_ledger_malloc(ledger, RECORD);
  block[RECORD - 1] = 7;
  ASSERT_NULL(valk_ledger_realloc(ledger, block, 60000));
  ASSERT_EQ(block[RECORD - 1], 7);
  ASSERT_EQ(atomic_load(&ledger->used), (size_t) RECORD + 16);
  valk_ledger_free(block);
  valk_ledger_close(ledger);
}

#if defined(VALK_FAULTS) && VALK_FAULTS
TEST(ledger_asks_the_heap_where_no_block_is_to_be_had) {
  /* In use until the end of the test, so that a new region is needed. */
  enum { MOST = 1024 };
  void *blocks[MOST];
  unsigned count = 0;
  valk_ledger_t *ledger = valk_ledger_new(0);
  valk__fault_arm(VALK_FAULT_COMMIT, 1, true, 0);
  do {
    ASSERT_LT(count, (unsigned) MOST);
    blocks[count] = valk__block_get(false);
  } while (blocks[count] != NULL && ++count > 0);
  char *record = valk_ledger_malloc(ledger, RECORD);
  ASSERT_NOT_NULL(record);
  memset(record, 1, RECORD);
  /* The list, the reservation, the commit. */
  for (unsigned nth = 1; nth <= 3; nth++) {
    valk__fault_arm(VALK_FAULT_COMMIT, nth, true, 0);
    ASSERT_NULL(valk__block_get(true));
    ASSERT_EQ(valk__fault_count(VALK_FAULT_COMMIT), nth);
  }
  valk__fault_arm(VALK_FAULT_COMMIT, 0, false, 0);
  valk_ledger_free(record);
  while (count > 0)
    valk__block_put(blocks[--count], false);
  valk_ledger_close(ledger);
}
#endif
