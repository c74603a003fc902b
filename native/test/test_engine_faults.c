/* Faults injected into the running engine, one point at a time: the i-th allocation, page commit or
 * system call fails. After each: no crash, no hang, nothing left behind, and the next client is
 * served. The client that meets the fault runs in a process of its own, since OpenSSL's allocations
 * in this one are the engine's. */
#include "../core/fault.h"
#include "support/child.h"
#include "support/client.h"
#include "support/rig.h"
#include "test.h"

static rig_t rig;
/* What the client does; how it ends is not asserted: the server may have had to drop it. */
static void meet(uint16_t port) {
  client_t client;
  if (!client_open(&client, port, NULL)) {
    client_close(&client);
    return;
  }
  client_request(&client, "GET", "/hello", NULL, -1);
  client_request(&client, "POST", "/echo", NULL, 30000);
  client_request(&client, "GET", "/big/200000", NULL, -1);
  client_request(&client, "GET", "/trailers", NULL, -1);
  client_request(&client, "GET", "/robots.txt", NULL, -1);
  client_wait_all(&client, 20000);
  client_close(&client);
}

static void run_child(void) {
  child_meet(rig.port);
  ASSERT(child_done(true));
}

static void routes(valk_server_options_t *options) {
  static const valk_route_t route = {"/robots.txt", 200, "", 0, (const uint8_t *) "none\n", 5};
  options->routes = &route;
  options->route_count = 1;
}

/* Every point of |kind| that one client passes; every |step|-th of them. */
static void each(valk_fault_kind_t kind, int error, uint64_t step) {
  child_start(meet);
  valk_config_t config = rig_config();
  config.arena_size = 1u << 20;
  config.write_timeout_ms = 2000;
  rig_start(&rig, &config, routes);
  run_child(); /* once without faults: tables grown, lazily made things made */
  valk__fault_arm(kind, UINT64_MAX, false, error);
  run_child();
  uint64_t points = valk__fault_count(kind);
  ASSERT_GT(points, 0);
  for (uint64_t nth = 1; nth <= points; nth += step) {
    valk__fault_arm(kind, nth, false, error);
    run_child();
    valk__fault_arm(kind, 0, false, 0);
    if (nth % 16 == 1)
      rig_is_well(&rig);
  }
  rig_is_well(&rig);
  printf("# %llu points\n", (unsigned long long) points);
  rig_stop(&rig);
  child_end();
}

static uint64_t step(void) {
  const char *value = getenv("FAULT_STEP");
  return value != NULL ? strtoull(value, NULL, 10) : 1;
}

/* Under slow tools not each point: FAULT_STEP. */
TEST(each_allocation_fails) {
  each(VALK_FAULT_MALLOC, 0, step());
}
TEST(each_receive_fails) {
  each(VALK_FAULT_RECV, ECONNRESET, 1);
}
TEST(each_receive_is_early) {
  each(VALK_FAULT_RECV, EAGAIN, 1);
}
TEST(each_send_fails) {
  each(VALK_FAULT_SEND, EPIPE, 1);
}
TEST(each_send_finds_no_buffers) {
  each(VALK_FAULT_SEND, ENOBUFS, 1);
}
TEST(each_send_is_short) {
  each(VALK_FAULT_SHORT, 0, 1);
}
TEST(each_accept_is_aborted) {
  each(VALK_FAULT_ACCEPT, ECONNABORTED, 1);
}
TEST(each_accept_finds_no_descriptor) {
  each(VALK_FAULT_ACCEPT, EMFILE, 1);
}

TEST(all_sends_are_short) {
  child_start(meet);
  rig_start(&rig, NULL, routes);
  valk__fault_arm(VALK_FAULT_SHORT, 1, true, 0);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  size_t stream = client_request(&client, "POST", "/echo", NULL, 20000);
  ASSERT(client_wait(&client, stream, 20000));
  ASSERT_EQ(client.streams[stream].checksum, client_pattern_checksum(20000));
  valk__fault_arm(VALK_FAULT_SHORT, 0, false, 0);
  client_close(&client);
  rig_stop(&rig);
  child_end();
}

TEST(a_start_that_fails_leaves_nothing) {
  static const valk_fault_kind_t kinds[] = {VALK_FAULT_MALLOC, VALK_FAULT_COMMIT,
                                            VALK_FAULT_THREAD};
  valk_config_t config = rig_config();
  config.io_threads = 2;
  for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
    unsigned failures = 0;
    for (uint64_t nth = 1;; nth += step()) {
      valk_system_t *system = NULL;
      char error[256] = "";
      valk__fault_arm(kinds[i], nth, false, 0);
      int status = valk_system_start(&config, &system, error, sizeof(error));
      bool failed = valk__fault_count(kinds[i]) >= nth;
      valk__fault_arm(kinds[i], 0, false, 0);
      if (status == 0) {
        valk_system_free(system);
        if (!failed)
          break;
      } else {
        ASSERT_LT(status, 0);
        ASSERT_NE(error[0], '\0');
        failures++;
      }
    }
    ASSERT_GT(failures, 0);
  }
}

TEST(a_listen_that_fails_leaves_the_system_usable) {
  static const valk_fault_kind_t kinds[] = {VALK_FAULT_MALLOC, VALK_FAULT_SOCKET};
  rig_start(&rig, NULL, routes);
  for (size_t i = 0; i < 2; i++) {
    for (uint64_t nth = 1; nth < 5000; nth += step()) {
      valk_server_options_t options = {.host = "127.0.0.1",
                                       .key = rig_key(),
                                       .key_length = strlen(rig_key()),
                                       .certificate = rig_certificate(),
                                       .certificate_length = strlen(rig_certificate()),
                                       .consumer = &rig.consumer};
      routes(&options);
      valk_server_t *server = NULL;
      char error[256] = "";
      valk__fault_arm(kinds[i], nth, false, EADDRINUSE);
      int status = valk_server_listen(rig.system, &options, &server, error, sizeof(error));
      bool failed = valk__fault_count(kinds[i]) >= nth;
      valk__fault_arm(kinds[i], 0, false, 0);
      if (status == 0) {
        valk_server_close(server, 0, NULL, NULL);
        if (!failed)
          break;
      } else {
        ASSERT_LT(status, 0);
        ASSERT_NE(error[0], '\0');
      }
    }
  }
  rig_is_well(&rig);
  rig_stop(&rig);
}
