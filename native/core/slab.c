#include "slab.h"

#include <assert.h>

#include "../include/valk.h"
#include "annotate.h"
#include "fault.h"
#include "ledger.h"
#include "vm.h"

/* Committing costs a system call and no memory: pages come when they are touched. */
#define CHUNK_SIZE ((size_t) 2 << 20)
/* Items cleaned under one hold of the lock: other threads wait for it. */
#define TRIM_BATCH 32u

int valk_slab_init(valk_slab_t *slab, size_t item_size, uint32_t capacity, uint32_t reserve,
                   uint32_t consumers, void (*notify)(void *data, uint32_t consumer), void *data) {
  assert(item_size > 0);
  *slab = (valk_slab_t){.item_size = item_size, .stride = VALK_PAGE_ROUND(item_size)};
  if (valk_gate_init(&slab->gate, capacity, reserve, consumers, notify, data) != 0) {
    return VALK_ENOMEM;
  }
  if (valk__fault(VALK_FAULT_LOCK) || uv_mutex_init(&slab->lock) != 0) {
    goto no_lock;
  }
  slab->free_stack = valk_ledger_malloc(NULL, capacity * sizeof *slab->free_stack);
  if (slab->free_stack == NULL || __builtin_mul_overflow(slab->stride, capacity, &slab->reserved)) {
    goto no_space;
  }
  slab->base = valk__vm_reserve(slab->reserved);
  if (slab->base == NULL) {
    goto no_space;
  }
  return 0;

no_space:
  valk_ledger_free(slab->free_stack);
  uv_mutex_destroy(&slab->lock);
no_lock:
  valk_gate_deinit(&slab->gate);
  return VALK_ENOMEM;
}

void valk_slab_deinit(valk_slab_t *slab) {
  valk_gate_deinit(&slab->gate);
  assert(slab->free_count == slab->committed);
  valk__mark_gone(slab->base, slab->committed * slab->stride);
  valk__vm_release(slab->base, slab->reserved);
  uv_mutex_destroy(&slab->lock);
  valk_ledger_free(slab->free_stack);
}

/* Commits the next chunk; the stack is empty. Under the lock. */
static int grow(valk_slab_t *slab) {
  uint32_t count = (uint32_t) (CHUNK_SIZE / slab->stride);
  uint32_t left = slab->gate.capacity - slab->committed;
  count = count < 1 ? 1 : count;
  count = count > left ? left : count;
  assert(count > 0);
  uint8_t *chunk = slab->base + slab->committed * slab->stride;
  if (valk__vm_commit(chunk, count * slab->stride) != 0) {
    return VALK_ENOMEM;
  }
  valk__mark_free(chunk, count * slab->stride);
  for (uint32_t i = 0; i < count; i++) {
    slab->free_stack[i] = slab->committed + count - 1 - i;
  }
  slab->free_count = count;
  slab->cold = count;
  slab->committed += count;
  return 0;
}

/* The item for a place that the gate has given. */
static void *take(valk_slab_t *slab, uint32_t consumer, unsigned level, bool waits) {
  uv_mutex_lock(&slab->lock);
  if (slab->free_count == 0 && grow(slab) != 0) {
    /* Under our lock, so that the limit is what is committed now. */
    valk__gate_refuse(&slab->gate, consumer, level, waits, slab->committed);
    uv_mutex_unlock(&slab->lock);
    return NULL;
  }
  uint32_t index = slab->free_stack[--slab->free_count];
  if (slab->free_count < slab->low_free) {
    slab->low_free = slab->free_count;
  }
  if (slab->free_count < slab->cold) {
    slab->cold = slab->free_count;
  }
  uv_mutex_unlock(&slab->lock);
  void *item = slab->base + index * slab->stride;
  valk__mark_item_lent(item, slab->item_size);
  return item;
}

void *valk_slab_get(valk_slab_t *slab, uint32_t consumer, unsigned level) {
  return valk_gate_acquire(&slab->gate, consumer, level) ? take(slab, consumer, level, true) : NULL;
}

void *valk_slab_try(valk_slab_t *slab, uint32_t consumer, unsigned level) {
  return valk_gate_try(&slab->gate, consumer, level) ? take(slab, consumer, level, false) : NULL;
}

void valk_slab_put(valk_slab_t *slab, void *item) {
  size_t offset = (size_t) ((uint8_t *) item - slab->base);
  assert(offset < slab->reserved && offset % slab->stride == 0 && valk__is_lent(item));
  valk__mark_item_put(item, slab->item_size);
  uv_mutex_lock(&slab->lock);
  assert(slab->free_count < slab->committed);
  slab->free_stack[slab->free_count++] = (uint32_t) (offset / slab->stride);
  uv_mutex_unlock(&slab->lock);
  /* Last: whoever gets the place must find the item. */
  valk_gate_release(&slab->gate);
}

void valk_slab_settle(valk_slab_t *slab, uint32_t consumer, unsigned level) {
  valk_gate_settle(&slab->gate, consumer, level);
}

void valk_slab_trim(valk_slab_t *slab) {
  bool more;
  do {
    uv_mutex_lock(&slab->lock);
    for (unsigned i = 0; i < TRIM_BATCH && slab->cold < slab->low_free; i++) {
      size_t index = slab->free_stack[slab->cold++];
      valk__vm_clean(slab->base + index * slab->stride, slab->stride);
    }
    more = slab->cold < slab->low_free;
    if (!more) {
      slab->low_free = slab->free_count;
    }
    uv_mutex_unlock(&slab->lock);
  } while (more);
  valk__gate_lift(&slab->gate);
}
