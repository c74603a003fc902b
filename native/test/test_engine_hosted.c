/* The engine's tests again, on a system without threads of its own. */
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../core/internal.h"
#include "test_engine.c"

__attribute__((constructor)) static void be_hosted(void) {
  rig_is_hosted = true;
}

TEST(a_system_with_threads_has_nothing_to_turn) {
  valk_config_t config = rig_config();
  config.io_threads = 2;
  rig_start(&rig, &config, NULL);
  ASSERT_EQ(valk_system_descriptor(rig.system), -1);
  rig_stop(&rig);
}

static bool is_due(const valk_system_t *system) {
  struct pollfd descriptor = {.fd = valk_system_descriptor(system), .events = POLLIN};
  return poll(&descriptor, 1, 0) == 1;
}

/* One ends, which takes turns inside of the call, and the other goes on. */
TEST(two_systems_take_turns_on_one_thread) {
  valk_config_t config = rig_config();
  char error[256] = "";
  valk_system_t *systems[2];
  for (int i = 0; i < 2; i++) {
    ASSERT_OK(valk_system_start(&config, &systems[i], error, sizeof(error)));
    ASSERT_GE(valk_system_descriptor(systems[i]), 0);
  }
  for (int i = 0; i < 10; i++) {
    for (int which = 0; which < 2; which++)
      ASSERT_LE(valk_system_turn(systems[which]), 250);
  }
  ASSERT_FALSE(is_due(systems[1]));
  valk_system_wake(systems[1], 0);
  ASSERT_TRUE(is_due(systems[1]));
  valk_system_free(systems[0]);
  ASSERT_LE(valk_system_turn(systems[1]), 250);
  valk_system_free(systems[1]);
}

typedef struct {
  valk_poll_t poll;
  valk_poller_t *poller;
  int peer, calls, wanted;
} end_t;

static void on_end_ready(valk_poll_t *poll) {
  end_t *end = VALK_CONTAINER(poll, end_t, poll);
  if (++end->calls < end->wanted)
    valk__poll_again(end->poller, poll);
}

static void on_end_closed(valk_poll_t *poll) {
  (void) poll; /* on a test's stack */
}

static valk_thread_t *open_system(valk_system_t **system, end_t *end) {
  valk_config_t config = rig_config();
  char error[256] = "";
  ASSERT_OK(valk_system_start(&config, system, error, sizeof(error)));
  valk_thread_t *thread = &(*system)->threads[0];
  int pair[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
  *end = (end_t){.poll = {.on_ready = on_end_ready, .on_closed = on_end_closed},
                 .poller = &thread->poller,
                 .peer = pair[1]};
  ASSERT_OK(valk__poll_open(&thread->poller, &end->poll, pair[0], false));
  while (is_due(*system))
    valk_system_turn(*system);
  return thread;
}

static void close_system(valk_system_t *system, end_t *end) {
  close(end->peer);
  valk__poll_close(end->poller, &end->poll);
  valk_system_free(system);
}

TEST(a_host_is_told_of_who_asked_to_be_called_again) {
  valk_system_t *system;
  end_t end;
  open_system(&system, &end);
  end.calls = 0;
  end.wanted = 4;
  ASSERT_EQ(write(end.peer, "x", 1), 1);
  for (int turn = 1; turn <= 4; turn++) {
    ASSERT_TRUE(is_due(system));
    ASSERT_GE(valk_system_turn(system), 1);
    ASSERT_EQ(end.calls, turn);
  }
  ASSERT_FALSE(is_due(system));
  close_system(system, &end);
}

TEST(a_host_is_told_of_those_that_can_wait_once_the_engine_is_patient_no_more) {
  valk_system_t *system;
  end_t end;
  valk_thread_t *thread = open_system(&system, &end);
  valk__poll_can_wait(&thread->poller, &end.poll);
  thread->patient_until_ms = UINT64_MAX;
  for (int i = 0; i < 3; i++)
    ASSERT_LE(valk_system_turn(system), 5);
  ASSERT_EQ(write(end.peer, "x", 1), 1);
  ASSERT_FALSE(is_due(system));
  int calls = end.calls;
  valk_system_turn(system);
  ASSERT_EQ(end.calls, calls + 1);
  /* It ends while the engine is turned. */
  thread->patient_until_ms = valk__now_ms(thread) + 10;
  uv_sleep(30);
  valk_system_turn(system);
  ASSERT_EQ(write(end.peer, "x", 1), 1);
  ASSERT_TRUE(is_due(system));
  valk_system_turn(system);
  ASSERT_EQ(end.calls, calls + 2);
  close_system(system, &end);
}

/* Turns that are taken inside of a call may leave something to do, or to wait for. */
TEST(a_host_is_told_that_a_call_has_taken_turns) {
  valk_system_t *system;
  end_t end;
  open_system(&system, &end);
  uv_sem_t done;
  ASSERT_OK(uv_sem_init(&done, 1));
  ASSERT_FALSE(is_due(system));
  valk__system_await(system, &done);
  ASSERT_TRUE(is_due(system));
  uv_sem_destroy(&done);
  close_system(system, &end);
}
