/* When an engine thread lets the threads that share its core run, between two passes of a turn.
 *
 * JavaScript's thread, where it is on the same core, would answer the requests of a pass only when
 * the turn is over, and what the first ones have touched has left the core's caches by then. A
 * thread that yields gives up what is left of its time slice, though: where somebody else takes it,
 * who computes, that is milliseconds each time. So a turn has none after one that took long, each
 * of those halves how many passes have one, and a row of quick ones doubles it. */
#ifndef VALK_CORE_YIELD_H
#define VALK_CORE_YIELD_H

#include <stdbool.h>
#include <stdint.h>

/* Less than a time slice, more than JavaScript takes for a pass of small requests. */
#define VALK_YIELD_LONG_NS 2000000u
#define VALK_YIELD_STEPS_MAX 10u
#define VALK_YIELD_QUICK_ROW 8u

/* Zero at first. Of one thread. */
typedef struct {
  uint32_t left;  /* passes without one until the next */
  uint32_t steps; /* one pass of 2^steps has one */
  uint32_t quick; /* quick ones in a row */
  bool over;      /* this turn has had one that took long */
} valk__yield_t;

static inline void valk__yield_begin_turn(valk__yield_t *yield) {
  yield->over = false;
}

/* Whether this pass has one. */
static inline bool valk__yield_is_due(valk__yield_t *yield) {
  if (yield->left > 0) {
    yield->left--;
    return false;
  }
  return !yield->over;
}

/* One was made; others ran for |ns|. */
static inline void valk__yield_took(valk__yield_t *yield, uint64_t ns) {
  if (ns >= VALK_YIELD_LONG_NS) {
    yield->over = true;
    yield->quick = 0;
    yield->steps += yield->steps < VALK_YIELD_STEPS_MAX;
  } else if (++yield->quick >= VALK_YIELD_QUICK_ROW) {
    yield->quick = 0;
    yield->steps -= yield->steps > 0;
  }
  yield->left = (1u << yield->steps) - 1;
}

#endif
