/* When an engine thread lets the threads that share its core run, between two passes of a turn.
 *
 * A consumer whose thread is on the same core would answer the requests of a pass only when the
 * turn is over, and what the first ones have touched has left the core's caches by then. A thread
 * that yields gives up what is left of its time slice, though: where somebody else takes it,
 * who computes, that is milliseconds each time. So one that took long is followed by some time
 * without, each of those halves how many passes have one, and a row of quick ones doubles it. */
#ifndef VALK_CORE_YIELD_H
#define VALK_CORE_YIELD_H

#include <stdbool.h>
#include <stdint.h>

/* Less than a time slice, more than a consumer takes for a pass of small requests. */
#define VALK_YIELD_LONG_NS 2000000u
/* A request that goes through several turns, as the first of a connection, meets one long yield. */
#define VALK_YIELD_PAUSE_NS 20000000u
#define VALK_YIELD_STEPS_MAX 10u
#define VALK_YIELD_QUICK_ROW 8u

/* Zero at first. Of one thread. */
typedef struct {
  uint64_t resume_ns; /* none before this time */
  uint32_t left;      /* passes without one until the next */
  uint32_t steps;     /* one pass of 2^steps has one */
  uint32_t quick;     /* quick ones in a row */
} valk__yield_t;

/* Whether this pass has one. */
static inline bool valk__yield_is_due(valk__yield_t *yield, uint64_t now_ns) {
  if (yield->left > 0) {
    yield->left--;
    return false;
  }
  return now_ns >= yield->resume_ns;
}

/* One was made; others ran from |before_ns| to |now_ns|. */
static inline void valk__yield_took(valk__yield_t *yield, uint64_t before_ns, uint64_t now_ns) {
  if (now_ns - before_ns >= VALK_YIELD_LONG_NS) {
    yield->resume_ns = now_ns + VALK_YIELD_PAUSE_NS;
    yield->quick = 0;
    yield->steps += yield->steps < VALK_YIELD_STEPS_MAX;
  } else if (++yield->quick >= VALK_YIELD_QUICK_ROW) {
    yield->quick = 0;
    yield->steps -= yield->steps > 0;
  }
  yield->left = (1u << yield->steps) - 1;
}

#endif
