/* A slab: fixed-size items from reserved address space, shared by engine threads.
 *
 * The bound and the waiting are a gate (gate.h). Free items form a stack, so that warm pages are
 * used first; address space is committed in chunks as the stack first grows past them, and a chunk
 * that cannot be committed makes the slab full (the place is given back and the caller waits).
 * Under valgrind and ASan each item is an allocation of its own: reading a free one is an error,
 * and one that is never put back is a leak.
 *
 * While memory lacks, what is committed is all there is: waiting goes on by what is put
 * back, as at any full pool. Whoever waits though nothing was put back is tried again by the next
 * valk_slab_trim (it is notified), so a slab that has waiters must be trimmed every few seconds. */
#ifndef VALK_CORE_SLAB_H
#define VALK_CORE_SLAB_H

#include <stddef.h>
#include <stdint.h>

#include "gate.h"

typedef struct {
  valk_gate_t gate;
  size_t item_size; /* what a user may touch */
  size_t stride;    /* whole pages */
  uint8_t *base;
  size_t reserved;
  uv_mutex_t lock; /* guards all below; taken before the gate's where both are held */
  uint32_t *free_stack;
  uint32_t free_count;
  uint32_t committed; /* items whose space is usable: indices below this */
  uint32_t cold;      /* how much of the bottom of the stack has clean pages */
  uint32_t low_free;  /* least free_count since the last trim */
} valk_slab_t;

/* The gate's arguments as in valk_gate_init. 0, VALK_ENOMEM. */
int valk_slab_init(valk_slab_t *slab, size_t item_size, uint32_t capacity, uint32_t reserve,
                   uint32_t consumers, void (*notify)(void *data, uint32_t consumer), void *data);
/* Asserts that every item has been put back. */
void valk_slab_deinit(valk_slab_t *slab);

/* An item for |consumer| at the gate's |level|, its contents undefined; NULL: it now waits (see
 * valk_gate_acquire). Any thread, like all below. */
void *valk_slab_get(valk_slab_t *slab, uint32_t consumer, unsigned level);
/* As get, but never waits. */
void *valk_slab_try(valk_slab_t *slab, uint32_t consumer, unsigned level);
void valk_slab_put(valk_slab_t *slab, void *item);
void valk_slab_settle(valk_slab_t *slab, uint32_t consumer, unsigned level);
/* Gives the pages of items that were not used since the previous call back to the system, and lets
 * those who wait for want of memory try again. Called every few seconds. */
void valk_slab_trim(valk_slab_t *slab);

#endif
