/* Many connections that are ready at once: a turn works them off in passes. What the first have
 * asked for is handed over, and what answers them is written, before the last are read. */
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../core/annotate.h"
#include "support/client.h"
#include "support/rig.h"
#include "test.h"

/* A pass takes up to 32 connections, and ends with the connection that brings the 80th request. */
enum { CLIENTS = 160, VISITS_A_PASS = 32, REQUESTS_A_PASS = 80 };

static rig_t rig;
static client_t clients[CLIENTS], opener;

/* In the C library's place: the engine alone calls it. */
static atomic_uint yields;

int sched_yield(void) {
  atomic_fetch_add(&yields, 1);
  return (int) syscall(SYS_sched_yield);
}

/* ---- the engine's thread stands still in the consumer where the test wants it to ---- */

static uv_sem_t stands, goes_on;
static unsigned stop_at;            /* requests: on_turn stands still once there are as many */
static bool stops_in_request;       /* ... or on_request does */
static unsigned seen, largest_part; /* requests at the last on_turn, and the most between two */
static int (*rig_on_request)(void *data, valk_request_t *request);

static void stand_still(void) {
  stop_at = 0;
  uv_sem_post(&stands);
  uv_sem_wait(&goes_on);
}

static int on_request(void *data, valk_request_t *request) {
  if (stops_in_request && stop_at != 0 && atomic_load(&rig.requests) + 1 >= stop_at)
    stand_still();
  return rig_on_request(data, request);
}

static void on_turn(void *data, unsigned thread) {
  (void) data;
  (void) thread;
  unsigned requests = atomic_load(&rig.requests);
  if (requests - seen > largest_part)
    largest_part = requests - seen;
  seen = requests;
  if (!stops_in_request && stop_at != 0 && requests >= stop_at)
    stand_still();
}

static void prepare(valk_server_options_t *options) {
  static const valk_route_t route = {
      .path = "/static", .status = 200, .body = (const uint8_t *) "static\n", .body_length = 7};
  options->routes = &route;
  options->route_count = 1;
  rig_on_request = rig.consumer.on_request;
  rig.consumer.on_request = on_request;
  rig.consumer.on_turn = on_turn;
}

/* ---- many connections ---- */

/* The kernel has given what was sent to the other end. */
static bool arrived(const client_t *client) {
  int left = 0;
  ASSERT_EQ(ioctl(client->fd, SIOCOUTQ, &left), 0);
  return left == 0;
}

static void ask(client_t *client, const char *path, unsigned count) {
  for (unsigned i = 0; i < count; i++)
    client_request(client, "GET", path, NULL, -1);
  client_pump(client, 0);
  RIG_UNTIL(arrived(client));
}

static unsigned answered(void) {
  unsigned count = 0;
  for (unsigned i = 0; i < CLIENTS; i++) {
    client_pump(&clients[i], 0);
    count += clients[i].streams[0].status == 200;
  }
  return count;
}

/* All connections have asked |each| times for |path|, the last one for |last|, while the engine's
 * thread stood still: the next call to epoll_wait gives them all. It stands still again at the
 * |stop|th request. */
static void ask_all_at_once(const char *path, const char *last, unsigned each, unsigned stop) {
  valk_config_t config = rig_config();
  config.max_connections = CLIENTS + 1;
  config.arena_pool_size = config.queue_capacity = 2 * CLIENTS * each;
  uv_sem_init(&stands, 0);
  uv_sem_init(&goes_on, 0);
  stop_at = 1;
  rig_start(&rig, &config, prepare);
  for (unsigned i = 0; i < CLIENTS; i++)
    ASSERT(client_open(&clients[i], rig.port, NULL));
  ASSERT(client_open(&opener, rig.port, NULL));
  ask(&opener, "/hello", 1);
  uv_sem_wait(&stands);
  for (unsigned i = 0; i < CLIENTS; i++)
    ask(&clients[i], i + 1 < CLIENTS ? path : last, each);
  stop_at = stop;
  uv_sem_post(&goes_on);
  uv_sem_wait(&stands);
}

static void close_all(void) {
  for (unsigned i = 0; i < CLIENTS; i++)
    client_close(&clients[i]);
  client_close(&opener);
  uv_sem_destroy(&stands);
  uv_sem_destroy(&goes_on);
}

static void end(void) {
  uv_sem_post(&goes_on);
  RIG_UNTIL(answered() == CLIENTS);
  ASSERT(client_wait_all(&opener, 10000));
  close_all();
  rig_stop(&rig);
}

/* Which runs one thread at a time: shaking hands so often takes longer than anything waits, and
 * what is ready at once is not. */
static bool too_slow(void) {
  bool slow = valk__on_valgrind();
  if (slow)
    printf("# too slow under valgrind: skipped\n");
  return slow;
}

TEST(many_connections_reach_the_consumer_in_parts) {
  if (too_slow())
    return;
  ask_all_at_once("/hello", "/hello", 1, CLIENTS / 2 + 1);
  /* The first of them have their answers, the last are not read. */
  RIG_UNTIL(answered() >= CLIENTS / 4);
  ASSERT_LT(atomic_load(&rig.requests), CLIENTS);
  /* A consumer on the same core had its turn between two of them. */
  ASSERT_GE(atomic_load(&yields), 1);
  end();
  ASSERT_EQ(atomic_load(&rig.requests), CLIENTS + 1);
  ASSERT_LE(largest_part, VISITS_A_PASS);
}

TEST(fewer_connections_make_a_part_where_each_brings_more) {
  enum { EACH = 4 };
  if (too_slow())
    return;
  ask_all_at_once("/hello", "/hello", EACH, CLIENTS / 2 * EACH);
  end();
  ASSERT_EQ(atomic_load(&rig.requests), CLIENTS * EACH + 1);
  ASSERT_LE(largest_part, REQUESTS_A_PASS + EACH - 1);
}

TEST(static_routes_of_many_connections_are_answered_in_parts) {
  if (too_slow())
    return;
  stops_in_request = true;
  ask_all_at_once("/static", "/hello", 1, 2);
  RIG_UNTIL(answered() >= CLIENTS / 4);
  /* Nobody was given anything. */
  ASSERT_EQ(atomic_load(&yields), 0);
  end();
}

static void on_stopped(void *stopped) {
  uv_sem_post(stopped);
}

TEST(connections_that_end_between_two_parts_are_not_read) {
  if (too_slow())
    return;
  ask_all_at_once("/hello", "/hello", 1, CLIENTS / 2 + 1);
  unsigned requests = atomic_load(&rig.requests);
  ASSERT_LT(requests, CLIENTS);
  uv_sem_t stopped;
  uv_sem_init(&stopped, 0);
  valk_system_stop(rig.system, 0, on_stopped, &stopped);
  uv_sem_post(&goes_on);
  uv_sem_wait(&stopped);
  uv_sem_destroy(&stopped);
  ASSERT_EQ(atomic_load(&rig.requests), requests);
  ASSERT_EQ(rig_stats(&rig).connection.active, 0);
  close_all();
  rig_end(&rig);
}
