/* What the targets of libFuzzer share. A target's first bytes choose how the machine is driven. */
#ifndef VALK_FUZZ_H
#define VALK_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/ledger.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

#define FUZZ_ASSERT(condition)                                                                     \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                              \
      abort();                                                                                     \
    }                                                                                              \
  } while (0)

/* Touches each byte, for the sanitizers. */
static inline void fuzz_read(const uint8_t *bytes, size_t length) {
  static volatile uint8_t sink;
  for (size_t i = 0; i < length; i++)
    sink = (uint8_t) (sink ^ bytes[i]);
}

static inline valk_ledger_t *fuzz_ledger(void) {
  valk_ledger_t *ledger = valk_ledger_new(0);
  FUZZ_ASSERT(ledger != NULL);
  return ledger;
}

/* Nothing that was charged to it is left. */
static inline void fuzz_ledger_free(valk_ledger_t *ledger) {
  FUZZ_ASSERT(atomic_load(&ledger->used) == 0);
  valk_ledger_close(ledger);
}

#endif
