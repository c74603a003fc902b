/* Peers that have the server's last words and neither close nor fall silent: for a second what they
 * send is taken and dropped, so that no reset destroys those words on their way, and then they are
 * gone, whatever they do. */
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include "../core/fault.h"
#include "support/client.h"
#include "support/rig.h"
#include "test.h"

#define IDLE_MS 1200000ull
#define PEERS 2

static rig_t rig;

/* All places are taken by connections that say nothing for longer than they may. */
static void say_goodbye_to(client_t clients[PEERS]) {
  valk_config_t config = rig_config();
  config.max_connections = PEERS;
  config.idle_timeout_ms = IDLE_MS;
  config.handshake_timeout_ms = 10 * IDLE_MS;
  rig_start(&rig, &config, NULL);
  for (int i = 0; i < PEERS; i++) {
    ASSERT(client_open(&clients[i], rig.port, NULL));
    size_t stream = client_request(&clients[i], "GET", "/hello", NULL, -1);
    ASSERT(client_wait(&clients[i], stream, 30000));
    /* Read after the stream's end: once this is acknowledged the time of idleness runs. */
    client_ping(&clients[i]);
    uint64_t by = client_clock_ms() + 30000;
    while (clients[i].ping_acks == 0 && client_clock_ms() < by)
      client_pump(&clients[i], 20);
    ASSERT_EQ(clients[i].ping_acks, 1);
  }
  static uint64_t ahead_ms;
  valk__fault_clock(ahead_ms += IDLE_MS + 1000, 0);
  for (int i = 0; i < PEERS; i++) {
    ASSERT(client_wait_eof(&clients[i], 30000));
    ASSERT(clients[i].goaway);
    ASSERT_EQ(clients[i].goaway_code, 0);
    ASSERT_FALSE(clients[i].failed);
  }
}

static void end(client_t clients[PEERS]) {
  RIG_UNTIL(rig_stats(&rig).connection.active == 0);
  ASSERT_EQ(rig_stats(&rig).connection.closed.idle_timeout, PEERS);
  for (int i = 0; i < PEERS; i++)
    client_close(&clients[i]);
  rig_stop(&rig);
}

TEST(a_peer_that_never_closes_gives_its_place_back) {
  client_t clients[PEERS];
  say_goodbye_to(clients);
  rig_is_well(&rig); /* its handshake waits in the backlog until a place is free */
  end(clients);
}

typedef struct {
  int fd;
  atomic_ullong sent;
  atomic_bool cut_off;
} flood_t;

static void *send_on(void *data) {
  static const uint8_t bytes[256 << 10];
  flood_t *flood = data;
  for (;;) {
    ssize_t n = send(flood->fd, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      atomic_fetch_add(&flood->sent, (unsigned long long) n);
    } else if (errno != EAGAIN && errno != EINTR) {
      atomic_store(&flood->cut_off, true);
      return NULL;
    } else {
      sched_yield();
    }
  }
}

TEST(a_peer_that_sends_without_end_is_cut_off) {
  client_t clients[PEERS];
  flood_t floods[PEERS];
  pthread_t threads[PEERS];
  say_goodbye_to(clients);
  for (int i = 0; i < PEERS; i++) {
    floods[i].fd = clients[i].fd;
    atomic_init(&floods[i].sent, 0);
    atomic_init(&floods[i].cut_off, false);
    ASSERT_OK(pthread_create(&threads[i], NULL, send_on, &floods[i]));
  }
  rig_is_well(&rig);
  for (int i = 0; i < PEERS; i++) {
    RIG_UNTIL(atomic_load(&floods[i].cut_off));
    pthread_join(threads[i], NULL);
    printf("# %llu KiB\n", atomic_load(&floods[i].sent) >> 10);
    ASSERT_GT(atomic_load(&floods[i].sent), 0);
  }
  end(clients);
}

/* Reads that never find the end, as of a peer that sends as fast as we read. */
TEST(a_peer_that_sends_without_end_does_not_keep_the_thread) {
  uint64_t reads = 0;
  while (reads == 0) { /* on a slow machine the second may have passed before we send */
    client_t clients[PEERS];
    say_goodbye_to(clients);
    valk__fault_arm(VALK_FAULT_RECV, 1, true, EINTR);
    for (int i = 0; i < PEERS; i++)
      (void) send(clients[i].fd, "", 1, MSG_NOSIGNAL);
    RIG_UNTIL(rig_stats(&rig).connection.active == 0);
    reads = valk__fault_count(VALK_FAULT_RECV);
    valk__fault_arm(VALK_FAULT_RECV, 0, false, 0);
    rig_is_well(&rig);
    end(clients);
  }
}

TEST(a_peer_that_has_said_all_is_not_waited_for) {
  rig_start(&rig, NULL, NULL);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  /* With the second answer the engine has read all that the first made the client send, as its
   * acknowledgement of SETTINGS. */
  for (int i = 0; i < 2; i++) {
    size_t stream = client_request(&client, "GET", "/hello", NULL, -1);
    ASSERT(client_wait(&client, stream, 30000));
  }
  valk__fault_arm(VALK_FAULT_RECV, 0, false, 0);
  /* close_notify and FIN in one segment. */
  int on = 1;
  ASSERT_OK(setsockopt(client.fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on)));
  ASSERT_EQ(SSL_shutdown(client.ssl), 0);
  ASSERT_OK(shutdown(client.fd, SHUT_WR));
  RIG_UNTIL(rig_stats(&rig).connection.active == 0);
  ASSERT_EQ(valk__fault_count(VALK_FAULT_RECV), 1); /* none for the end */
  /* Our own close_notify has come all the same. */
  uint64_t by = client_clock_ms() + 30000;
  while (SSL_shutdown(client.ssl) != 1 && client_clock_ms() < by) {
    struct pollfd readable = {.fd = client.fd, .events = POLLIN};
    poll(&readable, 1, 20);
  }
  ASSERT((SSL_get_shutdown(client.ssl) & SSL_RECEIVED_SHUTDOWN) != 0);
  client_close(&client);
  rig_stop(&rig);
}
