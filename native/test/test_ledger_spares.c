/* Small blocks that a thread keeps: the lists themselves, the ledger's use of them, and an engine
 * thread's. */
#include "test.h"

#include <malloc.h>
#include <sys/mman.h>
#include <uv.h>

#include "../core/annotate.h"
#include "../core/block.h"
#include "../core/fault.h"
#include "../core/internal.h"
#include "../core/tls_library.h"
#include "support/rig.h"

enum { HEADER = 16 };

static valk_spares_t spares;

static void *take(size_t size) {
  void *block = malloc(valk__spare_room(size));
  ASSERT_NOT_NULL(block);
  return block;
}

/* True where the ledger keeps blocks. */
static bool keeps(void) {
  return !valk__is_watched();
}

static size_t used(valk_ledger_t *ledger) {
  return atomic_load(&ledger->used);
}

/* ---- the lists ---- */

TEST(spare_serves_all_sizes_that_malloc_would_round_to_its_own) {
  for (size_t size = sizeof(void *); size <= VALK_SPARE_MOST; size++) {
    void *block = take(size);
    ASSERT_GE(malloc_usable_size(block), size);
    ASSERT(valk__spare_put(&spares, block, size));
    for (size_t other = size > 40 ? size - 40 : 1; other < size + 40; other++) {
      bool same = (other + 7) / 16 == (size + 7) / 16;
      void *found = valk__spare_get(&spares, other);
      ASSERT_PTR_EQ(found, same ? block : NULL);
      if (same)
        ASSERT(valk__spare_put(&spares, block, size));
      if (same && keeps())
        ASSERT_GE(malloc_usable_size(block), other);
    }
    valk__spares_trim(&spares);
  }
  ASSERT_EQ(spares.bytes, 0u);
}

TEST(spare_room_is_what_malloc_gives) {
  for (size_t size = 24; size <= VALK_SPARE_MOST + 100; size++) {
    size_t room = valk__spare_room(size);
    ASSERT_GE(room, size);
    ASSERT_LT(room, size + 16);
    if (keeps() && size <= VALK_SPARE_MOST)
      ASSERT_EQ(valk__spare_room(room), room);
    else
      ASSERT_EQ(room, size);
  }
  ASSERT_EQ(valk__spare_room(SIZE_MAX), SIZE_MAX);
}

TEST(spares_come_back_the_last_one_first) {
  void *blocks[3];
  for (unsigned i = 0; i < 3; i++) {
    blocks[i] = take(100);
    ASSERT_NULL(valk__spare_get(&spares, 100));
  }
  for (unsigned i = 0; i < 3; i++)
    ASSERT(valk__spare_put(&spares, blocks[i], 100));
  for (unsigned i = 3; i-- > 0;) {
    ASSERT_PTR_EQ(valk__spare_get(&spares, 100), blocks[i]);
    free(blocks[i]);
  }
  ASSERT_NULL(valk__spare_get(&spares, 100));
  ASSERT_EQ(spares.bytes, 0u);
}

TEST(spares_are_no_more_than_their_bound) {
  static const size_t sizes[] = {24, 1000, VALK_SPARE_MOST};
  for (unsigned i = 0; i < 3; i++) {
    size_t kept = 0;
    for (;;) {
      void *block = take(sizes[i]);
      if (!valk__spare_put(&spares, block, sizes[i])) {
        free(block);
        break;
      }
      kept += sizes[i] + 8;
      ASSERT_EQ(spares.bytes, kept);
    }
    ASSERT_LE(kept, (size_t) VALK_SPARES_BYTES);
    ASSERT_GT(kept + sizes[i] + 8, (size_t) VALK_SPARES_BYTES);
    /* Others are refused as well, until there is room again. */
    void *small = take(24);
    void *block = valk__spare_get(&spares, sizes[i]);
    ASSERT(valk__spare_put(&spares, small, 24));
    free(block);
    valk__spares_trim(&spares);
    ASSERT_EQ(spares.bytes, 0u);
    ASSERT_NULL(valk__spare_get(&spares, sizes[i]));
  }
}

TEST(spares_are_small_blocks_of_a_thread_that_keeps_them) {
  void *block = take(VALK_SPARE_MOST + 1);
  ASSERT_FALSE(valk__spare_put(&spares, block, VALK_SPARE_MOST + 1));
  ASSERT_NULL(valk__spare_get(&spares, VALK_SPARE_MOST + 1));
  ASSERT_NULL(valk__spare_get(&spares, SIZE_MAX));
  ASSERT_FALSE(valk__spare_put(NULL, block, 100));
  ASSERT_NULL(valk__spare_get(NULL, 100));
  free(block);
}

/* ---- the ledger's ---- */

TEST(ledger_gives_a_freed_block_again) {
  valk_ledger_keep(&spares);
  valk_ledger_t *ledger = valk_ledger_new(0);
  char *block = valk_ledger_malloc(ledger, 100);
  memset(block, 7, 100);
  valk_ledger_free(block);
  ASSERT_EQ(used(ledger), 0u);
  ASSERT_EQ(spares.bytes, keeps() ? 128u : 0u);
  uintptr_t address = (uintptr_t) block;
  /* To another owner, and with another size. */
  valk_ledger_t *other = valk_ledger_new(0);
  block = valk_ledger_malloc(other, 90);
  if (keeps())
    ASSERT_EQ((uintptr_t) block, address);
  ASSERT_EQ((uintptr_t) block % 16, 0u);
  ASSERT_EQ(used(other), 90u + HEADER);
  ASSERT_EQ(used(ledger), 0u);
  ASSERT_EQ(spares.bytes, 0u);
  valk_ledger_free(block);
  valk_ledger_keep(NULL);
  valk_ledger_close(ledger);
  valk_ledger_close(other);
}

TEST(ledger_zeroes_a_block_that_was_used) {
  valk_ledger_keep(&spares);
  for (size_t size = 0; size < 3000; size += 13) {
    uint8_t *block = valk_ledger_malloc(NULL, size);
    memset(block, 7, size);
    uintptr_t address = (uintptr_t) block;
    valk_ledger_free(block);
    block = valk_ledger_calloc(NULL, 1, size);
    if (keeps())
      ASSERT_EQ((uintptr_t) block, address);
    for (size_t at = 0; at < size; at++)
      ASSERT_EQ(block[at], 0);
    valk_ledger_free(block);
  }
  valk_ledger_keep(NULL);
}

TEST(ledger_realloc_stays_where_there_is_room) {
  valk_ledger_keep(&spares);
  valk_ledger_t *ledger = valk_ledger_new(200);
  uint8_t *block = valk_ledger_malloc(ledger, 90);
  memset(block, 7, 90);
  uintptr_t address = (uintptr_t) block;
  static const size_t sizes[] = {100, 104, 89, 97};
  for (unsigned i = 0; i < 4; i++) {
    block = valk_ledger_realloc(NULL, block, sizes[i]);
    if (keeps())
      ASSERT_EQ((uintptr_t) block, address);
    ASSERT_EQ(used(ledger), sizes[i] + HEADER);
    ASSERT_EQ(block[88], 7);
  }
  /* Beyond it the block moves, and keeps what it held; beyond the limit it stays as it is. */
  block = valk_ledger_realloc(NULL, block, 184);
  ASSERT_EQ(used(ledger), 200u);
  ASSERT_NULL(valk_ledger_realloc(NULL, block, 185));
  ASSERT_EQ(used(ledger), 200u);
  ASSERT_EQ(block[88], 7);
  valk_ledger_free(block);
  valk_ledger_close(ledger);
  valk_ledger_keep(NULL);
}

/* Any sizes, in any order, checked byte by byte. */
TEST(ledger_keeps_what_blocks_hold_whatever_their_sizes) {
  enum { BLOCKS = 40, TURNS = 20000 };
  struct {
    uint8_t *bytes;
    size_t size;
  } blocks[BLOCKS] = {0};
  uint32_t random = 1;
  valk_ledger_t *ledger = valk_ledger_new(0);
  valk_ledger_keep(&spares);
  for (unsigned turn = 0; turn < TURNS; turn++) {
    random = random * 1664525 + 1013904223;
    unsigned i = (random >> 8) % BLOCKS;
    size_t size = (random >> 16) % (turn % 50 == 0 ? 30000 : 1500);
    for (size_t at = 0; at < blocks[i].size; at += 1 + blocks[i].size / 8)
      ASSERT_EQ(blocks[i].bytes[at], (uint8_t) i);
    if (random % 3 > 0 || blocks[i].bytes == NULL) {
      valk_ledger_free(blocks[i].bytes);
      blocks[i].bytes =
          random % 2 ? valk_ledger_malloc(ledger, size) : valk_ledger_calloc(ledger, size, 1);
    } else {
      blocks[i].bytes = valk_ledger_realloc(ledger, blocks[i].bytes, size + 1);
      size++;
    }
    ASSERT_NOT_NULL(blocks[i].bytes);
    memset(blocks[i].bytes, (int) i, size);
    blocks[i].size = size;
    if (turn % 5000 == 0)
      valk__spares_trim(&spares);
  }
  for (unsigned i = 0; i < BLOCKS; i++)
    valk_ledger_free(blocks[i].bytes);
  ASSERT_EQ(used(ledger), 0u);
  valk_ledger_close(ledger);
  valk_ledger_keep(NULL);
}

TEST(ledger_gives_no_kept_block_beyond_the_limit) {
  valk_ledger_keep(&spares);
  valk_ledger_free(valk_ledger_malloc(NULL, 100));
  valk_ledger_t *ledger = valk_ledger_new(100);
  ASSERT_NULL(valk_ledger_malloc(ledger, 100));
  ASSERT_NULL(valk_ledger_calloc(ledger, 100, 1));
  ASSERT_EQ(atomic_load(&ledger->refused), 2u);
  ASSERT_EQ(used(ledger), 0u);
  ASSERT_EQ(spares.bytes, keeps() ? 128u : 0u);
  valk_ledger_close(ledger);
  valk_ledger_keep(NULL);
}

TEST(ledger_keeps_a_retired_block_once) {
  valk_ledger_keep(&spares);
  valk_ledger_t *ledger = valk_ledger_new(0);
  void *list = NULL;
  void *block = valk_ledger_malloc(ledger, 100);
  valk_ledger_retire(block, &list);
  valk_ledger_retire(block, &list);
  ASSERT_EQ(spares.bytes, 0u);
  valk_ledger_free_retired(&list);
  ASSERT_EQ(spares.bytes, keeps() ? 128u : 0u);
  valk_ledger_close(ledger);
  valk_ledger_keep(NULL);
}

TEST(ledger_keeps_nothing_when_the_thread_has_ended) {
  enum { COUNT = 500 };
  void *blocks[COUNT];
  struct mallinfo2 before = mallinfo2();
  valk_ledger_keep(&spares);
  for (unsigned i = 0; i < COUNT; i++)
    blocks[i] = valk_ledger_malloc(NULL, 200);
  for (unsigned i = 0; i < COUNT; i++)
    valk_ledger_free(blocks[i]);
  ASSERT_EQ(spares.bytes, keeps() ? COUNT * 224u : 0u);
  valk_ledger_keep(NULL);
  ASSERT_EQ(spares.bytes, 0u);
  /* The C library itself holds a few blocks of each size for a thread. */
  struct mallinfo2 after = mallinfo2();
  ASSERT_LT(after.uordblks, before.uordblks + 10000);
  /* What is freed now is kept no more. */
  valk_ledger_free(valk_ledger_malloc(NULL, 200));
  ASSERT_EQ(spares.bytes, 0u);
}

#if defined(VALK_FAULTS) && VALK_FAULTS
TEST(ledger_fails_where_a_kept_block_would_do) {
  valk_ledger_keep(&spares);
  valk_ledger_t *ledger = valk_ledger_new(0);
  uint8_t *block = valk_ledger_malloc(ledger, 90);
  valk_ledger_free(valk_ledger_malloc(ledger, 90));
  valk__fault_arm(VALK_FAULT_MALLOC, 1, true, 0);
  ASSERT_NULL(valk_ledger_malloc(ledger, 90));
  ASSERT_NULL(valk_ledger_calloc(ledger, 1, 90));
  ASSERT_NULL(valk_ledger_realloc(ledger, NULL, 90));
  ASSERT_NULL(valk_ledger_realloc(ledger, block, 91));
  ASSERT_EQ(valk__fault_count(VALK_FAULT_MALLOC), 4u);
  ASSERT_EQ(used(ledger), 90u + HEADER);
  valk__fault_arm(VALK_FAULT_MALLOC, 0, false, 0);
  valk_ledger_free(block);
  valk_ledger_close(ledger);
  valk_ledger_keep(NULL);
}
#endif

/* ---- threads ---- */

enum { THREADS = 4, ROUNDS = 20000, SLOTS = 64 };

static _Atomic(uint32_t *) slots[SLOTS];

/* Each block is freed, and kept, by whoever finds it. */
static void exchange_blocks(void *seed) {
  uint32_t random = (uint32_t) (uintptr_t) seed;
  valk_spares_t own = {0};
  if (random != THREADS) /* the last one has no lists */
    valk_ledger_keep(&own);
  for (unsigned i = 0; i < ROUNDS; i++) {
    random = random * 1664525 + 1013904223;
    size_t count = 1 + (random >> 16) % 100;
    uint32_t *block =
        i % 2 ? valk_ledger_malloc(NULL, count * 4) : valk_ledger_calloc(NULL, count, 4);
    ASSERT_NOT_NULL(block);
    for (unsigned at = 0; at < count; at++) {
      if (i % 2 == 0)
        ASSERT_EQ(block[at], 0u);
      block[at] = (uint32_t) count;
    }
    uint32_t *found = atomic_exchange(&slots[(random >> 8) % SLOTS], block);
    if (found != NULL) {
      for (unsigned at = 1; at < found[0]; at++)
        ASSERT_EQ(found[at], found[0]);
    }
    valk_ledger_free(found);
    if (i % 1000 == 0 && random != THREADS)
      valk__spares_trim(&own);
  }
  ASSERT_LE(own.bytes, (size_t) VALK_SPARES_BYTES);
  valk_ledger_keep(NULL);
  ASSERT_EQ(own.bytes, 0u);
}

TEST(ledger_keeps_blocks_of_other_threads) {
  uv_thread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++)
    ASSERT_OK(uv_thread_create(&threads[i], exchange_blocks, (void *) (i + 1)));
  for (unsigned i = 0; i < THREADS; i++)
    ASSERT_OK(uv_thread_join(&threads[i]));
  for (unsigned i = 0; i < SLOTS; i++)
    valk_ledger_free(atomic_exchange(&slots[i], NULL));
}

typedef struct {
  valk_mail_t mail;
  uv_sem_t seen;
  size_t bytes;
  bool warm; /* a block comes with pages */
} look_t;

static void on_look(valk_thread_t *thread, valk_mail_t *mail) {
  look_t *look = VALK_CONTAINER(mail, look_t, mail);
  look->bytes = thread->spares.bytes;
  void *block = valk__block_get(false);
  unsigned char page;
  ASSERT_NOT_NULL(block);
  ASSERT_OK(mincore(block, VALK_PAGE_SIZE, &page));
  look->warm = (page & 1) != 0;
  valk__block_put(block, !look->warm);
  uv_sem_post(&look->seen);
}

static look_t look_at(rig_t *rig) {
  look_t look = {.mail.open = on_look};
  ASSERT_OK(uv_sem_init(&look.seen, 0));
  valk__thread_post(&rig->system->threads[0], &look.mail);
  uv_sem_wait(&look.seen);
  uv_sem_destroy(&look.seen);
  return look;
}

static bool is_at_rest(rig_t *rig) {
  look_t look = look_at(rig);
  return look.bytes == 0 && !look.warm;
}

TEST(engine_thread_keeps_blocks_while_they_come_and_go) {
  static rig_t rig;
  valk_config_t config = rig_config();
  config.io_threads = 1;
  rig_start(&rig, &config, NULL);
  look_t look = {0};
  /* Again where the thread has just let go of them. */
  for (unsigned i = 0; i < 5 && look.bytes == 0; i++) {
    rig_is_well(&rig);
    look = look_at(&rig);
  }
  ASSERT_EQ(look.bytes > 0, keeps());
  /* Records that go through OpenSSL fill a block; AWS-LC has none so large. */
  ASSERT_EQ(look.warm, keeps() && !VALK__TLS_AWSLC);
  ASSERT_LE(look.bytes, (size_t) VALK_SPARES_BYTES);
  RIG_UNTIL(is_at_rest(&rig));
  rig_is_well(&rig);
  rig_stop(&rig);
}
