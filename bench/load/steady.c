#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client.h"
#include "modes.h"
#include "samples.h"

// Fewer than any server's backlog, so that none has to retry.
#define CONNECTING 50

static struct samples times;
static const char *target;
static int opened, lost, failed, unsent, outstanding;

static void on_open(struct conn *conn) {
  conn_get(conn, target);
}

static void on_first(struct conn *conn, int status, uint64_t sent_ns) {
  (void) conn, (void) sent_ns;
  failed += status != 200;
  opened++;
}

static void on_lost(struct conn *conn) {
  (void) conn;
  fprintf(stderr, "a connection was lost; %d were open\n", opened);
  lost++;
}

static void send_next(struct conn *conn) {
  if (unsent == 0)
    return;
  unsent--;
  outstanding++;
  conn_get(conn, target);
}

static void on_answer(struct conn *conn, int status, uint64_t sent_ns) {
  samples_add(&times, now_ns() - sent_ns);
  failed += status != 200;
  outstanding--;
  send_next(conn);
}

static struct conn_events events = {on_open, on_first, on_lost};

void run_steady(int port, int connections, int streams, int requests, const char *path) {
  struct client client;
  struct conn **all = calloc((size_t) connections, sizeof *all);
  target = path;
  client_init(&client, port);
  for (int begun = 0; opened < connections && lost == 0;) {
    for (; begun < connections && begun - opened < CONNECTING; begun++) {
      all[begun] = conn_open(&client, streams, &events, NULL);
      if (!all[begun]) {
        perror("connect");
        exit(1);
      }
    }
    client_poll(&client, 1000);
  }
  if (lost > 0)
    exit(1);
  printf("ready\n");
  fflush(stdout);
  if (getchar() == EOF || requests == 0)
    return;
  failed = 0;
  events.on_answer = on_answer;
  unsent = requests;
  uint64_t begin = now_ns();
  for (int i = 0; i < connections; i++) {
    for (int k = 0; k < streams; k++)
      send_next(all[i]);
    conn_flush(all[i]);
  }
  while (outstanding > 0 && lost == 0)
    client_poll(&client, 1000);
  double seconds = (double) (now_ns() - begin) / 1e9;
  printf(
      "{\"seconds\":%.6f,\"count\":%d,\"lost\":%d,\"failed\":%d,\"p50Us\":%.1f,\"p99Us\":%.1f}\n",
      seconds, requests, lost, failed, samples_percentile_us(&times, 0.5),
      samples_percentile_us(&times, 0.99));
  fflush(stdout);
  // The connections stay open until the caller has read the server's CPU time: closing them is work
  // as well.
  while (getchar() != EOF)
    ;
}
