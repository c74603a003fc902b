#include "../core/yield.h"
#include "test.h"

#define SHORT_NS (VALK_YIELD_LONG_NS - 1)

static uint64_t now_ns;

/* Passes, each long after the last, until one yields, which then takes |ns|. */
static unsigned passes_until_next(valk__yield_t *yield, uint64_t ns) {
  unsigned passes = 0;
  do {
    passes++;
    now_ns += VALK_YIELD_PAUSE_NS;
  } while (!valk__yield_is_due(yield, now_ns));
  valk__yield_took(yield, now_ns, now_ns + ns);
  now_ns += ns;
  return passes;
}

TEST(yields_that_are_quick_come_with_each_pass) {
  valk__yield_t yield = {0};
  for (int i = 0; i < 100; i++) {
    ASSERT_EQ(passes_until_next(&yield, SHORT_NS), 1u);
  }
}

TEST(yields_that_take_long_become_rare) {
  valk__yield_t yield = {0};
  for (unsigned expected = 1; expected < 1024; expected *= 2) {
    ASSERT_EQ(passes_until_next(&yield, VALK_YIELD_LONG_NS), expected);
  }
  for (int i = 0; i < 3; i++) {
    ASSERT_EQ(passes_until_next(&yield, VALK_YIELD_LONG_NS), 1024u);
  }
}

TEST(rows_of_quick_yields_bring_them_back) {
  valk__yield_t yield = {0};
  for (int i = 0; i < 12; i++) {
    passes_until_next(&yield, VALK_YIELD_LONG_NS);
  }
  for (unsigned expected = 1024; expected > 1; expected /= 2) {
    for (unsigned i = 0; i < VALK_YIELD_QUICK_ROW; i++) {
      ASSERT_EQ(passes_until_next(&yield, SHORT_NS), expected);
    }
  }
  ASSERT_EQ(passes_until_next(&yield, SHORT_NS), 1u);
}

TEST(a_few_quick_yields_among_long_ones_change_nothing) {
  valk__yield_t yield = {0};
  for (int i = 0; i < 200; i++) {
    passes_until_next(&yield, i % 4 == 0 ? VALK_YIELD_LONG_NS : SHORT_NS);
  }
  ASSERT_EQ(passes_until_next(&yield, SHORT_NS), 1024u);
}

TEST(one_that_took_long_is_followed_by_time_without) {
  valk__yield_t yield = {0};
  ASSERT_TRUE(valk__yield_is_due(&yield, 1));
  uint64_t end = 1 + VALK_YIELD_LONG_NS;
  valk__yield_took(&yield, 1, end);
  for (int i = 0; i < 100; i++) {
    ASSERT_FALSE(valk__yield_is_due(&yield, end + VALK_YIELD_PAUSE_NS - 1));
  }
  ASSERT_TRUE(valk__yield_is_due(&yield, end + VALK_YIELD_PAUSE_NS));
}
