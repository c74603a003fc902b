/* The engine over real sockets: requests, bodies, answers, timeouts, stopping. */
#include <arpa/inet.h>
#include <sys/socket.h>

#include "support/client.h"
#include "support/rig.h"
#include "test.h"

static rig_t rig;

TEST(answers_a_request) {
  rig_start(&rig, NULL, NULL);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  size_t stream = client_request(&client, "GET", "/hello", NULL, -1);
  ASSERT(client_wait(&client, stream, 5000));
  ASSERT_EQ(client.streams[stream].status, 200);
  ASSERT_STR_EQ(client.streams[stream].text, "Hello, world!\n");
  stream = client_request(&client, "HEAD", "/hello", NULL, -1);
  ASSERT(client_wait(&client, stream, 5000));
  ASSERT_EQ(client.streams[stream].status, 200);
  ASSERT_EQ(client.streams[stream].received, 0);
  client_close(&client);
  rig_stop(&rig);
  ASSERT_EQ(rig.requests, 2);
  ASSERT_EQ(rig.ends, 2);
}

TEST(answers_many_streams_on_many_connections) {
  enum { CONNECTIONS = 10, STREAMS = 100, ROUNDS = 3 };
  rig_start(&rig, NULL, NULL);
  client_t clients[CONNECTIONS];
  for (int i = 0; i < CONNECTIONS; i++)
    ASSERT(client_open(&clients[i], rig.port, NULL));
  for (int round = 0; round < ROUNDS; round++) {
    for (int i = 0; i < CONNECTIONS; i++) {
      for (int j = 0; j < STREAMS; j++)
        client_request(&clients[i], "GET", "/hello", NULL, -1);
    }
    for (int i = 0; i < CONNECTIONS; i++)
      client_pump(&clients[i], 0);
    for (int i = 0; i < CONNECTIONS; i++)
      ASSERT(client_wait_all(&clients[i], 20000));
  }
  for (int i = 0; i < CONNECTIONS; i++) {
    for (size_t j = 0; j < clients[i].stream_count; j++)
      ASSERT_EQ(clients[i].streams[j].status, 200);
    client_close(&clients[i]);
  }
  rig_stop(&rig);
  ASSERT_EQ(rig.requests, CONNECTIONS * STREAMS * ROUNDS);
  ASSERT_EQ(rig.ends, rig.requests);
}

TEST(echoes_bodies_of_all_sizes) {
  static const int64_t sizes[] = {0,     1,     100,   8191,    8192,   8193,
                                  16384, 65535, 65536, 1 << 20, 8 << 20};
  rig_start(&rig, NULL, NULL);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
    size_t stream = client_request(&client, "POST", "/echo", NULL, sizes[i]);
    ASSERT(client_wait(&client, stream, 20000));
    ASSERT_EQ(client.streams[stream].status, 200);
    ASSERT_EQ(client.streams[stream].received, (size_t) sizes[i]);
    ASSERT_EQ(client.streams[stream].checksum, client_pattern_checksum((size_t) sizes[i]));
  }
  client_close(&client);
  rig_stop(&rig);
}

static void stream_mode(valk_server_options_t *options) {
  options->stream_bodies = true;
  options->data = &rig;
}

TEST(streams_bodies_through) {
  static const int64_t sizes[] = {0, 1, 8192, 8193, 65536, 1 << 20, 5 << 20};
  rig_start(&rig, NULL, stream_mode);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
    size_t stream = client_request(&client, "POST", "/echo", NULL, sizes[i]);
    ASSERT(client_wait(&client, stream, 20000));
    ASSERT_EQ(client.streams[stream].status, 200);
    ASSERT_EQ(client.streams[stream].received, (size_t) sizes[i]);
    ASSERT_EQ(client.streams[stream].checksum, client_pattern_checksum((size_t) sizes[i]));
  }
  ASSERT_EQ(rig_stats(&rig).arenas.in_use, 0);
  client_close(&client);
  rig_stop(&rig);
}

TEST(writes_large_answers) {
  rig_start(&rig, NULL, NULL);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  static const char *paths[] = {"/big/0",      "/big/1",      "/big/16375",   "/big/16376",
                                "/big/131072", "/big/131073", "/big/10485760"};
  static const size_t sizes[] = {0, 1, 16375, 16376, 131072, 131073, 10485760};
  for (int i = 0; i < 7; i++)
    client_request(&client, "GET", paths[i], NULL, -1);
  ASSERT(client_wait_all(&client, 20000));
  for (int i = 1; i < 7; i++) {
    ASSERT_EQ(client.streams[i].received, sizes[i]);
    ASSERT_EQ(client.streams[i].checksum, client_pattern_checksum(sizes[i]));
  }
  client_close(&client);
  rig_stop(&rig);
}

TEST(sends_trailers_and_refuses_bad_heads) {
  rig_start(&rig, NULL, NULL);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  size_t good = client_request(&client, "GET", "/trailers", NULL, -1);
  size_t bad = client_request(&client, "GET", "/bad", NULL, -1);
  ASSERT(client_wait_all(&client, 5000));
  ASSERT_STR_EQ(client.streams[good].text, "body");
  ASSERT_STR_EQ(client.streams[good].trailer, "end");
  ASSERT_EQ(client.streams[bad].status, 500);
  client_close(&client);
  rig_stop(&rig);
}

TEST(refuses_bodies_over_the_limit) {
  valk_config_t config = rig_config();
  config.max_request_body_size = 1000;
  rig_start(&rig, &config, NULL);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  static const char *const announced[] = {"content-length", "1001", NULL};
  size_t known = client_request(&client, "POST", "/echo", announced, 1001);
  size_t unknown = client_request(&client, "POST", "/echo", NULL, 5000);
  size_t fits = client_request(&client, "POST", "/echo", NULL, 1000);
  ASSERT(client_wait_all(&client, 5000));
  ASSERT_EQ(client.streams[known].status, 413);
  ASSERT_EQ(client.streams[unknown].status, 413);
  ASSERT_EQ(client.streams[fits].status, 200);
  valk_stats_t stats = rig_stats(&rig);
  ASSERT_EQ(stats.request.too_large_413.content_length, 1);
  ASSERT_EQ(stats.request.too_large_413.body, 1);
  client_close(&client);
  rig_stop(&rig);
}

TEST(waits_for_arenas_and_serves_all) {
  valk_config_t config = rig_config();
  config.arena_pool_size = 2;
  config.queue_timeout_ms = 20000;
  rig_start(&rig, &config, NULL);
  atomic_store(&rig.claims, true);
  client_t clients[2];
  for (int i = 0; i < 2; i++) {
    ASSERT(client_open(&clients[i], rig.port, NULL));
    for (int j = 0; j < 20; j++)
      client_request(&clients[i], j % 2 ? "POST" : "GET", "/hold", NULL, j % 2 ? 5000 : -1);
    client_pump(&clients[i], 0);
  }
  RIG_UNTIL((client_pump(&clients[0], 1), client_pump(&clients[1], 1),
             rig_stats(&rig).request.waiting >= 36));
  ASSERT_EQ(rig_stats(&rig).arenas.in_use, 2);
  /* Frames are read while requests wait. */
  client_ping(&clients[0]);
  RIG_UNTIL((client_pump(&clients[0], 1), clients[0].ping_acks == 1));
  rig_release(&rig);
  for (int i = 0; i < 2; i++) {
    ASSERT(client_wait_all(&clients[i], 20000));
    for (int j = 0; j < 20; j++)
      ASSERT_EQ(clients[i].streams[j].status, 200);
    client_close(&clients[i]);
  }
  ASSERT_GT(rig_stats(&rig).arenas.times_full, 0);
  rig_stop(&rig);
}

TEST(answers_503_after_the_queue_timeout) {
  valk_config_t config = rig_config();
  config.arena_pool_size = 1;
  config.queue_timeout_ms = 100;
  rig_start(&rig, &config, NULL);
  atomic_store(&rig.claims, true);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  size_t first = client_request(&client, "GET", "/hold", NULL, -1);
  client_pump(&client, 0);
  ASSERT(rig_wait_held(&rig, 1));
  size_t second = client_request(&client, "GET", "/hello", NULL, -1);
  ASSERT(client_wait(&client, second, 5000));
  ASSERT_EQ(client.streams[second].status, 503);
  ASSERT_STR_EQ(client.streams[second].text, "busy\n");
  ASSERT_GE(atoi(client.streams[second].retry_after), 1);
  ASSERT_LE(atoi(client.streams[second].retry_after), 30);
  rig_release(&rig);
  ASSERT(client_wait(&client, first, 5000));
  ASSERT_EQ(client.streams[first].status, 200);
  ASSERT_EQ(rig_stats(&rig).request.rejected_503.queue_timeout, 1);
  client_close(&client);
  rig_stop(&rig);
}

TEST(takes_back_what_was_not_called) {
  valk_config_t config = rig_config();
  config.queue_timeout_ms = 100;
  rig_start(&rig, &config, NULL);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  size_t stream = client_request(&client, "GET", "/hold", NULL, -1);
  ASSERT(client_wait(&client, stream, 5000));
  ASSERT_EQ(client.streams[stream].status, 503);
  ASSERT_EQ(rig.drops, 1);
  ASSERT_EQ(rig.ends, 0);
  stream = client_request(&client, "GET", "/hold", NULL, -1);
  client_pump(&client, 0);
  ASSERT(rig_wait_held(&rig, 1));
  client_reset(&client, stream, 8);
  ASSERT(client_wait(&client, stream, 5000));
  client_pump(&client, 0);
  RIG_UNTIL(rig.drops == 2);
  client_close(&client);
  rig_stop(&rig);
}

TEST(tries_again_when_the_queue_was_full) {
  valk_config_t config = rig_config();
  config.queue_timeout_ms = 10000;
  rig_start(&rig, &config, NULL);
  atomic_store(&rig.full, true);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  for (int i = 0; i < 10; i++)
    client_request(&client, "GET", "/hello", NULL, -1);
  client_pump(&client, 0);
  RIG_UNTIL((client_pump(&client, 1), rig_stats(&rig).request.waiting == 10));
  atomic_store(&rig.full, false);
  valk_system_wake(rig.system, 0);
  ASSERT(client_wait_all(&client, 5000));
  for (int i = 0; i < 10; i++)
    ASSERT_EQ(client.streams[i].status, 200);
  atomic_store(&rig.no_memory, true);
  size_t refused = client_request(&client, "GET", "/hello", NULL, -1);
  ASSERT(client_wait(&client, refused, 5000));
  ASSERT_EQ(client.streams[refused].status, 503);
  client_close(&client);
  rig_stop(&rig);
}

TEST(keeps_the_place_of_a_handler_whose_client_left) {
  valk_config_t config = rig_config();
  config.arena_pool_size = 4;
  rig_start(&rig, &config, NULL);
  atomic_store(&rig.claims, true);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  size_t stream = client_request(&client, "GET", "/hold", NULL, -1);
  client_pump(&client, 0);
  ASSERT(rig_wait_held(&rig, 1));
  client_reset(&client, stream, 8);
  client_pump(&client, 0);
  RIG_UNTIL(rig.aborts == 1);
  ASSERT_EQ(rig_stats(&rig).arenas.in_use, 1);
  atomic_store(&rig.keep_pinned, true);
  stream = client_request(&client, "GET", "/hold", NULL, -1);
  client_pump(&client, 0);
  ASSERT(rig_wait_held(&rig, 2));
  client_vanish(&client, true);
  RIG_UNTIL(rig.aborts == 2);
  ASSERT_EQ(rig_stats(&rig).arenas.in_use, 2);
  atomic_store(&rig.unpin, true);
  rig_release(&rig);
  RIG_UNTIL(rig_stats(&rig).arenas.in_use == 0);
  rig_stop(&rig);
  ASSERT_EQ(rig.ends, 2);
}

TEST(ends_handlers_that_take_too_long) {
  valk_config_t config = rig_config();
  config.handler_timeout_ms = 200;
  config.queue_timeout_ms = 50;
  rig_start(&rig, &config, NULL);
  atomic_store(&rig.claims, true);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  size_t stream = client_request(&client, "GET", "/never", NULL, -1);
  ASSERT(client_wait(&client, stream, 5000));
  ASSERT_EQ(client.streams[stream].status, 503);
  ASSERT_EQ(rig.aborts, 1);
  ASSERT_EQ(rig_stats(&rig).arenas.in_use, 0);
  ASSERT_EQ(rig_stats(&rig).request.rejected_503.handler_timeout, 1);
  client_close(&client);
  rig_release(&rig);
  rig_stop(&rig);
  ASSERT_EQ(rig.ends, 1);
}

TEST(accepts_as_places_become_free) {
  valk_config_t config = rig_config();
  config.max_connections = 2;
  rig_start(&rig, &config, NULL);
  client_t first, second;
  ASSERT(client_open(&first, rig.port, NULL));
  ASSERT(client_open(&second, rig.port, NULL));
  int third = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(rig.port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(connect(third, (struct sockaddr *) &address, sizeof(address)), 0);
  RIG_UNTIL(rig_stats(&rig).connection.waiting == 1);
  ASSERT_EQ(rig_stats(&rig).connection.accepted, 2);
  client_close(&first);
  RIG_UNTIL(rig_stats(&rig).connection.accepted == 3);
  ASSERT_EQ(rig_stats(&rig).connections.high_water, 2);
  close(third);
  client_close(&second);
  rig_stop(&rig);
}

TEST(refuses_clients_without_h2) {
  rig_start(&rig, NULL, NULL);
  client_t client;
  client_options_t http1 = {.alpn = "http/1.1"};
  ASSERT(!client_open(&client, rig.port, &http1));
  client_close(&client);
  client_options_t none = {.no_alpn = true};
  client_open(&client, rig.port, &none);
  ASSERT(client_wait_eof(&client, 5000));
  client_close(&client);
  int raw = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(rig.port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(connect(raw, (struct sockaddr *) &address, sizeof(address)), 0);
  ASSERT_EQ(write(raw, "GET / HTTP/1.1\r\n\r\n", 18), 18);
  char reply[256];
  while (read(raw, reply, sizeof(reply)) > 0) {
  }
  close(raw);
  ASSERT(client_open(&client, rig.port, NULL));
  size_t stream = client_request(&client, "GET", "/hello", NULL, -1);
  ASSERT(client_wait(&client, stream, 5000));
  client_close(&client);
  rig_stop(&rig);
}

TEST(times_out_handshakes_and_idle_connections) {
  valk_config_t config = rig_config();
  config.handshake_timeout_ms = 5000; /* a real handshake takes a while under slow tools */
  config.idle_timeout_ms = 300;
  rig_start(&rig, &config, NULL);
  int silent = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(rig.port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(connect(silent, (struct sockaddr *) &address, sizeof(address)), 0);
  char byte;
  ASSERT_EQ(read(silent, &byte, 1), 0);
  close(silent);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  ASSERT(client_wait_eof(&client, 5000));
  ASSERT(client.goaway);
  client_close(&client);
  RIG_UNTIL(rig_stats(&rig).connection.closed.idle_timeout == 1);
  ASSERT_EQ(rig_stats(&rig).connection.closed.handshake_timeout, 1);
  rig_stop(&rig);
}

static void with_routes(valk_server_options_t *options) {
  static const valk_route_t routes[] = {
      {"/robots.txt", 200, "content-type\ntext/plain\n", 24, (const uint8_t *) "none\n", 5},
      {"/a", 301, "location\n/b\n", 12, NULL, 0}};
  options->routes = routes;
  options->route_count = 2;
  options->live_path = "/livez";
  options->ready_path = "/readyz";
  options->js_stall_timeout_ms = 100;
}

TEST(answers_static_routes_and_health_without_an_arena) {
  valk_config_t config = rig_config();
  config.arena_pool_size = 1;
  rig_start(&rig, &config, with_routes);
  atomic_store(&rig.claims, true);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  client_request(&client, "GET", "/hold", NULL, -1);
  client_pump(&client, 0);
  ASSERT(rig_wait_held(&rig, 1));
  size_t robots = client_request(&client, "GET", "/robots.txt", NULL, -1);
  size_t query = client_request(&client, "GET", "/robots.txt?x=1", NULL, -1);
  size_t moved = client_request(&client, "HEAD", "/a", NULL, -1);
  size_t live = client_request(&client, "GET", "/livez", NULL, -1);
  size_t ready = client_request(&client, "GET", "/readyz", NULL, -1);
  size_t last[] = {robots, query, moved, live, ready};
  for (int i = 0; i < 5; i++)
    ASSERT(client_wait(&client, last[i], 5000));
  ASSERT_STR_EQ(client.streams[robots].text, "none\n");
  ASSERT_EQ(client.streams[query].status, 200);
  ASSERT_EQ(client.streams[moved].status, 301);
  ASSERT_EQ(client.streams[live].status, 200);
  ASSERT_EQ(client.streams[ready].status, 200);
  atomic_store(&rig.last_turn, 1);
  for (int i = 0; client.streams[live].status == 200; i++) {
    ASSERT_LT(i, 500);
    uv_sleep(10);
    live = client_request(&client, "GET", "/livez", NULL, -1);
    ASSERT(client_wait(&client, live, 5000));
  }
  ASSERT_EQ(client.streams[live].status, 503);
  rig_release(&rig);
  ASSERT(client_wait_all(&client, 5000));
  client_close(&client);
  rig_stop(&rig);
}

TEST(lets_requests_in_flight_finish_when_it_stops) {
  rig_start(&rig, NULL, NULL);
  atomic_store(&rig.claims, true);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  size_t stream = client_request(&client, "GET", "/hold", NULL, -1);
  client_pump(&client, 0);
  ASSERT(rig_wait_held(&rig, 1));
  valk_system_stop(rig.system, 10000, NULL, NULL);
  RIG_UNTIL((client_pump(&client, 1), client.goaway));
  rig_release(&rig);
  ASSERT(client_wait(&client, stream, 5000));
  ASSERT_EQ(client.streams[stream].status, 200);
  ASSERT(client_wait_eof(&client, 5000));
  client_close(&client);
  rig_stop(&rig);
}

TEST(ends_at_the_deadline) {
  rig_start(&rig, NULL, NULL);
  atomic_store(&rig.claims, true);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  client_request(&client, "GET", "/never", NULL, -1);
  client_pump(&client, 0);
  ASSERT(rig_wait_held(&rig, 1));
  valk_system_stop(rig.system, 200, NULL, NULL);
  ASSERT(client_wait_eof(&client, 5000));
  client_close(&client);
  rig_end(&rig);
}

TEST(ends_in_the_middle_of_everything) {
  for (int round = 0; round < 20; round++) {
    valk_config_t config = rig_config();
    config.io_threads = 1 + (uint32_t) round % 3;
    rig_start(&rig, &config, NULL);
    client_t clients[3];
    for (int i = 0; i < 3; i++) {
      ASSERT(client_open(&clients[i], rig.port, NULL));
      client_request(&clients[i], "GET", "/big/10000000", NULL, -1);
      client_request(&clients[i], "GET", "/never", NULL, -1);
      client_request(&clients[i], "POST", "/echo", NULL, 1000000);
      client_pump(&clients[i], 0);
      client_pump(&clients[i], 1);
    }
    rig_end(&rig);
    for (int i = 0; i < 3; i++)
      client_close(&clients[i]);
  }
}

static void remove_consumer(void *argument) {
  (void) argument;
  valk_system_remove_consumer(rig.system, &rig.consumer);
}

TEST(removes_a_consumer_with_its_requests) {
  rig_start(&rig, NULL, NULL);
  atomic_store(&rig.claims, true);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  size_t held = client_request(&client, "GET", "/hold", NULL, -1);
  size_t big = client_request(&client, "GET", "/big/100000000", NULL, -1);
  for (int i = 0; i < 500 && client.streams[big].status == 0; i++)
    client_pump(&client, 10);
  ASSERT_EQ(client.streams[big].status, 200);
  ASSERT(rig_wait_held(&rig, 1));
  rig_call(&rig, remove_consumer, NULL);
  ASSERT(client_wait(&client, held, 5000));
  ASSERT_EQ(client.streams[held].status, 503);
  ASSERT(client_wait(&client, big, 5000));
  ASSERT_NE(client.streams[big].error, 0);
  size_t late = client_request(&client, "GET", "/hello", NULL, -1);
  ASSERT(client_wait(&client, late, 5000));
  ASSERT_EQ(client.streams[late].status, 503);
  client_close(&client);
  rig_stop(&rig);
}

TEST(a_request_that_expects_it_is_told_to_continue) {
  rig_start(&rig, NULL, NULL);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  static const char *const fields[] = {"expect", "100-continue", NULL};
  size_t stream = client_request(&client, "POST", "/echo", fields, 1000);
  ASSERT(client_wait(&client, stream, 5000));
  ASSERT(client.streams[stream].interim);
  ASSERT_EQ(client.streams[stream].status, 200);
  ASSERT_EQ(rig_stats(&rig).request.informational, 1);
  ASSERT_EQ(rig_stats(&rig).request.success, 1);
  client_close(&client);
  rig_stop(&rig);
}
