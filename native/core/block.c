#include "block.h"

#include <stdlib.h>

#include <uv.h>

#include "fault.h"

#define REGION_BLOCKS 64u

static uv_once_t once = UV_ONCE_INIT;
static uv_mutex_t lock;
static bool usable;
/* Under |lock|: blocks without resident pages. There is room for all blocks that there are, so that
 * giving one back can't fail. */
static void **clean_blocks;
static size_t clean_count, total;

/* By whether few of their pages are resident, or maybe all. */
static _Thread_local struct {
  void *blocks[VALK_BLOCKS_WARM];
  unsigned count;
} warm[2];

static void start(void) {
  usable = uv_mutex_init(&lock) == 0;
}

static bool add_region(void) {
  size_t size = (size_t) REGION_BLOCKS * VALK_BLOCK_SIZE;
  void **larger = valk__fault(VALK_FAULT_COMMIT)
                      ? NULL
                      : realloc(clean_blocks, (total + REGION_BLOCKS) * sizeof(*clean_blocks));
  if (larger == NULL)
    return false;
  clean_blocks = larger;
  char *region = valk__vm_reserve(size);
  if (region == NULL)
    return false;
  if (valk__vm_commit(region, size) != 0) {
    valk__vm_release(region, size);
    return false;
  }
  for (unsigned i = REGION_BLOCKS; i-- > 0;)
    clean_blocks[clean_count++] = region + (size_t) i * VALK_BLOCK_SIZE;
  total += REGION_BLOCKS;
  return true;
}

void *valk__block_get(bool few_pages) {
  if (warm[few_pages].count > 0)
    return warm[few_pages].blocks[--warm[few_pages].count];
  uv_once(&once, start);
  if (!usable)
    return NULL;
  uv_mutex_lock(&lock);
  void *block = clean_count > 0 || add_region() ? clean_blocks[--clean_count] : NULL;
  uv_mutex_unlock(&lock);
  return block;
}

static void give_back(void *block) {
  valk__vm_clean(block, VALK_BLOCK_SIZE);
  uv_mutex_lock(&lock);
  clean_blocks[clean_count++] = block;
  uv_mutex_unlock(&lock);
}

void valk__block_put(void *block, bool few_pages) {
  if (warm[0].count + warm[1].count < VALK_BLOCKS_WARM)
    warm[few_pages].blocks[warm[few_pages].count++] = block;
  else
    give_back(block);
}

void valk__blocks_trim(void) {
  for (int few_pages = 0; few_pages < 2; few_pages++) {
    while (warm[few_pages].count > 0)
      give_back(warm[few_pages].blocks[--warm[few_pages].count]);
  }
}
