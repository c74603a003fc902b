#include "process.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "valk.h"

/* ---- the end of the process ---- */

static pthread_mutex_t entries_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t entries_once = PTHREAD_ONCE_INIT;
static valk_at_exit_t *entries;

static void end_entries(void) {
  for (;;) {
    pthread_mutex_lock(&entries_lock);
    valk_at_exit_t *entry = entries;
    while (entry != NULL && !pthread_equal(entry->thread, pthread_self())) {
      entry = entry->next;
    }
    pthread_mutex_unlock(&entries_lock);
    if (entry == NULL) {
      return;
    }
    entry->end(entry->data);
  }
}

static void add_handler(void) {
  atexit(end_entries);
}

void valk_at_exit_add(valk_at_exit_t *entry, void (*end)(void *data), void *data) {
  pthread_once(&entries_once, add_handler);
  entry->end = end;
  entry->data = data;
  entry->thread = pthread_self();
  entry->prev = NULL;
  pthread_mutex_lock(&entries_lock);
  entry->next = entries;
  if (entries != NULL) {
    entries->prev = entry;
  }
  entries = entry;
  pthread_mutex_unlock(&entries_lock);
}

void valk_at_exit_remove(valk_at_exit_t *entry) {
  if (entry->end == NULL) {
    return;
  }
  entry->end = NULL;
  pthread_mutex_lock(&entries_lock);
  *(entry->prev != NULL ? &entry->prev->next : &entries) = entry->next;
  if (entry->next != NULL) {
    entry->next->prev = entry->prev;
  }
  pthread_mutex_unlock(&entries_lock);
}

/* ---- descriptors ---- */

static uint64_t limit_of(rlim_t value) {
  return value == RLIM_INFINITY ? UINT64_MAX : (uint64_t) value;
}

void valk_raise_descriptor_limit(uint64_t wanted, uint64_t *soft, uint64_t *hard) {
  struct rlimit limit = {0, 0};
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit_of(limit.rlim_cur) < wanted) {
    struct rlimit raised = limit;
    raised.rlim_cur = wanted < limit_of(limit.rlim_max) ? (rlim_t) wanted : limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
      limit = raised;
    }
  }
  *soft = limit_of(limit.rlim_cur);
  *hard = limit_of(limit.rlim_max);
}

/* ---- names ---- */

#define POOL(name)                                                                                 \
  name ".size", name ".inUse", name ".highWater", name ".timesFull", name ".waiters"
#define CLOSED(field, name) "connection.closed." name,
#define REJECTED(field, name) "request.rejected503." name,
#define TOO_LARGE(field, name) "request.tooLarge413." name,
#define RESET(field, name) "request.reset." name,

/* clang-format off */
const char *const valk_stat_names[] = {
  POOL("connections"), POOL("buffers"), POOL("arenas"), POOL("queue"), "overflowArenas",
  "connection.active", "connection.accepted", "connection.waiting", "connection.handshakes",
  "connection.resumed", VALK_CLOSE_CAUSES(CLOSED) "connection.heapUsed", "connection.heapLargest",
  "request.active", "request.waiting", "request.total", "request.dispatched",
  "request.informational", "request.success", "request.redirect", "request.clientError",
  "request.serverError", "request.staticRoutes", "request.timeouts408", "request.headers431",
  "request.bad400", VALK_REJECT_CAUSES(REJECTED) VALK_TOO_LARGE_CAUSES(TOO_LARGE)
  VALK_RESET_CAUSES(RESET) "bytesIn", "bytesOut",
};
/* clang-format on */

#define NAME_COUNT (sizeof(valk_stat_names) / sizeof(valk_stat_names[0]))
const size_t valk_stat_name_count = NAME_COUNT;

_Static_assert(offsetof(valk_stats_t, waiting) == NAME_COUNT * sizeof(uint64_t),
               "each number of valk_stats_t has its name");
_Static_assert(sizeof(valk_stats_t) ==
                   offsetof(valk_stats_t, waiting) + 3 * sizeof(valk_histogram_stats_t),
               "the histograms are last");
