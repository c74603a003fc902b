/* The end of a listener: what stands in the kernel's queue then. */
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../core/internal.h"
#include "support/client.h"
#include "support/rig.h"
#include "test.h"

/* More than the engine accepts in one turn, so that what is left is the closing listener's. */
enum { SILENT = 70, SPEAKING = 2 };

static rig_t rig;

typedef struct {
  valk_mail_t mail;
  uv_sem_t entered, leave;
} stall_t;

static void open_stall(valk_thread_t *thread, valk_mail_t *mail) {
  stall_t *stall = (stall_t *) mail;
  (void) thread;
  uv_sem_post(&stall->entered);
  uv_sem_wait(&stall->leave);
}

/* Holds the thread that accepts, wherever it is. */
static void stall_begin(stall_t *stall) {
  *stall = (stall_t){.mail = {.open = open_stall}};
  ASSERT_EQ(uv_sem_init(&stall->entered, 0), 0);
  ASSERT_EQ(uv_sem_init(&stall->leave, 0), 0);
  valk__thread_post(&rig.system->threads[0], &stall->mail);
  uv_sem_wait(&stall->entered);
}

static int connect_to(uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(connect(fd, (struct sockaddr *) &address, sizeof(address)), 0);
  return fd;
}

typedef struct {
  client_t client;
  int fd;
  bool served;
  uint64_t end_ms;
} speaker_t;

static void speak(void *data) {
  speaker_t *speaker = data;
  client_options_t options = {.fd = speaker->fd};
  if (!client_open(&speaker->client, rig.port, &options))
    return;
  size_t stream = client_request(&speaker->client, "GET", "/hello", NULL, -1);
  speaker->served =
      client_wait(&speaker->client, stream, 20000) && speaker->client.streams[stream].status == 200;
}

static atomic_bool asking;

static void ask_for_stats(void *data) {
  (void) data;
  while (atomic_load(&asking)) {
    rig_stats(&rig);
    /* valgrind's scheduler would let the asker have the lock again and again. */
    uv_sleep(1);
  }
}

TEST(a_closing_listener_accepts_what_its_queue_holds) {
  valk_config_t config = rig_config();
  config.io_threads = 2;
  rig_start(&rig, &config, NULL);
  stall_t stall;
  stall_begin(&stall);
  int silent[SILENT];
  for (int i = 0; i < SILENT; i++)
    silent[i] = connect_to(rig.port);
  /* The last of the queue. */
  speaker_t speakers[SPEAKING];
  uv_thread_t threads[SPEAKING], asker;
  for (int i = 0; i < SPEAKING; i++) {
    speakers[i] = (speaker_t){.fd = connect_to(rig.port)};
    ASSERT_EQ(uv_thread_create(&threads[i], speak, &speakers[i]), 0);
  }
  valk_stats_t stats = rig_stats(&rig);
  ASSERT_EQ(stats.connection.accepted, 0);
  ASSERT_EQ(stats.connection.waiting, SILENT + SPEAKING);
  /* A snapshot may be asking for the queue as the listener is closed. */
  atomic_store(&asking, true);
  ASSERT_EQ(uv_thread_create(&asker, ask_for_stats, NULL), 0);
  valk_server_close(rig.server, 20000, NULL, NULL);
  uint64_t begin_ms = client_clock_ms();
  uv_sem_post(&stall.leave);
  for (int i = 0; i < SPEAKING; i++)
    uv_thread_join(&threads[i]);
  atomic_store(&asking, false);
  uv_thread_join(&asker);
  for (int i = 0; i < SPEAKING; i++) {
    /* A closing server gives a handshake one second, and valgrind's is longer. */
    ASSERT(speakers[i].served || speakers[i].end_ms - begin_ms >= 1000);
    client_close(&speakers[i].client);
  }
  ASSERT_EQ(rig_stats(&rig).connection.accepted, SILENT + SPEAKING);
  for (int i = 0; i < SILENT; i++) {
    char byte;
    ASSERT_GE(recv(silent[i], &byte, 1, 0), 0); /* a word or the end, and no reset */
    close(silent[i]);
  }
  uv_sem_destroy(&stall.entered);
  uv_sem_destroy(&stall.leave);
  rig_stop(&rig);
}

TEST(a_reset_of_the_last_stream_ends_a_connection_that_drains) {
  rig_start(&rig, NULL, NULL);
  atomic_store(&rig.claims, true);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  size_t stream = client_request(&client, "GET", "/hold", NULL, -1);
  client_pump(&client, 0);
  ASSERT(rig_wait_held(&rig, 1));
  valk_server_close(rig.server, 30000, NULL, NULL);
  while (!client.goaway)
    client_pump(&client, 20);
  client_pump(&client, 1000); /* the second one */
  ASSERT_FALSE(client.eof);
  client_reset(&client, stream, NGHTTP2_CANCEL);
  client_pump(&client, 0);
  RIG_UNTIL(rig_stats(&rig).connection.active == 0); /* and not when its time is up */
  rig_release(&rig);
  client_close(&client);
  rig_stop(&rig);
}

static valk_gate_stats_t places_now(void) {
  valk_gate_stats_t places;
  valk_gate_stats(&rig.system->connections, &places);
  return places;
}

/* Called by the thread that let go of the last connection, before it does anything else. */
static void note_places(void *data) {
  ASSERT_EQ(places_now().waiting, 0);
  ASSERT_EQ(places_now().in_use, 0);
  uv_sem_post(data);
}

TEST(no_place_is_granted_to_who_has_stopped_to_listen) {
  valk_config_t config = rig_config();
  config.max_connections = 1;
  rig_start(&rig, &config, NULL);
  client_t client;
  ASSERT(client_open(&client, rig.port, NULL));
  RIG_UNTIL(places_now().waiting == 1); /* the listener */
  uv_sem_t stopped;
  uv_sem_init(&stopped, 0);
  valk_system_stop(rig.system, 10000, note_places, &stopped);
  uv_sem_wait(&stopped);
  uv_sem_destroy(&stopped);
  client_close(&client);
  rig_end(&rig);
}
