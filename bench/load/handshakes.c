#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>

#include "client.h"
#include "modes.h"
#include "samples.h"

static int ended, lost, resumed;
static struct samples times;

static void on_open(struct conn *conn) {
  conn_get(conn, "/");
}

static void on_answer(struct conn *conn, int status, uint64_t sent_ns) {
  (void) sent_ns;
  ended++;
  lost += status != 200;
  resumed += SSL_session_reused(conn->ssl);
  samples_add(&times, now_ns() - conn->begun_ns);
  conn_close(conn);
}

static void on_lost(struct conn *conn) {
  (void) conn;
  ended++;
  lost++;
}

static const struct conn_events events = {on_open, on_answer, on_lost};

static void connect_all(struct client *client, int count, int parallel) {
  ended = lost = resumed = 0;
  times.count = 0;
  for (int begun = 0; ended < count;) {
    for (; begun < count && begun - ended < parallel; begun++) {
      if (!conn_open(client, 1, &events, NULL)) {
        perror("connect");
        exit(1);
      }
    }
    client_poll(client, 1000);
  }
}

void run_handshakes(int port, int count, int parallel, bool resumes) {
  struct client client;
  client_init(&client, port);
  // The first one brings the ticket.
  if (resumes)
    connect_all(&client, 1, 1);
  client.resumes = resumes;
  uint64_t begin = now_ns();
  connect_all(&client, count, parallel);
  double seconds = (double) (now_ns() - begin) / 1e9;
  printf(
      "{\"seconds\":%.6f,\"count\":%d,\"lost\":%d,\"resumed\":%d,\"p50Us\":%.1f,\"p99Us\":%.1f}\n",
      seconds, count, lost, resumed, samples_percentile_us(&times, 0.5),
      samples_percentile_us(&times, 0.99));
}
