/* Small blocks of the heap that a thread has freed and keeps for its next ones.
 *
 * A TLS handshake takes nearly a thousand blocks of a few dozen sizes and gives most of them back.
 * A malloc has a handful of each size at hand, and joins and splits the others. Here each size of
 * malloc's has a list, linked through its blocks, and the lists together have a bound. Nothing but
 * its size is known of a block, so that it may be taken on one thread and kept by another.
 *
 * Nothing is kept under valgrind and AddressSanitizer, which want to see each block as an
 * allocation. One thread; specification, section 6. */
#ifndef VALK_CORE_SPARE_H
#define VALK_CORE_SPARE_H

#include <stdbool.h>
#include <stddef.h>

#include "annotate.h"

/* What a malloc of 16-byte granularity adds to a block. */
#define VALK_SPARE_STEP 16u
#define VALK_SPARE_OVERHEAD 8u
#define VALK_SPARE_CLASSES 65u
/* Larger blocks aren't kept. */
#define VALK_SPARE_MOST ((VALK_SPARE_CLASSES - 1) * VALK_SPARE_STEP + VALK_SPARE_OVERHEAD)
/* Bytes of what is kept, as malloc counts them. */
#define VALK_SPARES_BYTES (256u << 10)

typedef struct {
  void *lists[VALK_SPARE_CLASSES];
  size_t bytes;
} valk_spares_t;

/* How much to ask malloc for where |size| bytes are wanted: what it would give anyway, made known,
 * so that all blocks of a list have room for the same sizes. */
static inline size_t valk__spare_room(size_t size) {
  if (size > VALK_SPARE_MOST || valk__is_watched())
    return size;
  return ((size + VALK_SPARE_STEP - VALK_SPARE_OVERHEAD - 1) & ~(size_t) (VALK_SPARE_STEP - 1)) +
         VALK_SPARE_OVERHEAD;
}

/* A block with room for |size| bytes, their contents undefined; NULL where malloc must be asked.
 * |spares| may be NULL: nothing is kept then. */
void *valk__spare_get(valk_spares_t *spares, size_t size);
/* Keeps a block of malloc's with room for valk__spare_room(size) bytes, a pointer's at least.
 * False: free it. */
bool valk__spare_put(valk_spares_t *spares, void *block, size_t size);
/* Frees all. Without it sizes that nobody asks for any more would fill the bound, and what a burst
 * has left would never go back. */
void valk__spares_trim(valk_spares_t *spares);

#endif
