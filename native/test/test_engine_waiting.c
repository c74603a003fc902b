/* Small bodies, which lie in blocks of their own: those that were whole before there was an arena,
 * and those that said how small they are. They stay until their handler has settled or its client
 * has left. */
#include "support/client.h"
#include "support/rig.h"
#include "test.h"

static rig_t rig;

/* Two arenas, one of which a body that does not come takes. */
static void begin(client_t *client) {
  valk_config_t config = rig_config();
  config.arena_pool_size = 2;
  config.queue_timeout_ms = 20000;
  config.min_body_rate = 0;
  rig_start(&rig, &config, NULL);
  atomic_store(&rig.claims, true);
  ASSERT(client_open(client, rig.port, NULL));
  size_t slow = client_request(client, "POST", "/hold", NULL, 100);
  client->streams[slow].hold = true;
  client_pump(client, 0);
  RIG_UNTIL((client_pump(client, 1), rig_stats(&rig).arenas.in_use == 1));
}

/* A request that has no place among bodies, and gets the other arena when its body has come. */
static size_t hold_one(client_t *client, size_t length) {
  size_t stream = client_request(client, "POST", "/hold", NULL, (int64_t) length);
  client_pump(client, 0);
  RIG_UNTIL((client_pump(client, 1), rig_held_now(&rig) == 1));
  ASSERT_EQ(rig_stats(&rig).arenas.in_use, 2);
  return stream;
}

TEST(they_arrive_whole) {
  client_t client;
  begin(&client);
  static const size_t lengths[] = {1, 1024, 5000, 8192};
  for (int i = 0; i < 4; i++) {
    size_t stream = client_request(&client, "POST", "/echo", NULL, (int64_t) lengths[i]);
    ASSERT(client_wait(&client, stream, 10000));
    ASSERT_EQ(client.streams[stream].status, 200);
    ASSERT_EQ(client.streams[stream].received, lengths[i]);
    ASSERT_EQ(client.streams[stream].checksum, client_pattern_checksum(lengths[i]));
  }
  /* Many at a time, which wait for one another. */
  size_t first = client.stream_count;
  for (int i = 0; i < 20; i++)
    client_request(&client, "POST", "/echo", NULL, 3000);
  for (size_t i = first; i < first + 20; i++) {
    ASSERT(client_wait(&client, i, 10000));
    ASSERT_EQ(client.streams[i].status, 200);
    ASSERT_EQ(client.streams[i].checksum, client_pattern_checksum(3000));
  }
  rig_release(&rig);
  client_release(&client, 0);
  ASSERT(client_wait_all(&client, 10000));
  client_close(&client);
  rig_stop(&rig);
}

TEST(they_go_when_the_client_has_left) {
  for (int way = 0; way < 4; way++) {
    client_t client;
    begin(&client);
    size_t stream = hold_one(&client, 5000);
    /* A handler that reads the body just now gives it up a little later. */
    bool pinned = way % 2 == 1;
    atomic_store(&rig.keep_pinned, pinned);
    if (way < 2) {
      client_reset(&client, stream, 8);
      client_pump(&client, 0);
    } else {
      client_vanish(&client, true);
    }
    RIG_UNTIL(rig.aborts == 1);
    ASSERT_GE(rig_stats(&rig).arenas.in_use, 1);
    atomic_store(&rig.unpin, pinned);
    rig_release(&rig);
    if (way < 2)
      client_release(&client, 0);
    RIG_UNTIL(((way < 2 ? client_pump(&client, 1) : (void) 0), rig_stats(&rig).arenas.in_use == 0));
    if (way < 2)
      client_close(&client);
    rig_stop(&rig);
    atomic_store(&rig.keep_pinned, false);
    atomic_store(&rig.unpin, false);
  }
}

TEST(announced_ones_need_no_wait) {
  valk_config_t config = rig_config();
  rig_start(&rig, &config, NULL);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  /* The last one is too long for a block. */
  static const char *const announced[] = {"1", "1024", "8192", "8193"};
  for (int i = 0; i < 4; i++) {
    const char *const fields[] = {"content-length", announced[i], NULL};
    size_t stream = client_request(&client, "POST", "/echo", fields, atoi(announced[i]));
    ASSERT(client_wait(&client, stream, 10000));
    ASSERT_EQ(client.streams[stream].status, 200);
    ASSERT_EQ(client.streams[stream].received, (size_t) atoi(announced[i]));
    ASSERT_EQ(client.streams[stream].checksum,
              client_pattern_checksum(client.streams[stream].received));
  }
  /* More than was announced, and a client that leaves in the middle. */
  const char *const fields[] = {"content-length", "1000", NULL};
  size_t longer = client_request(&client, "POST", "/echo", fields, 1001);
  ASSERT(client_wait(&client, longer, 10000));
  ASSERT_EQ(client.streams[longer].status, 0);
  ASSERT_EQ(client.streams[longer].error, 1);
  size_t left = client_request(&client, "POST", "/echo", fields, 1000);
  client.streams[left].hold = true;
  client_pump(&client, 0);
  RIG_UNTIL((client_pump(&client, 1), rig_stats(&rig).arenas.in_use == 1));
  client_reset(&client, left, 8);
  RIG_UNTIL((client_pump(&client, 1), rig_stats(&rig).arenas.in_use == 0));
  client_close(&client);
  rig_stop(&rig);
}

TEST(they_wait_for_the_queue_too) {
  client_t client;
  begin(&client);
  atomic_store(&rig.full, true);
  size_t stream = client_request(&client, "POST", "/echo", NULL, 3000);
  client_pump(&client, 0);
  RIG_UNTIL((client_pump(&client, 1), rig_stats(&rig).arenas.in_use == 2));
  atomic_store(&rig.full, false);
  valk_system_wake(rig.system, 0);
  ASSERT(client_wait(&client, stream, 10000));
  ASSERT_EQ(client.streams[stream].status, 200);
  ASSERT_EQ(client.streams[stream].checksum, client_pattern_checksum(3000));
  client_reset(&client, 0, 8);
  client_close(&client);
  rig_stop(&rig);
}
