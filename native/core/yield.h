/* When an engine thread lets the threads that share its core run, between two passes of a turn.
 *
 * JavaScript's thread, where it is on the same core, would answer the requests of a pass only when
 * the turn is over, and what the first ones have touched has left the core's caches by then. A
 * thread that yields gives up what is left of its time slice, though: where somebody else takes it,
 * who computes, that is milliseconds each time. So after one that took long only one pass in
 * sixteen has one, and fewer after each further, and each row of quick ones doubles how many have.
 */
#ifndef VALK_CORE_YIELD_H
#define VALK_CORE_YIELD_H

#include <stdbool.h>
#include <stdint.h>

/* Less than a time slice, more than JavaScript takes for a pass of small requests. */
#define VALK_YIELD_LONG_NS 2000000u
/* At once, since what is under way in the same turn waits for all of them. */
#define VALK_YIELD_STEPS_LONG 4u
#define VALK_YIELD_STEPS_MAX 10u
#define VALK_YIELD_QUICK_ROW 8u

/* Zero at first. Of one thread. */
typedef struct {
  uint32_t left;  /* passes without one until the next */
  uint32_t steps; /* one pass of 2^steps has one */
  uint32_t quick; /* quick ones in a row */
} valk__yield_t;

/* Whether this pass has one. */
static inline bool valk__yield_is_due(valk__yield_t *yield) {
  if (yield->left == 0) {
    return true;
  }
  yield->left--;
  return false;
}

/* One was made; others ran for |ns|. */
static inline void valk__yield_took(valk__yield_t *yield, uint64_t ns) {
  if (ns >= VALK_YIELD_LONG_NS) {
    yield->quick = 0;
    yield->steps += VALK_YIELD_STEPS_LONG;
    if (yield->steps > VALK_YIELD_STEPS_MAX) {
      yield->steps = VALK_YIELD_STEPS_MAX;
    }
  } else if (++yield->quick >= VALK_YIELD_QUICK_ROW) {
    yield->quick = 0;
    yield->steps -= yield->steps > 0;
  }
  yield->left = (1u << yield->steps) - 1;
}

#endif
