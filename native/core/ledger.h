/* Charged memory: who holds how much of the heap.
 *
 * Every block has a 16-byte header that names its ledger, so that a block may be freed anywhere. A
 * ledger belongs to a connection and lives until the connection has closed it and the last of its
 * blocks is free (OpenSSL keeps a few per-thread blocks longer than the connection that happened to
 * cause them).
 * nghttp2 gets these functions through nghttp2_mem, OpenSSL through CRYPTO_set_mem_functions, which
 * names no owner: there the thread's current ledger counts (valk_ledger_enter). Specification,
 * section 6.
 *
 * Any thread, but a ledger is charged only between valk_ledger_new and valk_ledger_close. */
#ifndef VALK_CORE_LEDGER_H
#define VALK_CORE_LEDGER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spare.h"

typedef struct valk_ledger {
  atomic_size_t used; /* bytes, headers included; never above |limit| */
  atomic_size_t peak;
  size_t limit;           /* allocations that would pass it fail; 0 for none */
  atomic_uint references; /* one for the owner, one while |used| is not 0 */
  atomic_uint refused;    /* allocations that failed because of |limit| */
} valk_ledger_t;

/* NULL when out of memory. */
valk_ledger_t *valk_ledger_new(size_t limit);
/* The owner is gone; the ledger is freed with its last block. NULL is nothing. */
void valk_ledger_close(valk_ledger_t *ledger);

/* |ledger| may be NULL: the block is then charged to nobody. Results as malloc, calloc, realloc and
 * free (16-aligned); realloc to 0 bytes frees the block and returns NULL. */
void *valk_ledger_malloc(valk_ledger_t *ledger, size_t size);
/* As malloc, for a buffer of which little is touched as a rule: where it is a block of block.h (see
 * there), none of its pages is resident yet. */
void *valk_ledger_malloc_few_pages(valk_ledger_t *ledger, size_t size);
void *valk_ledger_calloc(valk_ledger_t *ledger, size_t count, size_t size);
/* A block keeps its first owner; |ledger| counts only when |block| is NULL. */
void *valk_ledger_realloc(valk_ledger_t *ledger, void *block, size_t size);
void valk_ledger_free(void *block);
/* From now on |block| is charged to nobody; it is freed as before. NULL is nothing. */
void valk_ledger_disown(void *block);
/* This thread keeps the small blocks that are freed on it in |spares|, zeros at first, for its next
 * ones; NULL frees what it has kept and ends that. */
void valk_ledger_keep(valk_spares_t *spares);
/* Keeps them in |spares| (NULL: nowhere) from now on and leaves what has been kept as it is: for a
 * thread that is an engine's at times. What was in use before. */
valk_spares_t *valk_ledger_switch(valk_spares_t *spares);
/* For an owner that may free a block twice: nghttp2 1.52 does when an allocation fails inside it.
 * The block goes to |list| instead, once however often it is retired, and stays readable until
 * valk_ledger_free_retired. One thread. */
void valk_ledger_retire(void *block, void **list);
void valk_ledger_free_retired(void **list);
/* Charges or credits bytes that lie elsewhere (a waiting answer's copy, say). False when |limit|
 * would be passed; nothing is charged then. */
bool valk_ledger_charge(valk_ledger_t *ledger, size_t size);
void valk_ledger_credit(valk_ledger_t *ledger, size_t size);

/* The ledger that OpenSSL's allocations on this thread are charged to; returns the previous one. */
valk_ledger_t *valk_ledger_enter(valk_ledger_t *ledger);
/* How many allocations of OpenSSL's have failed on this thread, whoever they were charged to. */
uint32_t valk_ledger_openssl_failures(void);
/* Between true and false no test's fault fails an allocation of this thread: for what the library
 * ends the process without. */
void valk_ledger_vital(bool vital);
/* Installs the functions into this copy of OpenSSL, once a process, before any other call to it.
 * Returns 0, or VALK_EINVAL when OpenSSL has allocated already; the same on every later call. */
int valk_ledger_install(void);

#endif
