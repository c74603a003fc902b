/* Turns at the arenas: one request each among connections that have waited, many in a row among
 * those that have just come. */
#include "../core/annotate.h"
#include "../core/fault.h"
#include "support/client.h"
#include "support/rig.h"
#include "test.h"

enum { ARENAS = 10, WAITING = 30, OTHERS = 5 };

static rig_t rig;
static client_t holder, first, second;

static void pump(void) {
  client_pump(&first, 1);
  client_pump(&second, 1);
}

static unsigned waiting(void) {
  return (unsigned) rig_stats(&rig).request.waiting;
}

/* One connection has all arenas, another requests that wait, a third has more of them behind those.
 * Then the arenas become free at once. */
static void free_all_arenas(uint64_t waited_ms) {
  valk_config_t config = rig_config();
  config.arena_pool_size = ARENAS;
  config.queue_timeout_ms = 600000;
  rig_start(&rig, &config, NULL);
  ASSERT(client_open(&holder, rig.port, NULL));
  ASSERT(client_open(&first, rig.port, NULL));
  ASSERT(client_open(&second, rig.port, NULL));
  for (size_t count = 0; count < ARENAS; count++)
    client_request(&holder, "GET", "/hold", NULL, -1);
  client_pump(&holder, 0);
  ASSERT(rig_wait_held(&rig, ARENAS));
  for (size_t count = 0; count < WAITING; count++)
    client_request(&first, "GET", "/hold", NULL, -1);
  RIG_UNTIL((pump(), waiting() == WAITING));
  for (size_t count = 0; count < OTHERS; count++)
    client_request(&second, "GET", "/hello", NULL, -1);
  RIG_UNTIL((pump(), waiting() == WAITING + OTHERS));
  valk__fault_clock(waited_ms, 0);
  client_vanish(&holder, true);
}

static void end(void) {
  rig_release(&rig);
  ASSERT(client_wait_all(&first, 30000));
  ASSERT(client_wait_all(&second, 30000));
  for (size_t index = 0; index < WAITING; index++)
    ASSERT_EQ(first.streams[index].status, 200);
  for (size_t index = 0; index < OTHERS; index++)
    ASSERT_EQ(second.streams[index].status, 200);
  client_close(&first);
  client_close(&second);
  rig_stop(&rig);
  valk__fault_clock(0, 0);
}

TEST(connections_that_have_waited_take_turns_request_by_request) {
  free_all_arenas(100);
  /* Between two of the first one's each of the second one's comes, is answered, and leaves. */
  RIG_UNTIL((pump(), rig_held_now(&rig) == ARENAS && waiting() == WAITING - ARENAS));
  end();
}

TEST(connections_that_have_just_come_have_long_turns) {
  /* On a machine that is busy or in valgrind what has just come may have waited already, and what
   * has not may do so in the midst of its turn: any number of the others then comes between. */
  bool seen = false;
  for (int round = 0; round < 20 && !seen; round++) {
    free_all_arenas(0);
    RIG_UNTIL((pump(), rig_held_now(&rig) == ARENAS && waiting() <= WAITING + OTHERS - ARENAS));
    seen = waiting() == WAITING + OTHERS - ARENAS;
    end();
  }
  ASSERT(seen || valk__on_valgrind());
}
