/* Traffic of every kind at once, at small pools, with clients that leave at any moment: whatever
 * happens, every request that a client waits for is answered or its stream ends, no pool passes its
 * size, and in the end all is given back.
 *
 * usage: stress_engine [--no-fork] ; STRESS_SECONDS (default 3), STRESS_CLIENTS (default 6) */
#include "support/client.h"
#include "support/rig.h"
#include "test.h"

static rig_t rig;
static atomic_bool stop_clients;
static atomic_uint answered, refused, vanished;

static uint32_t next_random(uint32_t *seed) {
  *seed ^= *seed << 13;
  *seed ^= *seed >> 17;
  *seed ^= *seed << 5;
  return *seed;
}

static void check(const client_t *client) {
  for (size_t i = 0; i < client->stream_count; i++) {
    const client_stream_t *stream = &client->streams[i];
    ASSERT(stream->closed);
    if (stream->status == 200 && stream->error == 0) {
      atomic_fetch_add(&answered, 1);
    } else {
      atomic_fetch_add(&refused, 1);
    }
  }
}

static void submit(client_t *client, uint32_t *seed) {
  static const char *const paths[] = {"/hello",    "/big/100000", "/lent/100000", "/echo",
                                      "/trailers", "/hold",       "/robots.txt",  "/missing"};
  const char *path = paths[next_random(seed) % 8];
  bool post = path[1] == 'e' || next_random(seed) % 4 == 0;
  client_request(client, post ? "POST" : "GET", path, NULL,
                 post ? (int64_t) (next_random(seed) % 60000) : -1);
}

static void run_client(void *argument) {
  uint32_t seed = (uint32_t) (uintptr_t) argument * 2654435761u + 1;
  while (!atomic_load(&stop_clients)) {
    client_t client;
    client_options_t options = {.window = next_random(&seed) % 2 ? 1 << 20 : 0};
    if (!client_open(&client, rig.port, &options)) {
      client_close(&client);
      continue;
    }
    for (unsigned round = next_random(&seed) % 4; round < 4; round++) {
      unsigned streams = 1 + next_random(&seed) % 20;
      for (unsigned i = 0; i < streams; i++)
        submit(&client, &seed);
      client_pump(&client, 0);
      if (next_random(&seed) % 5 == 0)
        client_reset(&client, client.stream_count - 1, 8);
      if (next_random(&seed) % 10 == 0)
        break;
      ASSERT(client_wait_all(&client, 60000) || client.eof || client.failed);
      if (client.eof || client.failed)
        break;
    }
    if (next_random(&seed) % 3 == 0) {
      atomic_fetch_add(&vanished, 1);
      client_vanish(&client, next_random(&seed) % 2);
    } else {
      if (!client.eof && !client.failed && client_wait_all(&client, 60000))
        check(&client);
      client_close(&client);
    }
  }
}

static void routes(valk_server_options_t *options) {
  static const valk_route_t route = {"/robots.txt", 200, "", 0, (const uint8_t *) "none\n", 5};
  options->routes = &route;
  options->route_count = 1;
}

static void stream_routes(valk_server_options_t *options) {
  routes(options);
  options->stream_bodies = true;
  options->data = &rig;
}

static unsigned setting(const char *name, unsigned otherwise) {
  const char *value = getenv(name);
  return value != NULL ? (unsigned) atoi(value) : otherwise;
}

static void storm(uint32_t threads, void (*prepare)(valk_server_options_t *options)) {
  valk_config_t config = rig_config();
  config.io_threads = threads;
  config.max_connections = 5; /* fewer than clients */
  config.max_concurrent_streams = 10;
  config.tcp_buffer_pool_size = 16;
  config.arena_pool_size = 6;
  config.arena_size = 1u << 20;
  config.queue_capacity = 16;
  config.queue_timeout_ms = 300;
  config.max_overflow_arenas = 1;
  rig_start(&rig, &config, prepare);
  atomic_store(&stop_clients, false);
  enum { MOST = 32 };
  uv_thread_t clients[MOST];
  unsigned count = setting("STRESS_CLIENTS", 6);
  ASSERT_LE(count, MOST);
  for (unsigned i = 0; i < count; i++)
    ASSERT_EQ(uv_thread_create(&clients[i], run_client, (void *) (uintptr_t) (i + 1)), 0);
  uint64_t end = client_clock_ms() + setting("STRESS_SECONDS", 3) * 1000;
  for (unsigned tick = 0; client_clock_ms() < end; tick++) {
    uv_sleep(20);
    atomic_store(&rig.claims, tick % 16 < 8);
    atomic_store(&rig.full, tick % 10 == 0);
    rig_release(&rig); /* wakes: answers what is held, tries again what found the queue full */
    rig_stats(&rig);
  }
  atomic_store(&rig.full, false);
  atomic_store(&stop_clients, true);
  for (unsigned i = 0; i < count; i++) {
    for (int wake = 0; wake < 3; wake++)
      rig_release(&rig);
    uv_thread_join(&clients[i]);
  }
  printf("# %u threads: %u answered, %u refused, %u vanished\n", threads, answered, refused,
         vanished);
  ASSERT_GT(answered, 0);
  rig_stop(&rig);
}

TEST(one_thread) {
  storm(1, routes);
}
TEST(three_threads) {
  storm(3, routes);
}
TEST(streams_on_two_threads) {
  storm(2, stream_routes);
}
