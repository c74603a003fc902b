/* Arenas: bump allocators in reserved address space, and the pool that lends them to requests.
 *
 * An arena belongs to whoever got it (one engine thread) until it is put back. Its first
 * VALK_ARENA_RESIDENT bytes are committed at init and kept; the rest is committed as it is used and
 * given back when it is put back. Idle arenas lose even the resident pages at a trim (they are
 * committed still, and read as zeros). A page that cannot be committed makes valk_arena_alloc fail:
 * the caller treats that as a full arena. Specification, section 6.
 *
 * An overflow arena keeps nothing while it is not lent, not even the resident part; if that cannot
 * be committed, the pool is at its size.
 *
 * Between two arenas lies a page that is never committed. Under valgrind and ASan each block is an
 * allocation of its own, and in a debug build VALK_REDZONE bytes (annotate.h) lie behind each. */
#ifndef VALK_CORE_ARENA_H
#define VALK_CORE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gate.h"

#define VALK_ARENA_RESIDENT 16384u

typedef struct {
  uint8_t *base;
  size_t size;      /* address space */
  size_t committed; /* usable from base */
  size_t used;
  uint32_t index;
  bool overflow; /* beyond the pool's size (maxOverflowArenas) */
} valk_arena_t;

typedef struct {
  valk_gate_t gate;
  uint32_t count;    /* pool size */
  uint32_t overflow; /* how many more there may be */
  size_t arena_size; /* whole pages */
  size_t reserved;
  uint8_t *base;
  valk_arena_t *arenas; /* count + overflow */
  uv_mutex_t lock;      /* guards all below */
  uint32_t *free_stack; /* |count| places for the pool's own, then |overflow| for the others */
  uint32_t free_count;
  uint32_t free_overflow;
  uint32_t cold; /* how much of the bottom of the stack has clean pages */
  uint32_t low_free;
  uint64_t overflow_used; /* times an overflow arena was lent */
} valk_arena_pool_t;

/* |arena_size| is rounded up to whole pages, and to VALK_ARENA_RESIDENT. 0, VALK_ENOMEM. */
int valk_arena_pool_init(valk_arena_pool_t *pool, uint32_t count, uint32_t overflow,
                         size_t arena_size, uint32_t consumers,
                         void (*notify)(void *data, uint32_t consumer), void *data);
/* Asserts that every arena has been put back. */
void valk_arena_pool_deinit(valk_arena_pool_t *pool);
/* An empty arena; NULL: |consumer| now waits (valk_gate_acquire). When the pool is at its size, an
 * overflow arena is lent first while there are any and nobody waits. Any thread, like all of the
 * pool's functions. */
valk_arena_t *valk_arena_pool_get(valk_arena_pool_t *pool, uint32_t consumer);
/* No system call for an arena of which no more than VALK_ARENA_RESIDENT bytes were used. */
void valk_arena_pool_put(valk_arena_pool_t *pool, valk_arena_t *arena);
void valk_arena_pool_settle(valk_arena_pool_t *pool, uint32_t consumer);
/* Gives the resident pages of arenas that were not used since the previous call back to the system.
 * Called every five seconds at least: an idle arena is then trimmed within ten. */
void valk_arena_pool_trim(valk_arena_pool_t *pool);

/* |size| bytes, aligned to 16, contents undefined; NULL when the arena is full or its pages cannot
 * be committed. The arena's owner, like all below. */
void *valk_arena_alloc(valk_arena_t *arena, size_t size);
/* Makes the block |block|, the last one allocated, |size| bytes long, in place. NULL as above; the
 * block is then as it was. */
void *valk_arena_grow(valk_arena_t *arena, void *block, size_t old_size, size_t size);
/* Empties the arena and gives all but the resident pages back; it stays lent. Used when a request
 * is reset while its handler still runs. */
void valk_arena_reset(valk_arena_t *arena);

#endif
