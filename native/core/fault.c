#include "fault.h"

#if defined(VALK_FAULTS) && VALK_FAULTS

#include <errno.h>
#include <stdatomic.h>

typedef struct {
  atomic_uint_fast64_t passes;
  atomic_uint_fast64_t nth; /* 0: not armed */
  atomic_bool sticky;
  atomic_int error;
} fault_t;

static fault_t faults[VALK_FAULT_KINDS];

void valk__fault_arm(valk_fault_kind_t kind, uint64_t nth, bool sticky, int error) {
  fault_t *fault = &faults[kind];
  atomic_store(&fault->nth, 0);
  atomic_store(&fault->passes, 0);
  atomic_store(&fault->sticky, sticky);
  atomic_store(&fault->error, error != 0 ? error : ENOMEM);
  atomic_store(&fault->nth, nth);
}

uint64_t valk__fault_count(valk_fault_kind_t kind) {
  return atomic_load(&faults[kind].passes);
}

static atomic_uint_fast64_t clock_ahead_ms;
static atomic_int_fast64_t clock_wall_s;

void valk__fault_clock(uint64_t ahead_ms, int64_t wall_s) {
  atomic_store(&clock_ahead_ms, ahead_ms);
  atomic_store(&clock_wall_s, wall_s);
}

uint64_t valk__fault_ahead_ms(void) {
  return atomic_load(&clock_ahead_ms);
}

int64_t valk__fault_wall_s(void) {
  return atomic_load(&clock_wall_s);
}

bool valk__fault(valk_fault_kind_t kind) {
  fault_t *fault = &faults[kind];
  uint64_t pass = atomic_fetch_add(&fault->passes, 1) + 1;
  uint64_t nth = atomic_load(&fault->nth);
  if (nth == 0 || pass < nth || (pass > nth && !atomic_load(&fault->sticky))) {
    return false;
  }
  errno = atomic_load(&fault->error);
  return true;
}

#endif
