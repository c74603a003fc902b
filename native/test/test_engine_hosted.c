/* The engine's tests again, on a system without threads of its own. */
#include <poll.h>

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
