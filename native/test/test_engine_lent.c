/* Answers whose body is lent: all of it is sent, from where it is, and it is let go of once. */
#include "support/client.h"
#include "support/rig.h"
#include "test.h"

enum { LARGE = 3000000 };

static rig_t rig;

static unsigned released(void) {
  return atomic_load(&rig.released);
}

static void begin(client_t *client, const client_options_t *options) {
  valk_config_t config = rig_config();
  rig_start(&rig, &config, NULL);
  ASSERT(client_open(client, rig.port, options));
}

/* An answer that has begun, to a client whose window takes the beginning alone. */
static size_t begin_large(client_t *client) {
  begin(client, &(client_options_t){.manual_window = true});
  size_t stream = client_request(client, "GET", "/lent/3000000", NULL, -1);
  RIG_UNTIL((client_pump(client, 1), client->streams[stream].received > 0));
  return stream;
}

TEST(lent_bodies_are_sent_whole) {
  client_t client;
  begin(&client, NULL);
  static const uint32_t lengths[] = {1, 16384, 100000, LARGE};
  size_t streams[4];
  char path[32];
  for (int i = 0; i < 4; i++) {
    snprintf(path, sizeof(path), "/lent/%u", lengths[i]);
    streams[i] = client_request(&client, "GET", path, NULL, -1);
  }
  ASSERT(client_wait_all(&client, 20000));
  for (int i = 0; i < 4; i++) {
    ASSERT_EQ(client.streams[streams[i]].status, 200);
    ASSERT_EQ(client.streams[streams[i]].received, lengths[i]);
    ASSERT_EQ(client.streams[streams[i]].checksum, client_pattern_checksum(lengths[i]));
  }
  RIG_UNTIL(released() == 4);
  client_close(&client);
  rig_stop(&rig);
}

TEST(without_a_body_to_send_it_is_let_go_at_once) {
  client_t client;
  begin(&client, NULL);
  size_t head = client_request(&client, "HEAD", "/lent/100000", NULL, -1);
  size_t empty = client_request(&client, "GET", "/lent/0", NULL, -1);
  ASSERT(client_wait_all(&client, 20000));
  ASSERT_EQ(client.streams[head].status, 200);
  ASSERT_EQ(client.streams[head].received, 0);
  ASSERT_EQ(client.streams[empty].status, 200);
  RIG_UNTIL(released() == 2);
  client_close(&client);
  rig_stop(&rig);
}

TEST(a_client_that_resets_or_vanishes_half_way_costs_nothing) {
  for (int way = 0; way < 3; way++) {
    client_t client;
    size_t stream = begin_large(&client);
    ASSERT_EQ(released(), 0);
    if (way == 0) {
      client_reset(&client, stream, 8);
      client_pump(&client, 1);
    } else {
      client_vanish(&client, way == 2);
    }
    RIG_UNTIL(released() == 1);
    if (way == 0)
      client_close(&client);
    rig_stop(&rig);
  }
}

TEST(the_systems_end_lets_go_of_it) {
  client_t client;
  begin_large(&client);
  rig_end(&rig);
  ASSERT_EQ(released(), 1);
  client_close(&client);
}
