/* What an engine thread sleeps on. */
#include "test.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "../core/fault.h"
#include "../core/poller.h"

typedef struct {
  valk_poll_t poll;
  int peer;
  unsigned calls;
  unsigned ended;
} end_t;

static valk_poller_t poller;

static void on_ready(valk_poll_t *poll) {
  VALK_CONTAINER(poll, end_t, poll)->calls++;
}

static void on_closed(valk_poll_t *poll) {
  VALK_CONTAINER(poll, end_t, poll)->ended++;
}

static void open_end(end_t *end, bool level) {
  int pair[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
  *end = (end_t){.peer = pair[1], .poll = {.on_ready = on_ready, .on_closed = on_closed}};
  ASSERT_OK(valk__poll_open(&poller, &end->poll, pair[0], level));
}

static void close_end(end_t *end) {
  close(end->peer);
  valk__poll_close(&poller, &end->poll);
  ASSERT_EQ(end->ended, 0u);
  valk__poller_bury(&poller);
  ASSERT_EQ(end->ended, 1u);
}

/* One round that does not sleep. */
static void round_trip(void) {
  valk__poller_sleep(&poller, 0, false);
  valk__poller_call(&poller);
}

static void say(const end_t *end, const char *word) {
  ASSERT_EQ(write(end->peer, word, strlen(word)), (ssize_t) strlen(word));
}

TEST(poller_tells_once) {
  end_t end;
  char bytes[16];
  ASSERT_OK(valk__poller_init(&poller));
  open_end(&end, false);
  round_trip();
  ASSERT_EQ(end.calls, 1u); /* it may be written */
  ASSERT_EQ(end.poll.ready, 0u);
  say(&end, "one");
  round_trip();
  ASSERT_EQ(end.calls, 2u);
  ASSERT_EQ(end.poll.ready, (unsigned) VALK_POLL_READ);
  round_trip();
  ASSERT_EQ(end.calls, 2u); /* though nobody has read it */
  say(&end, "two");
  round_trip();
  ASSERT_EQ(end.calls, 3u);
  ASSERT_EQ(read(end.poll.fd, bytes, sizeof bytes), 6);
  shutdown(end.peer, SHUT_WR);
  round_trip();
  ASSERT_EQ(end.poll.ready, (unsigned) (VALK_POLL_READ | VALK_POLL_END));
  close_end(&end);
  valk__poller_deinit(&poller);
}

TEST(poller_calls_again_who_asks) {
  end_t end;
  ASSERT_OK(valk__poller_init(&poller));
  open_end(&end, false);
  round_trip();
  for (unsigned i = 2; i < 5; i++) {
    valk__poll_again(&poller, &end.poll);
    valk__poll_again(&poller, &end.poll);
    valk__poller_sleep(&poller, -1, false); /* does not */
    valk__poller_call(&poller);
    ASSERT_EQ(end.calls, i);
  }
  round_trip();
  ASSERT_EQ(end.calls, 4u);
  /* Not who has closed since. */
  valk__poll_again(&poller, &end.poll);
  close_end(&end);
  valk__poll_again(&poller, &end.poll);
  round_trip();
  ASSERT_EQ(end.calls, 4u);
  ASSERT_EQ(poller.count, 0u);
  valk__poller_deinit(&poller);
}

TEST(poller_tells_of_a_level_as_long_as_it_is_asked_to) {
  end_t end;
  ASSERT_OK(valk__poller_init(&poller));
  open_end(&end, true);
  say(&end, "one");
  round_trip();
  ASSERT_EQ(end.calls, 0u);
  ASSERT_OK(valk__poll_level(&poller, &end.poll, true));
  round_trip();
  round_trip();
  ASSERT_EQ(end.calls, 2u);
  ASSERT_OK(valk__poll_level(&poller, &end.poll, false));
  round_trip();
  ASSERT_EQ(end.calls, 2u);
  close_end(&end);
  valk__poller_deinit(&poller);
}

static end_t others[2];

static void close_the_other(valk_poll_t *poll) {
  end_t *end = VALK_CONTAINER(poll, end_t, poll);
  end_t *other = &others[end == &others[0]];
  end->calls++;
  if (end->calls == 1 && other->poll.on_ready != NULL)
    valk__poll_close(&poller, &other->poll);
}

/* Both are ready, and the first that is called closes the other. */
TEST(poller_calls_nobody_who_has_closed) {
  ASSERT_OK(valk__poller_init(&poller));
  for (int i = 0; i < 2; i++) {
    open_end(&others[i], false);
    others[i].poll.on_ready = close_the_other;
  }
  round_trip();
  ASSERT_EQ(others[0].calls + others[1].calls, 1u);
  ASSERT_EQ(poller.count, 2u);
  valk__poller_bury(&poller);
  ASSERT_EQ(others[0].ended + others[1].ended, 1u);
  ASSERT_EQ(poller.count, 1u);
  end_t *left = &others[others[0].ended];
  close(others[0].peer);
  close(others[1].peer);
  valk__poll_close(&poller, &left->poll);
  valk__poller_bury(&poller);
  valk__poller_deinit(&poller);
}

/* A patient round: the sleep ends by itself alone. */
static void patient_round(int sleep_ms) {
  uint64_t begin = uv_hrtime();
  valk__poller_sleep(&poller, sleep_ms, true);
  ASSERT_GE(uv_hrtime() - begin, (uint64_t) sleep_ms * 1000000);
  valk__poller_call(&poller);
}

TEST(poller_is_patient_with_those_that_can_wait) {
  end_t end, urgent;
  char bytes[16];
  ASSERT_OK(valk__poller_init(&poller));
  open_end(&end, false);
  open_end(&urgent, false);
  round_trip();
  valk__poll_can_wait(&poller, &end.poll);
  valk__poll_can_wait(&poller, &end.poll); /* once */
  ASSERT_TRUE(end.poll.can_wait);
  patient_round(0);
  unsigned calls = end.calls;
  /* It does not end the sleep, and is called after it. */
  say(&end, "one");
  patient_round(20);
  ASSERT_EQ(end.calls, calls + 1);
  ASSERT_EQ(read(end.poll.fd, bytes, sizeof bytes), 3);
  /* Another ends it for both. */
  say(&end, "two");
  say(&urgent, "two");
  valk__poller_sleep(&poller, -1, true);
  valk__poller_call(&poller);
  ASSERT_EQ(end.calls, calls + 2);
  ASSERT_EQ(urgent.calls, 2u);
  ASSERT_TRUE(end.poll.can_wait);
  /* A thread that is not patient is woken, and has it among the others again. */
  say(&end, "three");
  valk__poller_sleep(&poller, -1, false);
  valk__poller_call(&poller);
  ASSERT_EQ(end.calls, calls + 3);
  ASSERT_TRUE(!end.poll.can_wait);
  say(&end, "four");
  valk__poller_sleep(&poller, -1, true);
  valk__poller_call(&poller);
  ASSERT_GE(end.calls, calls + 4);
  /* One that has closed among those that can wait is told of no more. */
  valk__poll_can_wait(&poller, &end.poll);
  say(&end, "five");
  calls = end.calls;
  close_end(&end);
  patient_round(0);
  ASSERT_EQ(end.calls, calls);
  close_end(&urgent);
  valk__poller_deinit(&poller);
}

/* More than one round tells of. */
static end_t crowd[VALK_POLLER_EVENTS + 44];
#define CROWD (sizeof(crowd) / sizeof(crowd[0]))

static void open_crowd(void) {
  ASSERT_OK(valk__poller_init(&poller));
  for (size_t i = 0; i < CROWD; i++)
    open_end(&crowd[i], false);
  round_trip();
  round_trip();
}

static void close_crowd(void) {
  for (size_t i = 0; i < CROWD; i++)
    close_end(&crowd[i]);
}

static void say_to_crowd(void) {
  for (size_t i = 0; i < CROWD; i++)
    say(&crowd[i], "x");
}

static unsigned calls_of_crowd(void) {
  unsigned calls = 0;
  for (size_t i = 0; i < CROWD; i++)
    calls += crowd[i].calls;
  return calls;
}

TEST(poller_leaves_room_for_those_that_can_wait) {
  end_t end;
  open_crowd();
  open_end(&end, false);
  round_trip();
  for (int is_patient = 0; is_patient < 2; is_patient++) {
    valk__poll_can_wait(&poller, &end.poll);
    patient_round(0);
    ASSERT_TRUE(end.poll.can_wait);
    unsigned calls = end.calls, rounds = 0;
    for (say(&end, "one"); end.calls == calls; rounds++) {
      say_to_crowd();
      valk__poller_sleep(&poller, -1, is_patient);
      valk__poller_call(&poller);
      ASSERT_LT(rounds, 3u);
    }
  }
  close_end(&end);
  ASSERT_EQ(poller.inner_count, 0u);
  close_crowd();
  valk__poller_deinit(&poller);
}

TEST(poller_does_not_sleep_while_some_that_can_wait_had_no_room) {
  open_crowd();
  for (size_t i = 0; i < CROWD; i++)
    valk__poll_can_wait(&poller, &crowd[i].poll);
  for (bool first = true; first || valk__poller_has_more(&poller); first = false)
    patient_round(0);
  unsigned calls = calls_of_crowd();
  say_to_crowd();
  patient_round(0);
  ASSERT_EQ(calls_of_crowd(), calls + VALK_POLLER_EVENTS);
  ASSERT_TRUE(valk__poller_has_more(&poller));
  valk__poller_sleep(&poller, -1, true); /* does not */
  valk__poller_call(&poller);
  ASSERT_EQ(calls_of_crowd(), calls + CROWD);
  ASSERT_FALSE(valk__poller_has_more(&poller));
  close_crowd();
  valk__poller_deinit(&poller);
}

static void wake(void *argument) {
  (void) argument;
  valk__poller_wake(&poller);
}

TEST(poller_is_woken) {
  ASSERT_OK(valk__poller_init(&poller));
  for (int i = 0; i < 3; i++) {
    /* During the sleep or before it. */
    uv_thread_t thread;
    ASSERT_OK(uv_thread_create(&thread, wake, NULL));
    valk__poller_sleep(&poller, -1, false);
    valk__poller_call(&poller);
    ASSERT_OK(uv_thread_join(&thread));
  }
  valk__poller_deinit(&poller);
}

#if defined(VALK_FAULTS) && VALK_FAULTS
TEST(poller_without_descriptors_is_not_made) {
  for (uint64_t nth = 1; nth <= 4; nth++) {
    valk__fault_arm(VALK_FAULT_THREAD, nth, false, EMFILE);
    ASSERT_EQ(valk__poller_init(&poller), -EMFILE);
  }
  valk__fault_arm(VALK_FAULT_THREAD, 0, false, 0);
  ASSERT_OK(valk__poller_init(&poller));
  end_t end;
  open_end(&end, true);
  valk__fault_arm(VALK_FAULT_POLL, 1, true, ENOSPC);
  ASSERT_EQ(valk__poll_level(&poller, &end.poll, true), -ENOSPC);
  ASSERT_OK(valk__poll_level(&poller, &end.poll, false));
  valk_poll_t poll = {.on_ready = on_ready};
  ASSERT_EQ(valk__poll_open(&poller, &poll, end.peer, false), -ENOSPC);
  ASSERT_EQ(poller.count, 1u);
  valk__fault_arm(VALK_FAULT_POLL, 0, false, 0);
  close_end(&end);
  /* Who cannot change places is told of where it is. */
  open_end(&end, false);
  round_trip();
  for (unsigned waits = 0; waits < 2; waits++) {
    valk__fault_arm(VALK_FAULT_POLL, 1, true, ENOSPC);
    valk__poll_can_wait(&poller, &end.poll);
    say(&end, "one");
    unsigned calls = end.calls;
    round_trip();
    ASSERT_EQ(end.calls, calls + 1);
    ASSERT_EQ(end.poll.can_wait, waits == 1);
    valk__fault_arm(VALK_FAULT_POLL, 0, false, 0);
    valk__poll_can_wait(&poller, &end.poll);
    valk__poller_sleep(&poller, 0, true);
    valk__poller_call(&poller);
  }
  close_end(&end);
  valk__poller_deinit(&poller);
}
#endif
