/* Each system call of the engine fails, or is short, one at a time. Two runs for each kind: a whole
 * one, from the start to the stop, with nothing left behind; and one in which another connection is
 * open, which must feel nothing. */
#include <errno.h>

#include "../core/fault.h"
#include "support/client.h"
#include "support/rig.h"
#include "test.h"

enum { POINTS_MAX = 2000, BODY = 3000, ANSWER = 40000 };

typedef struct {
  const char *name;
  valk_fault_kind_t kind;
  int error;
  bool harmless;   /* the client that meets it gets its answers all the same */
  bool may_refuse; /* start and listen may fail */
} fault_t;

static const fault_t faults[] = {
    {"recv is early", VALK_FAULT_RECV, EAGAIN, true, false},
    {"recv is interrupted", VALK_FAULT_RECV, EINTR, true, false},
    {"recv finds no memory", VALK_FAULT_RECV, ENOMEM, true, false},
    {"recv finds a reset", VALK_FAULT_RECV, ECONNRESET, false, false},
    {"recv finds a dead route", VALK_FAULT_RECV, ETIMEDOUT, false, false},
    {"recv reads one byte", VALK_FAULT_RECV_SHORT, 0, true, false},
    {"send is early", VALK_FAULT_SEND, EAGAIN, true, false},
    {"send is interrupted", VALK_FAULT_SEND, EINTR, true, false},
    {"send finds no buffers", VALK_FAULT_SEND, ENOBUFS, true, false},
    {"send finds no memory", VALK_FAULT_SEND, ENOMEM, true, false},
    {"send finds a reset", VALK_FAULT_SEND, ECONNRESET, false, false},
    {"send finds a closed pipe", VALK_FAULT_SEND, EPIPE, false, false},
    {"send writes one byte", VALK_FAULT_SHORT, 0, true, false},
    {"accept is early", VALK_FAULT_ACCEPT, EAGAIN, true, false},
    {"accept is interrupted", VALK_FAULT_ACCEPT, EINTR, true, false},
    {"accept finds an aborted connection", VALK_FAULT_ACCEPT, ECONNABORTED, true, false},
    {"accept finds a broken protocol", VALK_FAULT_ACCEPT, EPROTO, true, false},
    {"accept finds no descriptor of the process", VALK_FAULT_ACCEPT, EMFILE, true, false},
    {"accept finds no descriptor of the system", VALK_FAULT_ACCEPT, ENFILE, true, false},
    {"accept finds no buffers", VALK_FAULT_ACCEPT, ENOBUFS, true, false},
    {"accept finds no memory", VALK_FAULT_ACCEPT, ENOMEM, true, false},
    {"a listener's socket cannot be made", VALK_FAULT_SOCKET, EADDRINUSE, true, true},
    {"a listener's socket finds no descriptor", VALK_FAULT_SOCKET, EMFILE, true, true},
    {"an option cannot be set or read", VALK_FAULT_OPTION, ENOBUFS, true, false},
    {"a socket cannot be polled", VALK_FAULT_POLL, ENOSPC, false, true},
    {"a lock cannot be made", VALK_FAULT_LOCK, EAGAIN, true, true},
    {"a thread cannot be started", VALK_FAULT_THREAD, EAGAIN, true, true},
    {"pages cannot be committed", VALK_FAULT_COMMIT, ENOMEM, false, true},
    {"pages cannot be given back", VALK_FAULT_CLEAN, EINVAL, true, false},
};
#define FAULT_COUNT (sizeof(faults) / sizeof(faults[0]))

static rig_t rig;

/* Tools that make a run slow test every third point. */
static uint64_t stride(void) {
  return getenv("FAULT_STEP") != NULL ? 3 : 1;
}

static valk_config_t config_of_two_threads(void) {
  valk_config_t config = rig_config();
  config.io_threads = 2;
  config.arena_size = 1u << 20;
  config.idle_timeout_ms = config.handshake_timeout_ms = 600000;
  return config;
}

static void with_health(valk_server_options_t *options) {
  options->live_path = "/livez";
  options->health_listener = true;
}

/* The whole way of a client. True when all was answered in full; the end of its connection is the
 * only other way in which it may end. */
static bool meet(uint16_t port) {
  client_t client;
  if (!client_open(&client, port, NULL)) {
    client_close(&client);
    return false;
  }
  size_t echo = client_request(&client, "POST", "/echo", NULL, BODY);
  char path[32];
  snprintf(path, sizeof(path), "/big/%d", ANSWER);
  size_t big = client_request(&client, "GET", path, NULL, -1);
  ASSERT(client_wait_all(&client, 30000) || client.eof || client.failed);
  bool whole = client.streams[echo].status == 200 && client.streams[big].status == 200 &&
               client.streams[echo].checksum == client_pattern_checksum(BODY) &&
               client.streams[big].checksum == client_pattern_checksum(ANSWER);
  client_close(&client);
  return whole;
}

/* ---- from start to stop ---- */

static bool whole_run(const fault_t *fault, uint64_t nth) {
  valk_config_t config = config_of_two_threads();
  char error[256] = "";
  valk__fault_arm(fault->kind, nth, false, fault->error);
  int status = rig_try_start(&rig, &config, with_health, error, sizeof(error));
  if (status != 0) {
    ASSERT_MSG(fault->may_refuse, "%s, %d: %s", fault->name, (int) nth, error);
    ASSERT_LT(status, 0);
    ASSERT_NE(error[0], '\0');
    ASSERT_GE(valk__fault_count(fault->kind), nth);
  } else {
    if (!meet(rig.port)) {
      ASSERT_MSG(!fault->harmless, "%s, %d: no answer", fault->name, (int) nth);
      ASSERT_GE(valk__fault_count(fault->kind), nth);
      ASSERT(meet(rig.port)); /* it was that one alone */
    }
    rig_stop(&rig);
  }
  bool met = valk__fault_count(fault->kind) >= nth;
  valk__fault_arm(fault->kind, 0, false, 0);
  return met;
}

TEST(a_whole_run_survives_each_fault) {
  whole_run(&faults[0], 0); /* what is made lazily is made */
  int fds = test_count_fds();
  int threads = test_count_threads();
  for (size_t i = 0; i < FAULT_COUNT; i++) {
    uint64_t nth = 1;
    while (nth < POINTS_MAX && whole_run(&faults[i], nth)) {
      ASSERT_EQ(test_count_fds(), fds);
      RIG_UNTIL(test_count_threads() == threads);
      nth += stride();
    }
    ASSERT_GT(nth, 1);
    printf("# %s: %d points\n", faults[i].name, (int) nth - 1);
  }
}

/* ---- beside another connection ---- */

static void ask(client_t *bystander) {
  size_t stream = client_request(bystander, "GET", "/hello", NULL, -1);
  ASSERT(client_wait(bystander, stream, 30000));
  ASSERT_EQ(bystander->streams[stream].status, 200);
  ASSERT_STR_EQ(bystander->streams[stream].text, "Hello, world!\n");
  /* Its socket is quiet when the next fault is armed: the answer to this is the last that moves. */
  unsigned acks = bystander->ping_acks;
  client_ping(bystander);
  RIG_UNTIL((client_pump(bystander, 10), bystander->ping_acks > acks));
}

static void is_alone(void) {
  RIG_UNTIL(rig_stats(&rig).connection.active == 1 && rig_stats(&rig).connections.in_use == 1);
}

TEST(another_connection_feels_no_fault) {
  valk_config_t config = config_of_two_threads();
  rig_start(&rig, &config, with_health);
  client_t bystander;
  ASSERT(client_open(&bystander, rig.port, NULL));
  ask(&bystander);
  ASSERT(meet(rig.port));
  is_alone();
  for (size_t i = 0; i < FAULT_COUNT; i++) {
    const fault_t *fault = &faults[i];
    uint64_t nth = 1;
    for (bool met = true; met && nth < POINTS_MAX; nth += stride()) {
      valk__fault_arm(fault->kind, nth, false, fault->error);
      bool answered = meet(rig.port);
      is_alone();
      met = valk__fault_count(fault->kind) >= nth;
      valk__fault_arm(fault->kind, 0, false, 0);
      ASSERT_MSG(answered || (met && !fault->harmless), "%s, %d", fault->name, (int) nth);
      ask(&bystander);
    }
  }
  client_close(&bystander);
  rig_stop(&rig);
}

/* ---- all at once, byte by byte ---- */

TEST(all_receives_and_sends_are_of_one_byte) {
  valk_config_t config = config_of_two_threads();
  rig_start(&rig, &config, with_health);
  valk__fault_arm(VALK_FAULT_RECV_SHORT, 1, true, 0);
  valk__fault_arm(VALK_FAULT_SHORT, 1, true, 0);
  ASSERT(meet(rig.port));
  ASSERT_GT(valk__fault_count(VALK_FAULT_RECV_SHORT), BODY);
  ASSERT_GT(valk__fault_count(VALK_FAULT_SHORT), ANSWER);
  valk__fault_arm(VALK_FAULT_RECV_SHORT, 0, false, 0);
  valk__fault_arm(VALK_FAULT_SHORT, 0, false, 0);
  rig_stop(&rig);
}

/* ---- what is called at all ---- */

/* The server's first flight is one send; its ticket and its SETTINGS are another. The poller is
 * told of the socket once. */
TEST(a_handshake_is_two_sends_and_polls_once) {
  enum { CLIENTS = 4 };
  valk_config_t config = rig_config();
  rig_start(&rig, &config, NULL);
  valk__fault_arm(VALK_FAULT_SEND, 0, false, 0);
  valk__fault_arm(VALK_FAULT_POLL, 0, false, 0);
  client_t clients[CLIENTS];
  for (int i = 0; i < CLIENTS; i++)
    ASSERT(client_open(&clients[i], rig.port, NULL));
  /* One thread serves them in turn: of all but the last everything has been said. */
  uint64_t sends = valk__fault_count(VALK_FAULT_SEND);
  ASSERT_GE(sends, 2 * CLIENTS - 1);
  ASSERT_LE(sends, 2 * CLIENTS);
  ASSERT_EQ(valk__fault_count(VALK_FAULT_POLL), CLIENTS); /* each begins once */
  for (int i = 0; i < CLIENTS; i++)
    client_close(&clients[i]);
  rig_stop(&rig);
}

/* What decoding takes for a moment must not count against the request that it decodes: the
 * connection has nothing else. */
TEST(a_large_head_is_taken_in_whatever_pieces_it_comes) {
  valk_config_t config = rig_config();
  config.connection_heap_size = 256 << 10;
  rig_start(&rig, &config, NULL);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  static char value[30001];
  memset(value, 'x', sizeof(value) - 1);
  const char *const fields[] = {"x-large", value, NULL};
  for (int pieces = 0; pieces < 2; pieces++) {
    valk__fault_arm(VALK_FAULT_RECV_SHORT, pieces, true, 0);
    size_t stream = client_request(&client, "GET", "/hello", fields, -1);
    ASSERT(client_wait(&client, stream, 30000));
    ASSERT_EQ(client.streams[stream].status, 200);
  }
  ASSERT_GT(valk__fault_count(VALK_FAULT_RECV_SHORT), 20000);
  valk__fault_arm(VALK_FAULT_RECV_SHORT, 0, false, 0);
  client_close(&client);
  rig_stop(&rig);
}
