/* Clocks that jump: the monotonic one far ahead between two turns, as after a suspended machine;
 * the wall clock either way. Nothing hangs, each deadline fires once, each request has its end. */
#include <arpa/inet.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../core/internal.h"
#include "support/client.h"
#include "support/rig.h"
#include "test.h"

#define HOUR_MS 3600000ull

static rig_t rig;
static uint64_t ahead_ms;

static void jump(uint64_t ms) {
  ahead_ms += ms;
  valk__fault_clock(ahead_ms, 0);
}

static uint64_t clock_ms(void) {
  return uv_hrtime() / 1000000 + ahead_ms;
}

static void is_well(void) {
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  size_t stream = client_request(&client, "POST", "/echo", NULL, 30000);
  ASSERT(client_wait(&client, stream, 30000));
  ASSERT_EQ(client.streams[stream].status, 200);
  ASSERT_EQ(client.streams[stream].checksum, client_pattern_checksum(30000));
  client_close(&client);
}

static int connect_silently(void) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(rig.port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(connect(fd, (struct sockaddr *) &address, sizeof(address)), 0);
  return fd;
}

/* A connection of each kind that a deadline watches, then a jump over all deadlines at once. */
static void jump_over_all_deadlines(uint64_t ms) {
  valk_config_t config = rig_config();
  config.queue_timeout_ms = 50; /* then the engine learns that the handler has been called */
  /* None passes before the jump, however slow the machine, and each passes with it. */
  config.handshake_timeout_ms = config.idle_timeout_ms = config.body_timeout_ms = 1200000;
  config.write_timeout_ms = config.handler_timeout_ms = 1200000;
  config.min_body_rate = 0;
  rig_start(&rig, &config, NULL);
  atomic_store(&rig.claims, true);
  int silent = connect_silently();
  client_t idle, held, slow, stalled;
  ASSERT(client_open(&idle, rig.port, NULL));
  size_t greeting = client_request(&idle, "GET", "/hello", NULL, -1);
  ASSERT(client_wait(&idle, greeting, 30000));
  ASSERT(client_open(&held, rig.port, NULL));
  size_t holding = client_request(&held, "GET", "/hold", NULL, -1);
  ASSERT_FALSE(client_wait(&held, holding, 100));
  ASSERT(rig_wait_held(&rig, 1));
  ASSERT(client_open(&slow, rig.port, NULL));
  size_t sending = client_request(&slow, "POST", "/echo", NULL, 1000);
  slow.streams[sending].hold = true;
  ASSERT_FALSE(client_wait(&slow, sending, 100));
  ASSERT(client_open(&stalled, rig.port, &(client_options_t){.manual_window = true}));
  size_t reading = client_request(&stalled, "GET", "/big/1000000", NULL, -1);
  ASSERT_FALSE(client_wait(&stalled, reading, 100));
  RIG_UNTIL(rig_stats(&rig).connection.active == 5);
  uv_sleep(500);

  jump(ms);
  ASSERT(client_wait_eof(&idle, 30000));
  ASSERT(client_wait(&held, holding, 30000));
  ASSERT_EQ(held.streams[holding].status, 503);
  ASSERT(client_wait(&slow, sending, 30000));
  ASSERT_EQ(slow.streams[sending].status, 408);
  ASSERT(client_wait(&stalled, reading, 30000));
  ASSERT_NE(stalled.streams[reading].error, 0);
  char byte;
  ASSERT_EQ(recv(silent, &byte, 1, 0), 0);
  close(silent);
  is_well();

  /* Once each: a while later the counters say the same. */
  for (int i = 0; i < 2; i++) {
    valk_stats_t stats = rig_stats(&rig);
    ASSERT_EQ(stats.connection.closed.handshake_timeout, 1);
    ASSERT_EQ(stats.request.rejected_503.handler_timeout, 1);
    ASSERT_EQ(stats.request.timeouts_408, 1);
    ASSERT_EQ(stats.request.reset.write_timeout, 1);
    ASSERT_EQ(atomic_load(&rig.aborts), 2); /* the held one, and the one whose writing stalled */
    uv_sleep(600);
  }
  ASSERT_EQ(rig_stats(&rig).connection.closed.idle_timeout, 1);
  rig_release(&rig);
  client_close(&idle);
  client_close(&held);
  client_close(&slow);
  client_close(&stalled);
  rig_stop(&rig);
}

TEST(an_hour_passes_between_two_turns) {
  jump_over_all_deadlines(HOUR_MS);
}

TEST(a_month_passes_between_two_turns) {
  jump_over_all_deadlines(30 * 24 * HOUR_MS);
}

static valk_deadline_t deadlines[4 * VALK_EXPIRED_A_TURN];
static unsigned expired_count;

static void note_expired(valk_deadline_t *deadline) {
  ASSERT(deadline == &deadlines[expired_count]); /* oldest first */
  expired_count++;
}

/* A thread that never runs, at 1000 ms, with deadlines of one kind. */
static void init_deadlines(valk_thread_t *thread, uint64_t duration_ms) {
  for (int kind = 0; kind < VALK_DEADLINE_KINDS; kind++)
    valk__list_init(&thread->deadlines[kind].list);
  thread->now_ms = 1000;
  thread->timer_at_ms = UINT64_MAX;
  thread->deadlines[VALK_DEADLINE_QUEUE].duration_ms = duration_ms;
  thread->deadlines[VALK_DEADLINE_QUEUE].expired = note_expired;
  for (unsigned i = 0; i < 4 * VALK_EXPIRED_A_TURN; i++)
    valk__list_init(&deadlines[i].link);
  expired_count = 0;
}

TEST(many_deadlines_that_pass_together_take_several_turns) {
  static valk_thread_t thread;
  init_deadlines(&thread, 5);
  const unsigned late = 3 * VALK_EXPIRED_A_TURN - 10;
  for (unsigned i = 0; i < late; i++)
    valk__deadline_start(&thread, VALK_DEADLINE_QUEUE, &deadlines[i]);
  thread.now_ms = 1004;
  valk__deadlines_run(&thread);
  ASSERT_EQ(expired_count, 0);
  valk__deadline_start(&thread, VALK_DEADLINE_QUEUE, &deadlines[late]); /* in time */
  thread.now_ms = 1005;
  for (unsigned turn = 1; turn <= 4; turn++) {
    valk__deadlines_run(&thread);
    ASSERT_EQ(expired_count, turn < 3 ? turn * VALK_EXPIRED_A_TURN : late);
    ASSERT_EQ(valk__deadlines_next(&thread), turn < 3 ? 1005 : 1009);
  }
}

TEST(deadlines_that_pass_soon_after_each_other_are_acted_upon_together) {
  static valk_thread_t thread;
  init_deadlines(&thread, 320);
  ASSERT_EQ(valk__deadlines_next(&thread), UINT64_MAX);
  for (unsigned i = 0; i < 20; i++) {
    thread.now_ms = 1000 + i;
    valk__deadline_start(&thread, VALK_DEADLINE_QUEUE, &deadlines[i]);
  }
  /* The first passes at 1320; ten milliseconds later ten more have. */
  ASSERT_EQ(thread.timer_at_ms, 1330);
  ASSERT_EQ(valk__deadlines_next(&thread), 1330);
  thread.now_ms = 1330;
  valk__deadlines_run(&thread);
  ASSERT_EQ(expired_count, 11);
  ASSERT_EQ(valk__deadlines_next(&thread), 1341);
}

TEST(a_deadline_is_late_by_a_bounded_time) {
  static valk_thread_t thread;
  init_deadlines(&thread, 600000);
  valk__deadline_start(&thread, VALK_DEADLINE_QUEUE, &deadlines[0]);
  ASSERT_EQ(thread.timer_at_ms, 601000 + VALK_LATE_MS);
  ASSERT_EQ(valk__deadlines_next(&thread), 601000 + VALK_LATE_MS);
}

TEST(each_request_ends_while_the_clock_keeps_jumping) {
  enum { ROUNDS = 20, STREAMS = 20 };
  valk_config_t config = rig_config();
  config.io_threads = 2;
  config.arena_pool_size = 4; /* some wait, and are told 503 */
  rig_start(&rig, &config, NULL);
  unsigned answered = 0;
  for (int round = 0; round < ROUNDS; round++) {
    client_t client;
    if (client_open(&client, rig.port, NULL)) {
      for (int i = 0; i < STREAMS; i++)
        client_request(&client, "POST", "/echo", NULL, 3000);
      client_pump(&client, 1);
      jump(round % 2 == 0 ? HOUR_MS : 24 * HOUR_MS);
      /* All have an end, or the connection has. */
      ASSERT(client_wait_all(&client, 30000) || client.eof || client.failed);
      for (int i = 0; i < STREAMS; i++) {
        int status = client.streams[i].status;
        ASSERT(status == 0 || status == 200 || status == 503 || status == 408);
        answered += status == 200;
      }
    }
    client_close(&client);
    is_well();
  }
  printf("# %u of %d answered\n", answered, ROUNDS * STREAMS);
  rig_stop(&rig);
}

TEST(a_stop_ends_when_its_deadline_is_jumped_over) {
  rig_start(&rig, NULL, NULL);
  atomic_store(&rig.claims, true);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  client_request(&client, "GET", "/hold", NULL, -1);
  client_pump(&client, 10);
  ASSERT(rig_wait_held(&rig, 1));
  valk_system_stop(rig.system, 10 * HOUR_MS, NULL, NULL);
  client_pump(&client, 300);
  ASSERT_EQ(rig_stats(&rig).connection.active, 1);
  jump(11 * HOUR_MS);
  ASSERT(client_wait_eof(&client, 30000));
  RIG_UNTIL(rig_stats(&rig).connection.active == 0);
  ASSERT_EQ(rig_stats(&rig).connection.closed.stopped, 1);
  rig_release(&rig);
  client_close(&client);
  rig_stop(&rig);
}

/* ---- health ---- */

static void with_health(valk_server_options_t *options) {
  options->live_path = "/livez";
  options->ready_path = "/readyz";
  options->js_stall_timeout_ms = 10000;
}

static int probe(const char *path) {
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  size_t stream = client_request(&client, "GET", path, NULL, -1);
  ASSERT(client_wait(&client, stream, 30000));
  int status = client.streams[stream].status;
  client_close(&client);
  return status;
}

TEST(health_holds_after_the_machine_stood_still) {
  rig_start(&rig, NULL, with_health);
  uv_sleep(600); /* two heartbeats: the engine knows when it last ran */
  atomic_store(&rig.last_turn, clock_ms());
  jump(HOUR_MS);
  uint64_t jumped = clock_ms();
  /* JavaScript's last turn is an hour old, and it has had no time to answer since. */
  ASSERT_EQ(probe("/livez"), 200);
  ASSERT_EQ(probe("/readyz"), 200);
  /* A process that truly hangs is still found, in the time that it always takes. */
  while (probe("/livez") == 200) {
    ASSERT_LT(clock_ms() - jumped, 60000);
    uv_sleep(100);
  }
  ASSERT_GE(clock_ms() - jumped, 10000);
  atomic_store(&rig.last_turn, clock_ms());
  ASSERT_EQ(probe("/livez"), 200);
  rig_stop(&rig);
}

/* ---- uploads ---- */

static void stream_mode(valk_server_options_t *options) {
  options->stream_bodies = true;
}

TEST(the_time_of_a_window_that_is_shut_is_not_the_peers) {
  valk_config_t config = rig_config();
  config.body_timeout_ms = 30000;
  config.min_body_rate = 0;
  rig_start(&rig, &config, stream_mode);
  atomic_store(&rig.claims, true);
  atomic_store(&rig.keeps_body, true);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  size_t stream = client_request(&client, "POST", "/hold", NULL, 1 << 20);
  /* As much as its window lets it, and what more the engine says by then. */
  for (size_t left = 0, rounds = 0; rounds < 3; rounds++) {
    unsigned acks = client.ping_acks;
    client_ping(&client);
    while (client.ping_acks == acks)
      client_pump(&client, 20);
    client_pump(&client, 20);
    if (client.streams[stream].send_left != left)
      rounds = 0;
    left = client.streams[stream].send_left;
  }
  RIG_UNTIL(atomic_load(&rig.kept_bytes) == (1u << 20) - client.streams[stream].send_left);
  ASSERT_GT(client.streams[stream].send_left, 0u);
  jump(29000);
  rig_consume(&rig);
  RIG_UNTIL(atomic_load(&rig.kept_bytes) == 0);
  jump(20000); /* 49 s since its last byte, 20 since it may send more */
  uv_sleep(300);
  rig_release(&rig);
  ASSERT(client_wait(&client, stream, 30000));
  ASSERT_EQ(client.streams[stream].status, 200);
  ASSERT_EQ(rig_stats(&rig).request.timeouts_408, 0);
  client_close(&client);
  rig_stop(&rig);
}

/* ---- answers ---- */

/* The first answer has the connection's socket for longer than either may stand still. */
TEST(an_answer_that_waits_for_others_of_its_connection_is_not_given_up) {
  enum { PIECE = 4 << 20, PIECES = 4 }; /* more than a socket holds */
  valk_config_t config = rig_config();
  config.write_timeout_ms = 10000;
  rig_start(&rig, &config, NULL);
  client_t client;
  client_options_t options = {.window = 1u << 30, .receive_buffer = 65536};
  ASSERT(client_open(&client, rig.port, &options));
  size_t first = client_request(&client, "GET", "/lent/16777216", NULL, -1);
  size_t second = client_request(&client, "GET", "/big/1000", NULL, -1);
  for (size_t pieces = 1; !client.streams[first].closed; client_pump(&client, 1)) {
    if (client.streams[first].received < pieces * PIECE || pieces == PIECES)
      continue;
    ASSERT_EQ(client.streams[second].received, 0u);
    pieces++;
    jump(6000);
    uv_sleep(300); /* a heartbeat looks */
  }
  ASSERT(client_wait_all(&client, 30000));
  ASSERT_EQ(client.streams[first].checksum, client_pattern_checksum(PIECES * PIECE));
  ASSERT_EQ(client.streams[second].checksum, client_pattern_checksum(1000));
  client_close(&client);
  /* Where nothing of a connection goes on, none of its answers does. */
  options = (client_options_t){.manual_window = true};
  ASSERT(client_open(&client, rig.port, &options));
  first = client_request(&client, "GET", "/big/300000", NULL, -1);
  second = client_request(&client, "GET", "/big/1000", NULL, -1);
  while (client.streams[first].received < 65535)
    client_pump(&client, 20);
  jump(12000);
  ASSERT(client_wait_all(&client, 30000));
  ASSERT_EQ(client.streams[second].error, NGHTTP2_CANCEL);
  ASSERT_EQ(rig_stats(&rig).request.reset.write_timeout, 2);
  client_close(&client);
  rig_stop(&rig);
}

static void with_little_patience(valk_server_options_t *options) {
  with_health(options);
  options->js_stall_timeout_ms = 500;
}

TEST(javascript_that_nobody_has_woken_does_not_stall) {
  rig_start(&rig, NULL, with_little_patience);
  atomic_store(&rig.answers_poke, true);
  atomic_store(&rig.last_turn, clock_ms());
  for (int i = 0; i < 5; i++) {
    uv_sleep(300); /* a heartbeat: what follows is no standstill */
    jump(1500);
    ASSERT_EQ(probe("/livez"), 200);
  }
  atomic_store(&rig.answers_poke, false);
  while (probe("/livez") == 200)
    uv_sleep(10);
  ASSERT_GT(clock_ms() - atomic_load(&rig.last_turn), 1500);
  atomic_store(&rig.answers_poke, true);
  RIG_UNTIL(probe("/livez") == 200);
  rig_stop(&rig);
}

/* ---- the date ---- */

/* Not time(), which lags behind by up to a tick: within the first one of a second it says the last.
 */
static int64_t wall_s(void) {
  struct timespec wall;
  ASSERT_OK(clock_gettime(CLOCK_REALTIME, &wall));
  return (int64_t) wall.tv_sec;
}

TEST(the_date_follows_the_wall_clock_both_ways) {
  static const int64_t offsets_s[] = {0, 86400, -86400, -1, 3600 * 24 * 400};
  rig_start(&rig, NULL, NULL);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  for (size_t i = 0; i < sizeof(offsets_s) / sizeof(offsets_s[0]); i++) {
    valk__fault_clock(ahead_ms, offsets_s[i]);
    uv_sleep(300); /* a date is good for a quarter second */
    int64_t before = wall_s();
    size_t stream = client_request(&client, "GET", "/hello", NULL, -1);
    ASSERT(client_wait(&client, stream, 30000));
    struct tm tm;
    memset(&tm, 0, sizeof(tm));
    ASSERT(strptime(client.streams[stream].date, "%a, %d %b %Y %H:%M:%S GMT", &tm) != NULL);
    int64_t said = (int64_t) timegm(&tm) - offsets_s[i];
    ASSERT_GE(said, before - 1);
    ASSERT_LE(said, wall_s());
  }
  client_close(&client);
  rig_stop(&rig);
}
