#include "vm.h"

#include <assert.h>
#include <stdint.h>
#include <sys/mman.h>

#include "../include/valk.h"
#include "fault.h"

static void check(const void *address, size_t size) {
  assert((uintptr_t) address % VALK_PAGE_SIZE == 0 && size % VALK_PAGE_SIZE == 0);
  (void) address;
  (void) size;
}

void *valk__vm_reserve(size_t size) {
  check(NULL, size);
  if (valk__fault(VALK_FAULT_COMMIT)) {
    return NULL;
  }
  void *address = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) {
    return NULL;
  }
  /* Refused by a kernel that has no huge pages, and then there is nothing to turn off. */
  if (!valk__fault(VALK_FAULT_CLEAN))
    (void) madvise(address, size, MADV_NOHUGEPAGE);
  return address;
}

int valk__vm_commit(void *address, size_t size) {
  check(address, size);
  if (valk__fault(VALK_FAULT_COMMIT) || mprotect(address, size, PROT_READ | PROT_WRITE) != 0) {
    return VALK_ENOMEM;
  }
  return 0;
}

/* Fails for pages that are locked in memory (mlockall), and then they stay. */
void valk__vm_clean(void *address, size_t size) {
  check(address, size);
  if (!valk__fault(VALK_FAULT_CLEAN))
    (void) madvise(address, size, MADV_DONTNEED);
}

void valk__vm_decommit(void *address, size_t size) {
  valk__vm_clean(address, size);
  if (!valk__fault(VALK_FAULT_CLEAN))
    (void) mprotect(address, size, PROT_NONE);
}

void valk__vm_release(void *address, size_t size) {
  check(address, size);
  int result = munmap(address, size);
  assert(result == 0);
  (void) result;
}
