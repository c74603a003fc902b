/* Fault injection for the native tests. Compiled to nothing unless VALK_FAULTS is 1.
 *
 * A point is a place that can fail: an allocation, a page commit, a system call. A test arms one
 * kind with a number n; the n-th pass through a point of that kind (counted over all threads, from
 * 1) fails once, or from then on each time when |sticky| is set. */
#ifndef VALK_CORE_FAULT_H
#define VALK_CORE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

typedef enum {
  VALK_FAULT_MALLOC,     /* malloc, calloc, realloc made by the core, nghttp2 and OpenSSL */
  VALK_FAULT_COMMIT,     /* mmap and mprotect in vm.c */
  VALK_FAULT_CLEAN,      /* madvise, and mprotect to PROT_NONE, in vm.c */
  VALK_FAULT_RECV,       /* recv: fails with the armed errno */
  VALK_FAULT_RECV_SHORT, /* recv: reads one byte */
  VALK_FAULT_SEND,       /* send: fails with the armed errno */
  VALK_FAULT_SHORT,      /* send: writes one byte */
  VALK_FAULT_ACCEPT,
  VALK_FAULT_SOCKET, /* of a listener to be: socket, setsockopt, bind, listen, getsockname */
  VALK_FAULT_OPTION, /* setsockopt, getsockopt, getsockname, shutdown of a socket in use */
  VALK_FAULT_POLL,   /* epoll_ctl of a socket */
  VALK_FAULT_LOCK,   /* uv_mutex_init, uv_sem_init, pthread_mutex_init */
  VALK_FAULT_THREAD, /* uv_thread_create, what a poller is made of */
  VALK_FAULT_KINDS
} valk_fault_kind_t;

#if defined(VALK_FAULTS) && VALK_FAULTS
/* Arms |kind| and clears its counter: the |nth| pass fails; 0 disarms. |error| is the errno that
 * the failure leaves, 0 for ENOMEM. Passes are counted whether the kind is armed or not. Any
 * thread, but passes that race with arming may see either setting. */
void valk__fault_arm(valk_fault_kind_t kind, uint64_t nth, bool sticky, int error);
/* Passes through points of |kind| since its counter was cleared. Any thread. */
uint64_t valk__fault_count(valk_fault_kind_t kind);
/* True if this pass must fail; sets errno to the armed error then. Any thread. */
bool valk__fault(valk_fault_kind_t kind);

/* Clocks. The monotonic one reads |ahead_ms| more from now on than the machine's (it never goes
 * back, so neither may this), the wall clock |wall_s| more, or less. Any thread. */
void valk__fault_clock(uint64_t ahead_ms, int64_t wall_s);
uint64_t valk__fault_ahead_ms(void);
int64_t valk__fault_wall_s(void);
#else
#define valk__fault(kind) ((void) (kind), false)
#define valk__fault_ahead_ms() ((uint64_t) 0)
#define valk__fault_wall_s() ((int64_t) 0)
#endif

#endif
