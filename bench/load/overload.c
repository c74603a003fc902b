#include <stdio.h>
#include <stdlib.h>

#include "client.h"
#include "modes.h"
#include "samples.h"

#define SECOND_NS 1000000000u
#define IN_TIME_NS SECOND_NS
// The connections need a moment: what is answered before is not counted.
#define BEGIN_NS SECOND_NS
#define OPEN_CHECK_NS 20000000u
#define NEW_CHECK_NS 50000000u
#define NORMAL_NS 100000000u
#define RECOVERY_NS (20ull * SECOND_NS)

static const char *load_path, *health_path;
static uint64_t begin_ns;
static int opened, lost, refused, other;
static int in_time, late;
static struct samples accepted, open_health, new_health;
static int unanswered;
static bool is_counting = true;

static void on_load_open(struct conn *conn) {
  opened++;
  for (int i = 0; i < conn->slot_count; i++)
    conn_get(conn, load_path);
}

static void on_load_answer(struct conn *conn, int status, uint64_t sent_ns) {
  uint64_t now = now_ns();
  if (is_counting && now - begin_ns >= BEGIN_NS) {
    if (status == 200) {
      samples_add(&accepted, now - sent_ns);
      if (now - sent_ns <= IN_TIME_NS)
        in_time++;
      else
        late++;
    } else if (status == 503) {
      refused++;
    } else {
      other++;
    }
  }
  conn_get(conn, load_path);
}

static void on_load_lost(struct conn *conn) {
  // So that the end does not close it again.
  *(struct conn **) conn->user = NULL;
  lost++;
}

static const struct conn_events load_events = {on_load_open, on_load_answer, on_load_lost};

// A health check on one connection that stays open, or on a new one each time.
struct check {
  struct conn *conn;
  const char *path;
  uint64_t begun_ns; // 0: none is on its way
  uint64_t took_ns;  // of the last one
  int status;
  bool is_new;
  struct samples *times;
};

// What is not answered with 200 is never a good time: it counts as a second at the least.
static void add_sample(struct check *check, uint64_t took_ns) {
  if (!check->times)
    return;
  if (check->status != 200) {
    unanswered++;
    if (took_ns < SECOND_NS)
      took_ns = SECOND_NS;
  }
  samples_add(check->times, took_ns);
}

static void on_check_open(struct conn *conn) {
  struct check *check = conn->user;
  conn_get(conn, check->path);
}

static void on_check_answer(struct conn *conn, int status, uint64_t sent_ns) {
  (void) sent_ns;
  struct check *check = conn->user;
  check->took_ns = now_ns() - check->begun_ns;
  check->status = status;
  add_sample(check, check->took_ns);
  check->begun_ns = 0;
  if (check->is_new) {
    check->conn = NULL;
    conn_close(conn);
  }
}

static void on_check_lost(struct conn *conn) {
  struct check *check = conn->user;
  check->status = 0;
  // One that stays open may end between two checks: the next one opens another.
  if (check->begun_ns != 0)
    add_sample(check, now_ns() - check->begun_ns);
  check->conn = NULL;
  check->begun_ns = 0;
}

static const struct conn_events check_events = {on_check_open, on_check_answer, on_check_lost};

static void begin_check(struct client *client, struct check *check) {
  if (check->begun_ns != 0)
    return;
  check->begun_ns = now_ns();
  if (!check->conn) {
    check->conn = conn_open(client, 1, &check_events, check);
    if (!check->conn)
      check->begun_ns = 0;
  } else {
    conn_get(check->conn, check->path);
    conn_flush(check->conn);
  }
}

// One that began just before the end gets its second.
static void wait_for_check(struct client *client, const struct check *check) {
  while (check->begun_ns != 0 && now_ns() - check->begun_ns < SECOND_NS)
    client_poll(client, 5);
}

static void end_check(struct check *check) {
  if (check->begun_ns != 0) {
    check->status = 0;
    add_sample(check, now_ns() - check->begun_ns);
  }
  if (check->conn)
    conn_close(check->conn);
  check->conn = NULL;
  check->begun_ns = 0;
}

// Milliseconds from the load's end until a request on a new connection is answered within 100 ms;
// -1: never.
static double recovery_ms(struct client *client) {
  uint64_t end = now_ns();
  struct check probe = {.path = load_path, .is_new = true};
  while (now_ns() - end < RECOVERY_NS) {
    probe.status = 0;
    uint64_t begun = now_ns();
    begin_check(client, &probe);
    while (probe.begun_ns != 0 && now_ns() - begun < RECOVERY_NS)
      client_poll(client, 10);
    if (probe.status == 200 && probe.took_ns <= NORMAL_NS)
      return (double) (now_ns() - end) / 1e6;
  }
  return -1;
}

void run_overload(int port, int connections, int streams, int seconds, const char *path,
                  const char *health) {
  struct client client;
  struct conn **all = calloc((size_t) connections, sizeof *all);
  load_path = path;
  health_path = health;
  client_init(&client, port);
  struct check open = {.path = health_path, .times = &open_health};
  struct check fresh = {.path = health_path, .times = &new_health, .is_new = true};
  // The open one is opened, and used once, while all is quiet.
  open.times = NULL;
  begin_check(&client, &open);
  for (int i = 0; i < 100 && open.begun_ns != 0; i++)
    client_poll(&client, 10);
  open.times = &open_health;
  begin_ns = now_ns();
  for (int i = 0; i < connections; i++) {
    all[i] = conn_open(&client, streams, &load_events, &all[i]);
  }
  uint64_t length = (uint64_t) seconds * SECOND_NS;
  uint64_t next_open = begin_ns, next_new = begin_ns;
  for (uint64_t now = begin_ns; now - begin_ns < length; now = now_ns()) {
    if (now >= next_open) {
      begin_check(&client, &open);
      next_open = now + OPEN_CHECK_NS;
    }
    if (now >= next_new) {
      begin_check(&client, &fresh);
      next_new = now + NEW_CHECK_NS;
    }
    client_poll(&client, 5);
  }
  double counted = (double) (length - BEGIN_NS) / 1e9;
  is_counting = false;
  wait_for_check(&client, &open);
  wait_for_check(&client, &fresh);
  end_check(&open);
  end_check(&fresh);
  for (int i = 0; i < connections; i++) {
    if (all[i])
      conn_close(all[i]);
  }
  double recovery = recovery_ms(&client);
  printf("{\"connected\":%d,\"lost\":%d,\"inTimePerSecond\":%.2f,\"latePerSecond\":%.2f,"
         "\"refusedPerSecond\":%.2f,\"otherPerSecond\":%.2f,\"acceptedP50Us\":%.1f,"
         "\"acceptedP99Us\":%.1f,",
         opened, lost, in_time / counted, late / counted, refused / counted, other / counted,
         samples_percentile_us(&accepted, 0.5), samples_percentile_us(&accepted, 0.99));
  printf("\"openChecks\":%zu,\"openP99Us\":%.1f,\"newChecks\":%zu,\"newP99Us\":%.1f,"
         "\"unanswered\":%d,\"recoveryMs\":%.1f}\n",
         open_health.count, samples_percentile_us(&open_health, 0.99), new_health.count,
         samples_percentile_us(&new_health, 0.99), unanswered, recovery);
}
