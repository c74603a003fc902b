/* Blocks of whole pages for what OpenSSL and nghttp2 take and give back again and again: buffers of
 * a record, a handshake message or a frame, 16 to 22 KiB. In the heap they leave holes that the
 * small objects of long-lived connections settle in, so that an idle connection seems to hold three
 * times of what it does.
 *
 * A thread keeps a few blocks that it has used last, until the next trim; the pages of the others
 * are given back, and always those of a block that was taken clean: who takes it next to fill it
 * would find a page or two. The address space is the process's and stays. Not under valgrind or
 * AddressSanitizer, which want to see each block as an allocation. Any thread; specification,
 * section 6. */
#ifndef VALK_CORE_BLOCK_H
#define VALK_CORE_BLOCK_H

#include <stdbool.h>
#include <stddef.h>

#include "vm.h"

#define VALK_BLOCK_SIZE (6 * VALK_PAGE_SIZE)
/* What is smaller than this is the heap's. */
#define VALK_BLOCK_LEAST (3 * VALK_PAGE_SIZE)
/* Blocks that a thread keeps with their pages. */
#define VALK_BLOCKS_WARM 24u

/* A block, or NULL. |clean|: none of its pages is resident, for who will touch few of them. */
void *valk__block_get(bool clean);
/* |clean|: as it was taken. */
void valk__block_put(void *block, bool clean);
/* The pages of the blocks that this thread keeps are given back. */
void valk__blocks_trim(void);

#endif
