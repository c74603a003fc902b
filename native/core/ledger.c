#include "ledger.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <uv.h>

#include "../include/valk.h"
#include "annotate.h"
#include "block.h"
#include "fault.h"
#include "spare.h"
#include "tls_library.h"

/* Sixteen bytes on every 64-bit system, so that what follows is aligned as malloc has it. */
typedef struct {
  _Alignas(16) valk_ledger_t *ledger;
  size_t size; /* of the block, without the header; and the bits below */
} header_t;

#define BIT(n) ((size_t) 1 << (sizeof(size_t) * 8 - (n)))
/* A retired block: its ledger, which it is no longer charged to, is the next one of the list. */
#define RETIRED BIT(1)
/* A block of block.h; and one that was taken clean. */
#define PAGES BIT(2)
#define CLEAN BIT(3)
#define BITS (RETIRED | PAGES | CLEAN)

static size_t size_of(const header_t *header) {
  return header->size & ~BITS;
}

_Static_assert(sizeof(header_t) == 16, "a header keeps the alignment of malloc");

/* One variable, since finding it takes a call. */
typedef struct {
  bool vital;
  valk_spares_t *spares;
  valk_ledger_t *current;
  uint32_t openssl_failures;
} local_t;

static _Thread_local local_t this_thread;

#if VALK__MEMCHECK
char valk__charged_pool;

__attribute__((constructor)) static void make_charged_pool(void) {
  valk__mark_pool_begin(&valk__charged_pool);
}
#endif

/* ---- the ledger itself ---- */

static void unreference(valk_ledger_t *ledger) {
  if (atomic_fetch_sub_explicit(&ledger->references, 1, memory_order_acq_rel) == 1) {
    free(ledger);
  }
}

valk_ledger_t *valk_ledger_new(size_t limit) {
  valk_ledger_t *ledger = valk__fault(VALK_FAULT_MALLOC) ? NULL : calloc(1, sizeof *ledger);
  if (ledger != NULL) {
    ledger->limit = limit;
    atomic_init(&ledger->references, 1);
  }
  return ledger;
}

void valk_ledger_close(valk_ledger_t *ledger) {
  if (ledger != NULL) {
    unreference(ledger);
  }
}

/* All that is charged holds one reference together, taken by the charge that finds nothing there
 * and dropped by the credit that leaves nothing: one locked instruction a block and not two. No
 * credit can come between a charge and its reference, since nobody knows yet of what is charged.
 * For the same reason bytes are never added to be taken back: another's charge might lean on them.
 */

bool valk_ledger_charge(valk_ledger_t *ledger, size_t size) {
  if (ledger == NULL || size == 0) {
    return true;
  }
  size_t before = atomic_load_explicit(&ledger->used, memory_order_relaxed);
  size_t after;
  do {
    if (__builtin_add_overflow(before, size, &after) ||
        (ledger->limit > 0 && after > ledger->limit)) {
      atomic_fetch_add_explicit(&ledger->refused, 1, memory_order_relaxed);
      return false;
    }
  } while (!atomic_compare_exchange_weak_explicit(&ledger->used, &before, after,
                                                  memory_order_relaxed, memory_order_relaxed));
  if (before == 0) {
    atomic_fetch_add_explicit(&ledger->references, 1, memory_order_relaxed);
  }
  size_t peak = atomic_load_explicit(&ledger->peak, memory_order_relaxed);
  while (after > peak &&
         !atomic_compare_exchange_weak_explicit(&ledger->peak, &peak, after, memory_order_relaxed,
                                                memory_order_relaxed)) {
  }
  return true;
}

void valk_ledger_credit(valk_ledger_t *ledger, size_t size) {
  if (ledger == NULL || size == 0) {
    return;
  }
  size_t before = atomic_fetch_sub_explicit(&ledger->used, size, memory_order_acq_rel);
  assert(before >= size);
  if (before == size) {
    unreference(ledger);
  }
}

/* ---- blocks ---- */

typedef enum { HEAP, ZEROS, FEW_PAGES } want_t;

/* |total| bytes; sets |flags| where they are a block's. */
static header_t *find_memory(local_t *local, size_t total, want_t want, size_t *flags) {
  *flags = 0;
  if (want != ZEROS && total >= VALK_BLOCK_LEAST && total <= VALK_BLOCK_SIZE && !VALK__ASAN &&
      !valk__on_valgrind()) {
    header_t *header = valk__block_get(want == FEW_PAGES);
    if (header != NULL) {
      *flags = want == FEW_PAGES ? PAGES | CLEAN : PAGES;
      return header;
    }
  }
  header_t *header = valk__spare_get(local->spares, total);
  if (header != NULL)
    return want == ZEROS ? memset(header, 0, total) : header;
  size_t room = valk__spare_room(total);
  return want == ZEROS ? calloc(1, room) : malloc(room);
}

static void free_memory(local_t *local, header_t *header) {
  if ((header->size & PAGES) != 0)
    valk__block_put(header, (header->size & CLEAN) != 0);
  else if (!valk__spare_put(local->spares, header, sizeof *header + size_of(header)))
    free(header);
}

/* |size| bytes and a header. */
static void *allocate(local_t *local, valk_ledger_t *ledger, size_t size, want_t want) {
  size_t total, flags;
  if (__builtin_add_overflow(size, sizeof(header_t), &total) || (size & BITS) != 0) {
    errno = ENOMEM;
    return NULL;
  }
  if (!local->vital && valk__fault(VALK_FAULT_MALLOC)) {
    return NULL;
  }
  if (!valk_ledger_charge(ledger, total)) {
    errno = ENOMEM;
    return NULL;
  }
  header_t *header = find_memory(local, total, want, &flags);
  if (header == NULL) {
    valk_ledger_credit(ledger, total);
    return NULL;
  }
  header->ledger = ledger;
  header->size = size | flags;
  valk__mark_charged(header + 1, size, want == ZEROS);
  return header + 1;
}

void *valk_ledger_malloc(valk_ledger_t *ledger, size_t size) {
  return allocate(&this_thread, ledger, size, HEAP);
}

void *valk_ledger_malloc_few_pages(valk_ledger_t *ledger, size_t size) {
  return allocate(&this_thread, ledger, size, FEW_PAGES);
}

void *valk_ledger_calloc(valk_ledger_t *ledger, size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) {
    errno = ENOMEM;
    return NULL;
  }
  return allocate(&this_thread, ledger, bytes, ZEROS);
}

/* For a block of block.h that outgrows it. */
static void *move(local_t *local, header_t *header, size_t size) {
  valk_ledger_t *ledger = header->ledger;
  void *moved = allocate(local, ledger, size, HEAP);
  if (moved == NULL)
    return NULL;
  size_t old_size = size_of(header);
  memcpy(moved, header + 1, size < old_size ? size : old_size);
  valk_ledger_free(header + 1);
  return moved;
}

void *valk_ledger_realloc(valk_ledger_t *ledger, void *block, size_t size) {
  if (block == NULL) {
    return allocate(&this_thread, ledger, size, HEAP);
  }
  if (size == 0) {
    valk_ledger_free(block);
    return NULL;
  }
  header_t *header = (header_t *) block - 1;
  if ((header->size & PAGES) != 0)
    return move(&this_thread, header, size);
  size_t old_size = header->size;
  ledger = header->ledger;
  if (size > SIZE_MAX - sizeof *header || (size & BITS) != 0) {
    errno = ENOMEM;
    return NULL;
  }
  if (valk__fault(VALK_FAULT_MALLOC)) {
    return NULL;
  }
  if (size > old_size && !valk_ledger_charge(ledger, size - old_size)) {
    errno = ENOMEM;
    return NULL;
  }
  uintptr_t old_address = (uintptr_t) block;
  size_t room = valk__spare_room(sizeof *header + size);
  if (room != valk__spare_room(sizeof *header + old_size))
    header = realloc(header, room);
  if (header == NULL) {
    if (size > old_size) {
      valk_ledger_credit(ledger, size - old_size);
    }
    return NULL;
  }
  header->size = size;
  valk__mark_charged_moved(old_address, header + 1, size);
  if (size < old_size) {
    valk_ledger_credit(ledger, old_size - size);
  }
  return header + 1;
}

void valk_ledger_free(void *block) {
  if (block == NULL) {
    return;
  }
  header_t *header = (header_t *) block - 1;
  valk_ledger_t *ledger = header->ledger;
  size_t total = sizeof *header + size_of(header);
  valk__mark_charged_free(block);
  free_memory(&this_thread, header);
  valk_ledger_credit(ledger, total);
}

valk_spares_t *valk_ledger_switch(valk_spares_t *spares) {
  valk_spares_t *before = this_thread.spares;
  this_thread.spares = valk__is_watched() ? NULL : spares;
  return before;
}

void valk_ledger_keep(valk_spares_t *spares) {
  valk_spares_t *before = valk_ledger_switch(spares);
  if (before != NULL)
    valk__spares_trim(before);
}

void valk_ledger_disown(void *block) {
  if (block == NULL)
    return;
  header_t *header = (header_t *) block - 1;
  valk_ledger_credit(header->ledger, sizeof *header + size_of(header));
  header->ledger = NULL;
}

void valk_ledger_retire(void *block, void **list) {
  if (block == NULL)
    return;
  header_t *header = (header_t *) block - 1;
  if ((header->size & RETIRED) != 0)
    return;
  valk_ledger_credit(header->ledger, sizeof *header + size_of(header));
  header->size |= RETIRED;
  header->ledger = *list;
  *list = block;
}

void valk_ledger_free_retired(void **list) {
  while (*list != NULL) {
    void *block = *list;
    header_t *header = (header_t *) block - 1;
    *list = header->ledger;
    valk__mark_charged_free(block);
    free_memory(&this_thread, header);
  }
}

/* ---- the TLS library ---- */

valk_ledger_t *valk_ledger_enter(valk_ledger_t *ledger) {
  valk_ledger_t *previous = this_thread.current;
  this_thread.current = ledger;
  return previous;
}

uint32_t valk_ledger_openssl_failures(void) {
  return this_thread.openssl_failures;
}

void valk_ledger_vital(bool vital) {
  this_thread.vital = vital;
}

static void failed(local_t *local) {
  local->openssl_failures++;
#if VALK__TLS_AWSLC
  /* It says so itself only where the allocator is its own. */
  ERR_raise(ERR_LIB_CRYPTO, ERR_R_MALLOC_FAILURE);
#endif
}

static void *openssl_malloc(size_t size, const char *file, int line) {
  (void) file, (void) line;
  local_t *local = &this_thread;
  void *block = allocate(local, local->current, size, HEAP);
  if (block == NULL)
    failed(local);
  return block;
}

#if VALK__TLS_AWSLC

/* It counts on a block being cleared when it is freed, whatever was in it. */
static void openssl_free(void *block, const char *file, int line) {
  (void) file, (void) line;
  if (block != NULL) {
    OPENSSL_cleanse(block, size_of((header_t *) block - 1));
    valk_ledger_free(block);
  }
}

static void *openssl_realloc(void *block, size_t size, const char *file, int line) {
  void *moved = openssl_malloc(size, file, line);
  if (moved != NULL && block != NULL) {
    size_t had = size_of((header_t *) block - 1);
    memcpy(moved, block, had < size ? had : size);
    openssl_free(block, file, line);
  }
  return moved;
}

#else

static void *openssl_realloc(void *block, size_t size, const char *file, int line) {
  (void) file, (void) line;
  local_t *local = &this_thread;
  void *moved = valk_ledger_realloc(local->current, block, size);
  if (moved == NULL && size > 0)
    failed(local);
  return moved;
}

static void openssl_free(void *block, const char *file, int line) {
  (void) file, (void) line;
  valk_ledger_free(block);
}

#endif

static int install_result;

static void install(void) {
  install_result =
      CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) ? 0 : VALK_EINVAL;
}

int valk_ledger_install(void) {
  static uv_once_t once = UV_ONCE_INIT;
  uv_once(&once, install);
  return install_result;
}
