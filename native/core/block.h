/* Blocks of whole pages for what OpenSSL and nghttp2 take and give back again and again: buffers of
 * a record, a handshake message or a frame, 16 to 22 KiB. In the heap they leave holes that the
 * small objects of long-lived connections settle in, so that an idle connection seems to hold three
 * times of what it does.
 *
 * A thread keeps a few blocks that it has used last, until the next trim; the pages of the others
 * are given back. Blocks that are filled and such of which few pages are touched are kept apart:
 * who fills one would find a page or two, and who does not would hold pages for nothing. The
 * address space is the process's and stays. Not under valgrind or AddressSanitizer, which want to
 * see each block as an allocation. Any thread; specification, section 6. */
#ifndef VALK_CORE_BLOCK_H
#define VALK_CORE_BLOCK_H

#include <stdbool.h>
#include <stddef.h>

#include "vm.h"

#define VALK_BLOCK_SIZE (6 * VALK_PAGE_SIZE)
/* What is smaller than this is the heap's. */
#define VALK_BLOCK_LEAST (3 * VALK_PAGE_SIZE)
/* Blocks of both kinds that a thread keeps with their pages. */
#define VALK_BLOCKS_WARM 24u

/* A block, or NULL. |few_pages|: for who will touch few of its pages; no more are resident than the
 * last one touched who took it so. */
void *valk__block_get(bool few_pages);
/* |few_pages|: as it was taken. */
void valk__block_put(void *block, bool few_pages);
/* The pages of the blocks that this thread keeps are given back. */
void valk__blocks_trim(void);

#endif
