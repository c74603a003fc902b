#include "arena.h"

#include <assert.h>

#include "../include/valk.h"
#include "annotate.h"
#include "fault.h"
#include "ledger.h"
#include "vm.h"

#define ALIGNMENT 16u

/* How far beyond its first bytes an arena is committed at a time: as much again as it has, so that
 * a large body costs few system calls, but not so much that what is committed says nothing about
 * what is used (it counts against RLIMIT_DATA). */
#define STEP_MIN ((size_t) 64 << 10)
#define STEP_MAX ((size_t) 1 << 20)

/* Arenas cleaned under one hold of the pool's lock: other threads wait for it. */
#define TRIM_BATCH 32u

/* ---- one arena ---- */

/* Makes the bytes below |end| usable. */
static int commit(valk_arena_t *arena, size_t end) {
  size_t step = arena->committed;
  step = step < STEP_MIN ? STEP_MIN : step > STEP_MAX ? STEP_MAX : step;
  size_t committed = arena->committed + step;
  if (committed < end) {
    committed = VALK_PAGE_ROUND(end);
  }
  if (committed > arena->size) {
    committed = arena->size;
  }
  uint8_t *more = arena->base + arena->committed;
  if (valk__vm_commit(more, committed - arena->committed) != 0) {
    return VALK_ENOMEM;
  }
  valk__mark_free(more, committed - arena->committed);
  arena->committed = committed;
  return 0;
}

/* Puts a block of |size| bytes at |start|. */
static void *place(valk_arena_t *arena, size_t start, size_t size) {
  /* Checked against the room first, so that rounding up cannot overflow. */
  if (size > arena->size - start) {
    return NULL;
  }
  size_t end = start + ((size + ALIGNMENT - 1) & ~(size_t) (ALIGNMENT - 1)) + VALK_REDZONE;
  if (__builtin_expect(end > arena->committed, 0)) {
    if (end > arena->size || commit(arena, end) != 0) {
      return NULL;
    }
  }
  arena->used = end;
  return arena->base + start;
}

void *valk_arena_alloc(valk_arena_t *arena, size_t size) {
  void *block = place(arena, arena->used, size);
  if (block != NULL) {
    valk__mark_block(arena, block, size);
  }
  return block;
}

void *valk_arena_grow(valk_arena_t *arena, void *block, size_t old_size, size_t size) {
  size_t start = (size_t) ((uint8_t *) block - arena->base);
  assert(start + ((old_size + ALIGNMENT - 1) & ~(size_t) (ALIGNMENT - 1)) + VALK_REDZONE ==
         arena->used);
  if (place(arena, start, size) == NULL) {
    return NULL;
  }
  valk__mark_block_resized(arena, block, old_size, size);
  return block;
}

/* Ends all blocks and keeps |kept| bytes committed. */
static void empty(valk_arena_t *arena, size_t kept) {
  valk__mark_pool_end(arena, arena->base, arena->committed);
  if (arena->committed > kept) {
    valk__vm_decommit(arena->base + kept, arena->committed - kept);
    valk__mark_gone(arena->base + kept, arena->committed - kept);
    arena->committed = kept;
  }
  arena->used = 0;
}

void valk_arena_reset(valk_arena_t *arena) {
  empty(arena, VALK_ARENA_RESIDENT);
  valk__mark_pool_begin(arena);
}

/* ---- the pool ---- */

static int commit_resident(valk_arena_t *arena) {
  if (valk__vm_commit(arena->base, VALK_ARENA_RESIDENT) != 0) {
    return VALK_ENOMEM;
  }
  valk__mark_free(arena->base, VALK_ARENA_RESIDENT);
  arena->committed = VALK_ARENA_RESIDENT;
  return 0;
}

static void release_space(valk_arena_pool_t *pool) {
  for (uint32_t i = 0; i < pool->count + pool->overflow; i++) {
    valk__mark_gone(pool->arenas[i].base, pool->arenas[i].committed);
  }
  valk__vm_release(pool->base, pool->reserved);
}

static int make_arenas(valk_arena_pool_t *pool) {
  for (uint32_t i = 0; i < pool->count + pool->overflow; i++) {
    valk_arena_t *arena = &pool->arenas[i];
    *arena = (valk_arena_t){
        .base = pool->base + i * (pool->arena_size + VALK_PAGE_SIZE),
        .size = pool->arena_size,
        .index = i,
        .overflow = i >= pool->count,
    };
    if (!arena->overflow && commit_resident(arena) != 0) {
      return VALK_ENOMEM;
    }
  }
  /* The first ones lie on top of either stack. */
  for (uint32_t i = 0; i < pool->count; i++) {
    pool->free_stack[i] = pool->count - 1 - i;
  }
  for (uint32_t i = 0; i < pool->overflow; i++) {
    pool->free_stack[pool->count + i] = pool->count + pool->overflow - 1 - i;
  }
  pool->free_count = pool->count;
  pool->cold = pool->count;
  pool->free_overflow = pool->overflow;
  return 0;
}

int valk_arena_pool_init(valk_arena_pool_t *pool, uint32_t count, uint32_t overflow,
                         size_t arena_size, uint32_t consumers,
                         void (*notify)(void *data, uint32_t consumer), void *data) {
  uint32_t total = count + overflow;
  assert(count > 0 && total >= count);
  *pool = (valk_arena_pool_t){.count = count, .overflow = overflow};
  pool->arena_size =
      VALK_PAGE_ROUND(arena_size < VALK_ARENA_RESIDENT ? VALK_ARENA_RESIDENT : arena_size);
  if (__builtin_mul_overflow(pool->arena_size + VALK_PAGE_SIZE, total, &pool->reserved)) {
    return VALK_ENOMEM;
  }
  if (valk_gate_init(&pool->gate, count, 0, consumers, notify, data) != 0) {
    return VALK_ENOMEM;
  }
  if (valk__fault(VALK_FAULT_LOCK) || uv_mutex_init(&pool->lock) != 0) {
    goto no_lock;
  }
  pool->free_stack = valk_ledger_malloc(NULL, total * sizeof *pool->free_stack);
  pool->arenas = valk_ledger_calloc(NULL, total, sizeof *pool->arenas);
  if (pool->free_stack == NULL || pool->arenas == NULL) {
    goto no_space;
  }
  pool->base = valk__vm_reserve(pool->reserved);
  if (pool->base == NULL) {
    goto no_space;
  }
  if (make_arenas(pool) != 0) {
    release_space(pool);
    goto no_space;
  }
  return 0;

no_space:
  valk_ledger_free(pool->arenas);
  valk_ledger_free(pool->free_stack);
  uv_mutex_destroy(&pool->lock);
no_lock:
  valk_gate_deinit(&pool->gate);
  return VALK_ENOMEM;
}

void valk_arena_pool_deinit(valk_arena_pool_t *pool) {
  valk_gate_deinit(&pool->gate);
  assert(pool->free_count == pool->count && pool->free_overflow == pool->overflow);
  release_space(pool);
  uv_mutex_destroy(&pool->lock);
  valk_ledger_free(pool->arenas);
  valk_ledger_free(pool->free_stack);
}

/* Two kinds of places: a place within the capacity always finds one of the pool's own arenas, since
 * a place beyond it takes one of these only when all overflow arenas are lent. (Those lent and
 * those that have a place and take their arena just now are together never more than the places.)
 */

/* Under the lock. */
static valk_arena_t *pop_own(valk_arena_pool_t *pool) {
  assert(pool->free_count > 0);
  valk_arena_t *arena = &pool->arenas[pool->free_stack[--pool->free_count]];
  if (pool->free_count < pool->low_free) {
    pool->low_free = pool->free_count;
  }
  if (pool->free_count < pool->cold) {
    pool->cold = pool->free_count;
  }
  return arena;
}

/* Under the lock. NULL when the arena's memory cannot be committed. */
static valk_arena_t *pop_overflow(valk_arena_pool_t *pool) {
  if (pool->free_overflow == 0) {
    return pop_own(pool);
  }
  uint32_t index = pool->free_stack[pool->count + pool->free_overflow - 1];
  if (commit_resident(&pool->arenas[index]) != 0) {
    return NULL;
  }
  pool->free_overflow--;
  pool->overflow_used++;
  return &pool->arenas[index];
}

/* The arena for a place that the gate has given. */
static valk_arena_t *pop(valk_arena_pool_t *pool, bool beyond) {
  uv_mutex_lock(&pool->lock);
  valk_arena_t *arena = beyond ? pop_overflow(pool) : pop_own(pool);
  uv_mutex_unlock(&pool->lock);
  if (arena != NULL) {
    valk__mark_pool_begin(arena);
  }
  return arena;
}

valk_arena_t *valk_arena_pool_get(valk_arena_pool_t *pool, uint32_t consumer) {
  if (pool->overflow > 0) {
    if (valk_gate_try(&pool->gate, consumer, 0)) {
      return pop(pool, false);
    }
    if (valk_gate_overflow(&pool->gate, pool->count + pool->overflow)) {
      valk_arena_t *arena = pop(pool, true);
      if (arena != NULL) {
        return arena;
      }
      valk_gate_release(&pool->gate);
    }
  }
  return valk_gate_acquire(&pool->gate, consumer, 0) ? pop(pool, false) : NULL;
}

void valk_arena_pool_put(valk_arena_pool_t *pool, valk_arena_t *arena) {
  empty(arena, arena->overflow ? 0 : VALK_ARENA_RESIDENT);
  uv_mutex_lock(&pool->lock);
  if (arena->overflow) {
    assert(pool->free_overflow < pool->overflow);
    pool->free_stack[pool->count + pool->free_overflow++] = arena->index;
  } else {
    assert(pool->free_count < pool->count);
    pool->free_stack[pool->free_count++] = arena->index;
  }
  uv_mutex_unlock(&pool->lock);
  /* Last: whoever gets the place must find the arena. */
  valk_gate_release(&pool->gate);
}

void valk_arena_pool_settle(valk_arena_pool_t *pool, uint32_t consumer) {
  valk_gate_settle(&pool->gate, consumer, 0);
}

void valk_arena_pool_trim(valk_arena_pool_t *pool) {
  bool more;
  do {
    uv_mutex_lock(&pool->lock);
    for (unsigned i = 0; i < TRIM_BATCH && pool->cold < pool->low_free; i++) {
      valk__vm_clean(pool->arenas[pool->free_stack[pool->cold++]].base, VALK_ARENA_RESIDENT);
    }
    more = pool->cold < pool->low_free;
    if (!more) {
      pool->low_free = pool->free_count;
    }
    uv_mutex_unlock(&pool->lock);
  } while (more);
}
