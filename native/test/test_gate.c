/* The gate, step by step on one thread; stress_pools.c has the threads. */
#include "test.h"

#include "../core/fault.h"
#include "../core/gate.h"
#include "../include/valk.h"

enum { CONSUMERS = 8, LOG_SIZE = 64 };

static valk_gate_t gate;

/* Who was notified, in order, since the last look. */
static uint32_t notified[LOG_SIZE];
static unsigned notified_count;

static void on_grant(void *data, uint32_t consumer) {
  ASSERT_PTR_EQ(data, &gate);
  /* Outside the lock: else this call would never return. */
  valk_gate_stats_t stats;
  valk_gate_stats(&gate, &stats);
  ASSERT_LT(notified_count, (unsigned) LOG_SIZE);
  notified[notified_count++] = consumer;
}

static void open_gate(uint32_t capacity, uint32_t reserve) {
  ASSERT_OK(valk_gate_init(&gate, capacity, reserve, CONSUMERS, on_grant, &gate));
}

static valk_gate_stats_t look(void) {
  valk_gate_stats_t stats;
  valk_gate_stats(&gate, &stats);
  return stats;
}

#define ASSERT_NOTIFIED(consumer)                                                                  \
  do {                                                                                             \
    ASSERT_EQ(notified_count, 1u);                                                                 \
    ASSERT_EQ(notified[0], consumer);                                                              \
    notified_count = 0;                                                                            \
  } while (0)

#define ASSERT_NOBODY_NOTIFIED() ASSERT_EQ(notified_count, 0u)

static void release(unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    valk_gate_release(&gate);
  }
}

TEST(gate_holds_its_capacity) {
  open_gate(3, 0);
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  ASSERT(valk_gate_acquire(&gate, 1, 0));
  ASSERT(valk_gate_try(&gate, 2, 0));
  ASSERT_FALSE(valk_gate_try(&gate, 2, 0));
  ASSERT_EQ(look().waiting, 0u);
  ASSERT_EQ(look().times_full, 0u);
  ASSERT_FALSE(valk_gate_acquire(&gate, 2, 0));
  valk_gate_stats_t stats = look();
  ASSERT_EQ(stats.capacity, 3u);
  ASSERT_EQ(stats.in_use, 3u);
  ASSERT_EQ(stats.high_water, 3u);
  ASSERT_EQ(stats.waiting, 1u);
  ASSERT_EQ(stats.times_full, 1u);
  valk_gate_settle(&gate, 2, 0);
  release(3);
  ASSERT_NOBODY_NOTIFIED();
  ASSERT_EQ(look().in_use, 0u);
  ASSERT_EQ(look().waiting, 0u);
  ASSERT_EQ(look().high_water, 3u);
  valk_gate_deinit(&gate);
}

TEST(gate_waiting_twice_is_waiting_once) {
  open_gate(1, 0);
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  ASSERT_FALSE(valk_gate_acquire(&gate, 1, 0));
  ASSERT_FALSE(valk_gate_acquire(&gate, 2, 0));
  ASSERT_FALSE(valk_gate_acquire(&gate, 1, 0));
  ASSERT_FALSE(valk_gate_try(&gate, 1, 0));
  ASSERT_EQ(look().waiting, 2u);
  ASSERT_EQ(look().times_full, 2u);
  /* ... and it has kept its turn. */
  valk_gate_release(&gate);
  ASSERT_NOTIFIED(1u);
  valk_gate_settle(&gate, 1, 0);
  ASSERT_NOTIFIED(2u);
  valk_gate_settle(&gate, 2, 0);
  ASSERT_EQ(look().in_use, 0u);
  valk_gate_deinit(&gate);
}

TEST(gate_grants_in_the_order_of_waiting) {
  open_gate(2, 0);
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  for (uint32_t consumer = 5; consumer > 1; consumer--) {
    ASSERT_FALSE(valk_gate_acquire(&gate, consumer, 0));
  }
  for (uint32_t consumer = 5; consumer > 1; consumer--) {
    valk_gate_release(&gate);
    ASSERT_NOTIFIED(consumer);
    ASSERT_EQ(look().in_use, 2u);
    ASSERT_EQ(look().waiting, consumer - 2);
    ASSERT(valk_gate_acquire(&gate, consumer, 0));
  }
  release(2);
  valk_gate_deinit(&gate);
}

TEST(gate_threads_that_want_more_take_turns) {
  open_gate(1, 0);
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  ASSERT_FALSE(valk_gate_acquire(&gate, 1, 0));
  ASSERT_FALSE(valk_gate_acquire(&gate, 2, 0));
  for (unsigned turn = 0; turn < 6; turn++) {
    uint32_t next = 1 + turn % 2;
    valk_gate_release(&gate);
    ASSERT_NOTIFIED(next);
    ASSERT(valk_gate_acquire(&gate, next, 0));
    ASSERT_FALSE(valk_gate_acquire(&gate, next, 0));
  }
  valk_gate_settle(&gate, 1, 0);
  valk_gate_settle(&gate, 2, 0);
  ASSERT_NOBODY_NOTIFIED();
  valk_gate_release(&gate);
  valk_gate_deinit(&gate);
}

TEST(gate_newcomer_does_not_pass_one_that_has_a_grant) {
  open_gate(1, 0);
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  ASSERT_FALSE(valk_gate_acquire(&gate, 1, 0));
  valk_gate_release(&gate);
  ASSERT_NOTIFIED(1u);
  /* Nobody holds the place yet, but it is spoken for. */
  ASSERT_EQ(look().in_use, 1u);
  ASSERT_EQ(look().waiting, 0u);
  ASSERT_FALSE(valk_gate_try(&gate, 0, 0));
  ASSERT_FALSE(valk_gate_acquire(&gate, 0, 0));
  ASSERT(valk_gate_acquire(&gate, 1, 0));
  valk_gate_release(&gate);
  ASSERT_NOTIFIED(0u);
  ASSERT(valk_gate_try(&gate, 0, 0)); /* a try uses a grant as well */
  valk_gate_release(&gate);
  valk_gate_deinit(&gate);
}

TEST(gate_acquire_uses_the_grant_before_a_free_place) {
  open_gate(2, 0);
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  ASSERT_FALSE(valk_gate_acquire(&gate, 1, 0));
  release(2);
  ASSERT_NOTIFIED(1u);
  ASSERT_EQ(look().in_use, 1u); /* the grant; the other place is free */
  ASSERT(valk_gate_acquire(&gate, 1, 0));
  ASSERT_EQ(look().in_use, 1u);
  ASSERT(valk_gate_acquire(&gate, 1, 0));
  ASSERT_EQ(look().in_use, 2u);
  valk_gate_settle(&gate, 1, 0); /* nothing is left of it */
  ASSERT_EQ(look().in_use, 2u);
  release(2);
  valk_gate_deinit(&gate);
}

TEST(gate_settle_passes_a_grant_in_flight_on) {
  open_gate(1, 0);
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  ASSERT_FALSE(valk_gate_acquire(&gate, 1, 0));
  ASSERT_FALSE(valk_gate_acquire(&gate, 2, 0));
  valk_gate_release(&gate);
  ASSERT_NOTIFIED(1u);
  valk_gate_settle(&gate, 1, 0);
  ASSERT_NOTIFIED(2u);
  valk_gate_settle(&gate, 1, 0); /* a second one finds nothing */
  ASSERT_NOBODY_NOTIFIED();
  ASSERT_EQ(look().in_use, 1u);
  valk_gate_settle(&gate, 2, 0);
  ASSERT_NOBODY_NOTIFIED();
  ASSERT_EQ(look().in_use, 0u);
  /* The notifications come late and find a gate that is as good as new. */
  ASSERT(valk_gate_acquire(&gate, 1, 0));
  ASSERT_FALSE(valk_gate_acquire(&gate, 2, 0));
  valk_gate_settle(&gate, 2, 0);
  valk_gate_release(&gate);
  valk_gate_deinit(&gate);
}

TEST(gate_settle_withdraws_from_anywhere_in_the_line) {
  for (uint32_t leaver = 1; leaver <= 3; leaver++) {
    open_gate(1, 0);
    ASSERT(valk_gate_acquire(&gate, 0, 0));
    for (uint32_t consumer = 1; consumer <= 3; consumer++) {
      ASSERT_FALSE(valk_gate_acquire(&gate, consumer, 0));
    }
    valk_gate_settle(&gate, leaver, 0);
    ASSERT_NOBODY_NOTIFIED();
    ASSERT_EQ(look().waiting, 2u);
    ASSERT_FALSE(valk_gate_acquire(&gate, leaver, 0)); /* at the end now */
    for (uint32_t consumer = 1; consumer <= 3; consumer++) {
      if (consumer != leaver) {
        valk_gate_release(&gate);
        ASSERT_NOTIFIED(consumer);
        ASSERT(valk_gate_acquire(&gate, consumer, 0));
      }
    }
    valk_gate_release(&gate);
    ASSERT_NOTIFIED(leaver);
    ASSERT(valk_gate_acquire(&gate, leaver, 0));
    valk_gate_release(&gate);
    ASSERT_NOBODY_NOTIFIED();
    valk_gate_deinit(&gate);
  }
}

TEST(gate_level_1_leaves_the_reserve) {
  open_gate(5, 2);
  for (unsigned i = 0; i < 3; i++) {
    ASSERT(valk_gate_acquire(&gate, 0, 1));
  }
  ASSERT_FALSE(valk_gate_try(&gate, 0, 1));
  ASSERT_FALSE(valk_gate_acquire(&gate, 0, 1));
  /* Level 0 passes the waiter of level 1: the reserve is for it. */
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  ASSERT(valk_gate_acquire(&gate, 1, 0));
  ASSERT_FALSE(valk_gate_acquire(&gate, 1, 0));
  ASSERT_EQ(look().in_use, 5u);
  ASSERT_EQ(look().waiting, 2u);
  valk_gate_settle(&gate, 1, 0);
  release(2); /* free: 2, and no more than the reserve */
  ASSERT_NOBODY_NOTIFIED();
  valk_gate_release(&gate);
  ASSERT_NOTIFIED(0u);
  ASSERT_EQ(look().in_use, 3u);
  ASSERT(valk_gate_acquire(&gate, 0, 1));
  release(3);
  valk_gate_deinit(&gate);
}

TEST(gate_level_0_goes_first_and_level_1_is_served_before_its_newcomers) {
  open_gate(3, 1);
  for (unsigned i = 0; i < 3; i++) {
    ASSERT(valk_gate_acquire(&gate, 0, 0));
  }
  ASSERT_FALSE(valk_gate_acquire(&gate, 1, 1));
  ASSERT_FALSE(valk_gate_acquire(&gate, 2, 0));
  valk_gate_release(&gate);
  ASSERT_NOTIFIED(2u);
  ASSERT(valk_gate_acquire(&gate, 2, 0));
  valk_gate_release(&gate);
  ASSERT_NOBODY_NOTIFIED();
  valk_gate_release(&gate); /* free: 2 */
  ASSERT_NOTIFIED(1u);
  /* The grant is level 1's, whoever comes before it is used: what is left is one place. */
  ASSERT(valk_gate_acquire(&gate, 3, 0));
  ASSERT_FALSE(valk_gate_acquire(&gate, 3, 0));
  ASSERT(valk_gate_acquire(&gate, 1, 1));
  valk_gate_settle(&gate, 3, 0);
  release(3);
  ASSERT_NOBODY_NOTIFIED();
  valk_gate_deinit(&gate);
}

TEST(gate_level_1_is_served_however_level_0_comes_and_goes) {
  open_gate(4, 1);
  for (unsigned i = 0; i < 4; i++) {
    ASSERT(valk_gate_acquire(&gate, 0, 0));
  }
  ASSERT_FALSE(valk_gate_acquire(&gate, 1, 1));
  /* Level 0 keeps three or four places busy and never waits: each place that it gives back beyond
   * the reserve is level 1's. */
  for (unsigned i = 0; i < 10; i++) {
    valk_gate_release(&gate);
    ASSERT_NOBODY_NOTIFIED();
    ASSERT(valk_gate_acquire(&gate, 0, 0));
  }
  release(2);
  ASSERT_NOTIFIED(1u);
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  ASSERT_FALSE(valk_gate_try(&gate, 0, 0));
  ASSERT(valk_gate_acquire(&gate, 1, 1));
  release(4);
  valk_gate_deinit(&gate);
}

TEST(gate_consumer_that_waits_at_both_levels_has_two_turns) {
  open_gate(2, 1);
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  ASSERT_FALSE(valk_gate_acquire(&gate, 1, 1));
  ASSERT_FALSE(valk_gate_acquire(&gate, 1, 0));
  ASSERT_EQ(look().waiting, 2u);
  valk_gate_release(&gate);
  ASSERT_NOTIFIED(1u);
  /* The grant is level 0's: it does not serve level 1. */
  ASSERT_FALSE(valk_gate_acquire(&gate, 1, 1));
  ASSERT(valk_gate_acquire(&gate, 1, 0));
  valk_gate_release(&gate);
  ASSERT_NOBODY_NOTIFIED();
  valk_gate_release(&gate);
  ASSERT_NOTIFIED(1u);
  /* Level 0's turn is over: what it gets now is the free place, and level 1's grant stays. */
  ASSERT(valk_gate_acquire(&gate, 1, 0));
  ASSERT_FALSE(valk_gate_acquire(&gate, 1, 0));
  valk_gate_settle(&gate, 1, 0);
  ASSERT_NOBODY_NOTIFIED();
  ASSERT(valk_gate_acquire(&gate, 1, 1));
  release(2);
  valk_gate_deinit(&gate);
}

TEST(gate_settle_of_level_1_passes_its_grant_to_level_0) {
  open_gate(2, 1);
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  ASSERT_FALSE(valk_gate_acquire(&gate, 1, 1));
  release(2);
  ASSERT_NOTIFIED(1u);
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  ASSERT_FALSE(valk_gate_acquire(&gate, 2, 0));
  valk_gate_settle(&gate, 1, 1);
  ASSERT_NOTIFIED(2u);
  ASSERT(valk_gate_acquire(&gate, 2, 0));
  release(2);
  valk_gate_deinit(&gate);
}

TEST(gate_several_releases_serve_several_and_leave_the_rest_free) {
  open_gate(4, 0);
  for (unsigned i = 0; i < 4; i++) {
    ASSERT(valk_gate_acquire(&gate, 0, 0));
  }
  ASSERT_FALSE(valk_gate_acquire(&gate, 3, 0));
  ASSERT_FALSE(valk_gate_acquire(&gate, 1, 0));
  release(4);
  ASSERT_EQ(notified_count, 2u);
  ASSERT_EQ(notified[0], 3u);
  ASSERT_EQ(notified[1], 1u);
  ASSERT_EQ(look().in_use, 2u);
  /* The one thread has three that wait: its grant, and two places that nobody else waits for. */
  for (unsigned i = 0; i < 3; i++) {
    ASSERT(valk_gate_acquire(&gate, 1, 0));
  }
  ASSERT_FALSE(valk_gate_acquire(&gate, 1, 0));
  ASSERT(valk_gate_acquire(&gate, 3, 0));
  ASSERT_EQ(look().in_use, 4u);
  valk_gate_settle(&gate, 1, 0);
  release(4);
  valk_gate_deinit(&gate);
}

TEST(gate_overflow_passes_the_capacity_up_to_its_limit) {
  open_gate(2, 0);
  ASSERT(valk_gate_overflow(&gate, 4)); /* below the capacity, too */
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  ASSERT(valk_gate_overflow(&gate, 4));
  ASSERT(valk_gate_overflow(&gate, 4));
  ASSERT_FALSE(valk_gate_overflow(&gate, 4));
  ASSERT_EQ(look().in_use, 4u);
  ASSERT_EQ(look().high_water, 4u);
  ASSERT_FALSE(valk_gate_acquire(&gate, 1, 0));
  /* Nothing is granted until fewer than the capacity are in use ... */
  release(2);
  ASSERT_NOBODY_NOTIFIED();
  ASSERT_EQ(look().in_use, 2u);
  /* ... and nobody gets an overflow before the one who waits. */
  ASSERT_FALSE(valk_gate_overflow(&gate, 4));
  valk_gate_release(&gate);
  ASSERT_NOTIFIED(1u);
  ASSERT(valk_gate_overflow(&gate, 4));
  ASSERT(valk_gate_acquire(&gate, 1, 0));
  ASSERT_EQ(look().in_use, 3u);
  release(3);
  valk_gate_deinit(&gate);
}

TEST(gate_refusal_limits_the_places_until_it_is_lifted) {
  open_gate(4, 0);
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  ASSERT(valk_gate_acquire(&gate, 1, 0));
  valk__gate_refuse(&gate, 1, 0, true, 2);
  ASSERT_EQ(look().in_use, 2u);
  ASSERT_EQ(look().waiting, 1u);
  ASSERT_EQ(look().times_full, 1u);
  ASSERT_FALSE(valk_gate_try(&gate, 2, 0));
  ASSERT_FALSE(valk_gate_acquire(&gate, 2, 0));
  /* A place that is given back goes to the one that was refused. */
  valk_gate_release(&gate);
  ASSERT_NOTIFIED(1u);
  ASSERT(valk_gate_acquire(&gate, 1, 0));
  /* When nothing is given back: the lift. */
  valk__gate_lift(&gate);
  ASSERT_NOTIFIED(2u);
  ASSERT(valk_gate_acquire(&gate, 2, 0));
  ASSERT(valk_gate_acquire(&gate, 2, 0));
  ASSERT_FALSE(valk_gate_try(&gate, 2, 0));
  release(4);
  valk_gate_deinit(&gate);
}

TEST(gate_refused_consumer_goes_to_the_front) {
  open_gate(4, 0);
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  ASSERT(valk_gate_acquire(&gate, 1, 0));
  ASSERT(valk_gate_acquire(&gate, 2, 0));
  valk__gate_refuse(&gate, 1, 0, true, 1);
  ASSERT_FALSE(valk_gate_acquire(&gate, 3, 0));
  valk__gate_refuse(&gate, 2, 0, true, 1);
  ASSERT_EQ(look().in_use, 1u);
  valk__gate_lift(&gate);
  ASSERT_EQ(notified_count, 3u);
  ASSERT_EQ(notified[0], 2u);
  ASSERT_EQ(notified[1], 1u);
  ASSERT_EQ(notified[2], 3u);
  valk_gate_settle(&gate, 1, 0);
  valk_gate_settle(&gate, 2, 0);
  valk_gate_settle(&gate, 3, 0);
  valk_gate_release(&gate);
  valk_gate_deinit(&gate);
}

/* Asks for a place from inside the notification and is refused again, as when memory still lacks.
 */
static void on_grant_refuse(void *data, uint32_t consumer) {
  (void) data;
  notified_count++;
  ASSERT(valk_gate_acquire(&gate, consumer, 0));
  valk__gate_refuse(&gate, consumer, 0, true, 0);
}

TEST(gate_lift_ends_when_all_are_refused_again) {
  ASSERT_OK(valk_gate_init(&gate, 4, 0, CONSUMERS, on_grant_refuse, NULL));
  ASSERT(valk_gate_acquire(&gate, 0, 0));
  valk__gate_refuse(&gate, 0, 0, true, 0);
  ASSERT_FALSE(valk_gate_acquire(&gate, 1, 0));
  valk__gate_lift(&gate);
  ASSERT_EQ(notified_count, 1u);
  ASSERT_EQ(look().in_use, 0u);
  ASSERT_EQ(look().waiting, 2u);
  valk__gate_lift(&gate);
  ASSERT_EQ(notified_count, 2u);
  valk_gate_settle(&gate, 0, 0);
  valk_gate_settle(&gate, 1, 0);
  valk_gate_deinit(&gate);
}

TEST(gate_reserve_shrinks_with_the_limit) {
  open_gate(100, 50);
  for (unsigned i = 0; i < 5; i++) {
    ASSERT(valk_gate_acquire(&gate, 0, 0));
  }
  valk__gate_refuse(&gate, 0, 0, false, 4);
  ASSERT_FALSE(valk_gate_acquire(&gate, 1, 1));
  release(2); /* free: 2 of 4, the reserve */
  ASSERT_NOBODY_NOTIFIED();
  valk_gate_release(&gate);
  ASSERT_NOTIFIED(1u);
  ASSERT(valk_gate_acquire(&gate, 1, 1));
  release(2);
  valk_gate_deinit(&gate);
}

#if defined(VALK_FAULTS) && VALK_FAULTS
TEST(gate_init_without_memory_fails) {
  valk__fault_arm(VALK_FAULT_MALLOC, 1, false, 0);
  ASSERT_EQ(valk_gate_init(&gate, 2, 0, CONSUMERS, on_grant, &gate), VALK_ENOMEM);
}
#endif
