/* Address space and pages: reserve first, commit when needed, give pages back.
 *
 * Reserved space is PROT_NONE, so that it counts neither against RLIMIT_DATA nor against a strict
 * overcommit limit; committing makes it readable and writable. Huge pages are turned off for it:
 * one touched byte would make 2 MiB resident, and what is resident is what the configuration
 * bounds. All functions are thread-safe; ranges are whole pages. Specification, section 6. */
#ifndef VALK_CORE_VM_H
#define VALK_CORE_VM_H

#include <stddef.h>

#define VALK_PAGE_SIZE 4096u

/* Rounds |n| up to whole pages. */
#define VALK_PAGE_ROUND(n) (((size_t) (n) + VALK_PAGE_SIZE - 1) & ~(size_t) (VALK_PAGE_SIZE - 1))

/* Reserves |size| bytes of address space; NULL when the system refuses. */
void *valk__vm_reserve(size_t size);
/* Makes a reserved range usable; a range that is usable already stays as it is. 0 or VALK_ENOMEM
 * (RLIMIT_DATA, or more mappings than vm.max_map_count). */
int valk__vm_commit(void *address, size_t size);
/* Gives the pages of a committed range back; it stays committed and reads as zeros (or as before,
 * where the process locked its memory and the system refuses). */
void valk__vm_clean(void *address, size_t size);
/* Gives the pages back and makes the range reserved again. Where the system refuses the latter, the
 * range stays committed and empty, which the next commit doesn't mind. */
void valk__vm_decommit(void *address, size_t size);
/* Ends a reservation. */
void valk__vm_release(void *address, size_t size);

#endif
