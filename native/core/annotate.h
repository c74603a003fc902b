/* What the pools tell valgrind and AddressSanitizer, so that both see each item of a slab, each
 * block of an arena and each charged block as an allocation of its own: touching one that is free,
 * or the gap behind one, is an error, and valgrind reports as a leak what is never put back.
 *
 * Valgrind's requests are compiled in with VALK_VALGRIND, or with VALK_DEBUG where its headers are
 * installed; AddressSanitizer's wherever it is on. Otherwise all this is empty. */
#ifndef VALK_CORE_ANNOTATE_H
#define VALK_CORE_ANNOTATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(VALK_VALGRIND)
#define VALK__MEMCHECK 1
#elif defined(VALK_DEBUG) && defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#define VALK__MEMCHECK 1
#endif
#endif
#ifndef VALK__MEMCHECK
#define VALK__MEMCHECK 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define VALK__ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define VALK__ASAN 1
#endif
#endif
#ifndef VALK__ASAN
#define VALK__ASAN 0
#endif

#if VALK__MEMCHECK
#include <valgrind/memcheck.h>
#endif
#if VALK__ASAN
#include <sanitizer/asan_interface.h>
#endif

/* The gap behind a block of an arena; a slab's items have the rest of their last page. */
#if VALK__MEMCHECK || VALK__ASAN || defined(VALK_DEBUG)
#define VALK_REDZONE 16u
#else
#define VALK_REDZONE 0u
#endif

/* True in a program that runs under valgrind, as far as this build can tell. */
static inline bool valk__on_valgrind(void) {
#if VALK__MEMCHECK
  return RUNNING_ON_VALGRIND != 0;
#else
  return false;
#endif
}

/* Usable memory that belongs to nobody: to touch it is an error until it is lent. */
static inline void valk__mark_free(void *address, size_t size) {
  (void) address, (void) size;
#if VALK__MEMCHECK
  VALGRIND_MAKE_MEM_NOACCESS(address, size);
#endif
#if VALK__ASAN
  ASAN_POISON_MEMORY_REGION(address, size);
#endif
}

/* The end of a reservation: the addresses may come back as anything. */
static inline void valk__mark_gone(void *address, size_t size) {
  (void) address, (void) size;
#if VALK__ASAN
  ASAN_UNPOISON_MEMORY_REGION(address, size);
#endif
}

/* True where somebody keeps account of what is lent: under valgrind and ASan. */
static inline bool valk__is_watched(void) {
  return VALK__ASAN || valk__on_valgrind();
}

/* True when the byte is lent, or when nobody keeps account. */
static inline bool valk__is_lent(const void *address) {
  (void) address;
#if VALK__ASAN
  return !__asan_address_is_poisoned(address);
#elif VALK__MEMCHECK
  unsigned char bits;
  return VALGRIND_GET_VBITS(address, &bits, 1) != 3;
#else
  return true;
#endif
}

/* An item is lent, its contents undefined; and put back. */
static inline void valk__mark_item_lent(void *item, size_t size) {
  (void) item, (void) size;
#if VALK__MEMCHECK
  VALGRIND_MALLOCLIKE_BLOCK(item, size, 0, 0);
#endif
#if VALK__ASAN
  ASAN_UNPOISON_MEMORY_REGION(item, size);
#endif
}

static inline void valk__mark_item_put(void *item, size_t size) {
  (void) item, (void) size;
#if VALK__MEMCHECK
  VALGRIND_FREELIKE_BLOCK(item, 0);
#endif
#if VALK__ASAN
  ASAN_POISON_MEMORY_REGION(item, size);
#endif
}

/* Blocks that end all at once, known by the address |pool|. |memory| is where they lie. */
static inline void valk__mark_pool_begin(const void *pool) {
  (void) pool;
#if VALK__MEMCHECK
  VALGRIND_CREATE_MEMPOOL(pool, 0, 0);
#endif
}

static inline void valk__mark_pool_end(const void *pool, void *memory, size_t size) {
  (void) pool, (void) memory, (void) size;
#if VALK__MEMCHECK
  VALGRIND_DESTROY_MEMPOOL(pool);
#endif
#if VALK__ASAN
  ASAN_POISON_MEMORY_REGION(memory, size);
#endif
}

/* A block of a pool: its contents are undefined. */
static inline void valk__mark_block(const void *pool, void *block, size_t size) {
  (void) pool, (void) block, (void) size;
#if VALK__MEMCHECK
  VALGRIND_MEMPOOL_ALLOC(pool, block, size);
#endif
#if VALK__ASAN
  ASAN_UNPOISON_MEMORY_REGION(block, size);
#endif
}

/* The block has another size now, and what it held is still there. */
static inline void valk__mark_block_resized(const void *pool, void *block, size_t old_size,
                                            size_t size) {
  (void) pool, (void) block, (void) old_size, (void) size;
#if VALK__MEMCHECK
  VALGRIND_MEMPOOL_CHANGE(pool, block, block, size);
  if (size > old_size) {
    VALGRIND_MAKE_MEM_UNDEFINED((char *) block + old_size, size - old_size);
  } else {
    VALGRIND_MAKE_MEM_NOACCESS((char *) block + size, old_size - size);
  }
#endif
#if VALK__ASAN
  if (size < old_size) {
    ASAN_POISON_MEMORY_REGION(block, old_size);
  }
  ASAN_UNPOISON_MEMORY_REGION(block, size);
#endif
}

/* Charged blocks: each lies within a block of malloc, behind its header. To valgrind the whole
 * would be reachable by a pointer into its middle only, which it calls possibly lost. */
#if VALK__MEMCHECK
extern char valk__charged_pool;
#endif

static inline void valk__mark_charged(void *block, size_t size, bool zero) {
  (void) block, (void) size, (void) zero;
#if VALK__MEMCHECK
  VALGRIND_MEMPOOL_ALLOC(&valk__charged_pool, block, size);
  if (zero) {
    VALGRIND_MAKE_MEM_DEFINED(block, size);
  }
#endif
}

/* After realloc: what the block holds, and what of it is defined, went along. */
static inline void valk__mark_charged_moved(uintptr_t old_address, void *block, size_t size) {
  (void) old_address, (void) block, (void) size;
#if VALK__MEMCHECK
  VALGRIND_MEMPOOL_CHANGE(&valk__charged_pool, old_address, block, size);
#endif
}

static inline void valk__mark_charged_free(void *block) {
  (void) block;
#if VALK__MEMCHECK
  VALGRIND_MEMPOOL_FREE(&valk__charged_pool, block);
#endif
}

#endif
