/* Turns at the arenas: one request each among connections that have waited, many in a row among
 * those that have just come. And those whose requests were refused, which can wait to be read. */
#include <uv.h>

#include "../core/annotate.h"
#include "../core/fault.h"
#include "../core/internal.h"
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

/* One connection has all arenas, another nothing yet. */
static void take_all_arenas(valk_config_t *config, bool claims) {
  config->arena_pool_size = ARENAS;
  rig_start(&rig, config, NULL);
  atomic_store(&rig.claims, claims);
  ASSERT(client_open(&holder, rig.port, NULL));
  ASSERT(client_open(&first, rig.port, NULL));
  for (size_t count = 0; count < ARENAS; count++)
    client_request(&holder, "GET", "/hold", NULL, -1);
  client_pump(&holder, 0);
  ASSERT(rig_wait_held(&rig, ARENAS));
}

/* One connection has all arenas, another requests that wait, a third has more of them behind those.
 * Then the arenas become free at once. */
static void free_all_arenas(uint64_t waited_ms) {
  valk_config_t config = rig_config();
  config.queue_timeout_ms = 600000;
  take_all_arenas(&config, false);
  ASSERT(client_open(&second, rig.port, NULL));
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

/* Connections that do not end the thread's sleep while it is patient. */
static unsigned that_can_wait(void) {
  char path[64], line[256];
  snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", rig.system->threads[0].poller.inner);
  FILE *file = fopen(path, "r");
  ASSERT_NOT_NULL(file);
  unsigned count = 0;
  while (fgets(line, sizeof(line), file) != NULL)
    count += strncmp(line, "tfd:", 4) == 0;
  fclose(file);
  return count;
}

TEST(connections_with_refused_requests_can_wait_as_long_as_there_are_refusals) {
  valk_config_t config = rig_config();
  config.queue_timeout_ms = 20;
  take_all_arenas(&config, true);
  ASSERT_EQ(that_can_wait(), 0u);
  for (unsigned round = 0; round < 5; round++) {
    size_t refused = client_request(&first, "GET", "/hello", NULL, -1);
    ASSERT(client_wait(&first, refused, 10000));
    ASSERT_EQ(first.streams[refused].status, 503);
    ASSERT_EQ(that_can_wait(), 1u);
  }
  rig_release(&rig);
  ASSERT(client_wait_all(&holder, 10000));
  ASSERT_EQ(that_can_wait(), 1u);
  size_t answered = client_request(&first, "GET", "/hello", NULL, -1);
  ASSERT(client_wait(&first, answered, 10000));
  ASSERT_EQ(first.streams[answered].status, 200);
  uv_sleep(300);
  answered = client_request(&first, "GET", "/hello", NULL, -1);
  ASSERT(client_wait(&first, answered, 10000));
  ASSERT_EQ(first.streams[answered].status, 200);
  ASSERT_EQ(that_can_wait(), 0u);
  client_close(&holder);
  client_close(&first);
  rig_stop(&rig);
}
