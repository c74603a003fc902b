/* Uploads in stream mode: windows that grow out of a pool as handlers read, and sockets that let
 * bytes come together. */
#include <arpa/inet.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "../core/internal.h"
#include "support/client.h"
#include "support/rig.h"
#include "test.h"

#define KIB 1024
#define MIB (1024 * 1024)

static rig_t rig;
static client_t client;

/* ---- windows ---- */

static const char *const four_mib[] = {"content-length", "4194304", NULL};

static void stream_mode(valk_server_options_t *options) {
  options->stream_bodies = true;
  options->data = &rig;
}

static void start_server(void) {
  rig_start(&rig, NULL, stream_mode);
  atomic_store(&rig.claims, true); /* a handler that reads runs, and waits in no queue */
}

static void start(void) {
  start_server();
  ASSERT(client_open(&client, rig.port, NULL));
}

static void stop(void) {
  client_close(&client);
  rig_stop(&rig); /* asserts that all was given back */
}

static atomic_int_least64_t *pool(void) {
  return &rig.system->budgets[VALK_SLOT_UPLOADS(rig.system)];
}

enum { PATIENCE_MS = 30000 };

/* An upload of |length| bytes whose handler has read |bytes| of them, and waits for more. */
static size_t begin_upload(const char *const *fields, int64_t length, size_t bytes) {
  size_t stream = client_request(&client, "POST", "/hold", fields, length);
  client.streams[stream].hold_at = bytes;
  uint64_t end = client_clock_ms() + PATIENCE_MS;
  unsigned before = atomic_load(&rig.body_bytes);
  while (atomic_load(&rig.body_bytes) - before < bytes && client_clock_ms() < end)
    client_pump(&client, 2);
  ASSERT_EQ(atomic_load(&rig.body_bytes) - before, bytes);
  client_ping(&client); /* what the server has said until then is read */
  unsigned acks = client.ping_acks;
  while (client.ping_acks == acks && client_clock_ms() < end)
    client_pump(&client, 2);
  return stream;
}

static void end_upload(size_t stream) {
  unsigned before = atomic_load(&rig.body_bytes);
  size_t left = client.streams[stream].send_left;
  client_release(&client, stream);
  uint64_t end = client_clock_ms() + PATIENCE_MS;
  while (atomic_load(&rig.body_bytes) - before < left && client_clock_ms() < end)
    client_pump(&client, 2);
  ASSERT_EQ(atomic_load(&rig.body_bytes) - before, left);
  rig_release(&rig);
  ASSERT(client_wait(&client, stream, PATIENCE_MS));
  ASSERT_EQ(client.streams[stream].status, 200);
}

static int window_of(size_t stream) {
  return nghttp2_session_get_stream_remote_window_size(client.session, client.streams[stream].id);
}

TEST(a_window_grows_as_the_handler_reads) {
  start();
  size_t stream = begin_upload(four_mib, 4 * MIB, 3 * MIB);
  /* nghttp2 may hold back half of it. */
  ASSERT_GE(window_of(stream), (int) VALK_WINDOW_STREAMED / 2);
  ASSERT_LE(window_of(stream), (int) VALK_WINDOW_STREAMED);
  int64_t taken = rig_pool(&rig) - atomic_load(pool());
  ASSERT_GT(taken, 256 * KIB);
  ASSERT_LT(taken, (int64_t) VALK_WINDOW_STREAMED);
  end_upload(stream);
  stop();
}

TEST(a_window_grows_where_the_length_is_not_known) {
  start();
  size_t stream = begin_upload(NULL, 4 * MIB, 3 * MIB);
  ASSERT_GE(window_of(stream), (int) VALK_WINDOW_STREAMED / 2);
  end_upload(stream);
  stop();
}

TEST(a_window_grows_neither_before_it_was_used_nor_for_what_will_not_come) {
  start();
  size_t first = begin_upload(four_mib, 4 * MIB, 64 * KIB);
  ASSERT_EQ(atomic_load(pool()), rig_pool(&rig));
  client_reset(&client, first, 8);
  RIG_UNTIL((client_pump(&client, 1), rig_stats(&rig).request.reset.client == 1));
  static const char *const fields[] = {"content-length", "131072", NULL};
  size_t stream = begin_upload(fields, 128 * KIB, 120 * KIB);
  ASSERT_EQ(atomic_load(pool()), rig_pool(&rig));
  end_upload(stream);
  stop();
}

TEST(what_a_window_takes_is_a_part_of_what_the_pool_has) {
  start();
  atomic_store(pool(), 80 * KIB);
  size_t stream = begin_upload(four_mib, 4 * MIB, 3 * MIB);
  /* An eighth of it, and an eighth of the rest, until less than 8 KiB would be taken. */
  ASSERT_EQ(atomic_load(pool()), 80 * KIB - 10 * KIB - 8960);
  end_upload(stream);
  RIG_UNTIL(atomic_load(pool()) == 80 * KIB);
  atomic_store(pool(), rig_pool(&rig));
  stop();
}

TEST(without_a_pool_uploads_go_on_with_their_connections_share) {
  start();
  atomic_store(pool(), 0);
  size_t stream = begin_upload(four_mib, 4 * MIB, 3 * MIB);
  ASSERT_LE(window_of(stream), 128 * KIB);
  ASSERT_EQ(atomic_load(pool()), 0);
  end_upload(stream);
  atomic_store(pool(), rig_pool(&rig));
  stop();
}

TEST(a_consumer_is_told_how_much_may_come_still) {
  start();
  static const char *const fields[] = {"content-length", "131072", NULL};
  size_t stream = begin_upload(fields, 128 * KIB, 120 * KIB);
  ASSERT_EQ(atomic_load(&rig.body_room), 8 * KIB); /* of what was announced */
  end_upload(stream);
  ASSERT_EQ(atomic_load(&rig.body_room), 0);
  stop();
  start();
  stream = begin_upload(NULL, 4 * MIB, 3 * MIB);
  /* Of what its window lets it send beside the last piece. */
  ASSERT_GE(atomic_load(&rig.body_room), VALK_WINDOW_STREAMED - VALK_TLS_PLAIN_MAX);
  ASSERT_LT(atomic_load(&rig.body_room), VALK_WINDOW_STREAMED);
  end_upload(stream);
  stop();
}

TEST(what_stays_alone_is_read_too) {
  start();
  /* Each stops amid the upload, with less outstanding than is let come together. */
  for (size_t more = 0; more < 8; more++) {
    size_t stream = begin_upload(four_mib, 4 * MIB, 2 * MIB + more * 9999);
    client_reset(&client, stream, 8);
  }
  stop();
}

TEST(clients_that_vanish_amid_an_upload_leave_nothing) {
  start_server();
  for (int i = 0; i < 2; i++) {
    ASSERT(client_open(&client, rig.port, NULL));
    begin_upload(four_mib, 4 * MIB, 2 * MIB);
    client_vanish(&client, i == 1);
    RIG_UNTIL(rig_stats(&rig).connection.active == 0);
  }
  rig_release(&rig);
  rig_stop(&rig);
}

/* ---- what comes together: a connection whose reads are the test's ---- */

static valk_thread_t thread;
static valk_connection_t connection;
static int peer, poller;

static void connect_pair(void) {
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET};
  socklen_t length = sizeof(address);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(listener, (struct sockaddr *) &address, length), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  ASSERT_EQ(getsockname(listener, (struct sockaddr *) &address, &length), 0);
  peer = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(connect(peer, (struct sockaddr *) &address, length), 0);
  connection.fd = accept(listener, NULL, NULL);
  ASSERT_GE(connection.fd, 0);
  close(listener);
  poller = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN | EPOLLET};
  ASSERT_EQ(epoll_ctl(poller, EPOLL_CTL_ADD, connection.fd, &event), 0);
}

static void begin(void) {
  for (int kind = 0; kind < VALK_DEADLINE_KINDS; kind++)
    valk__list_init(&thread.deadlines[kind].list);
  valk__upload_deadlines(&thread);
  connection = (valk_connection_t){.thread = &thread, .low_water = 1};
  valk__list_init(&connection.gathering.link);
  connect_pair();
}

static void end(void) {
  close(peer);
  close(poller);
  close(connection.fd);
}

/* One with |window|, of which |rest| bytes are still to come; < 0: nobody knows. */
static valk_request_t upload(uint32_t window, int64_t rest) {
  return (valk_request_t){
      .connection = &connection,
      .own_window = window - VALK_WINDOW_WAITING,
      .received = 10 * MIB,
      .head.content_length = rest < 0 ? -1 : 10 * MIB + rest,
  };
}

/* A read that brought |bytes| of |count| uploads; what the socket lets come together after it. */
static int after_read(valk_request_t *uploads, int count, size_t bytes) {
  valk__uploads_begin_read(&connection);
  for (int i = 0; i < count; i++) {
    /* In two frames. */
    uploads[i].received += bytes;
    valk__upload_received(&uploads[i], bytes);
    uploads[i].received += bytes;
    valk__upload_received(&uploads[i], bytes);
  }
  valk__uploads_end_read(&connection, 2 * bytes * (size_t) count);
  int low_water = 0;
  socklen_t length = sizeof(low_water);
  ASSERT_EQ(getsockopt(connection.fd, SOL_SOCKET, SO_RCVLOWAT, &low_water, &length), 0);
  ASSERT_EQ(low_water, connection.low_water);
  ASSERT_EQ(valk__listed(&connection.gathering.link), low_water > 1);
  return low_water;
}

TEST(a_quarter_of_the_windows_is_let_come_together_until_the_end_is_near) {
  begin();
  valk_request_t uploads[4];
  uploads[0] = upload(512 * KIB, 1 * MIB);
  ASSERT_EQ(after_read(uploads, 1, 32 * KIB), 128 * KIB);
  for (int i = 0; i < 4; i++)
    uploads[i] = upload(512 * KIB, 4 * MIB);
  ASSERT_EQ(after_read(uploads, 4, 32 * KIB), 256 * KIB); /* and no more than that */
  ASSERT_EQ(after_read(uploads, 1, 32 * KIB), 256 * KIB); /* half of its window is sure to come */
  uploads[0] = upload(512 * KIB, 200 * KIB);
  ASSERT_EQ(after_read(uploads, 1, 16 * KIB), 128 * KIB);
  ASSERT_EQ(after_read(uploads, 1, 16 * KIB), 128 * KIB);
  ASSERT_EQ(after_read(uploads, 1, 16 * KIB), 64 * KIB);
  ASSERT_EQ(after_read(uploads, 1, 8 * KIB), 64 * KIB);
  ASSERT_EQ(after_read(uploads + 1, 1, 8 * KIB), 64 * KIB); /* a small read does not raise it */
  ASSERT_EQ(after_read(uploads, 1, 16 * KIB), 1);
  end();
}

TEST(what_is_small_or_slow_or_of_unknown_length_is_told_of_at_once) {
  begin();
  valk_request_t small_window = upload(100 * KIB, 4 * MIB), ending = upload(512 * KIB, 100 * KIB),
                 slow = upload(512 * KIB, 4 * MIB), unknown = upload(512 * KIB, -1);
  ASSERT_EQ(after_read(&small_window, 1, 32 * KIB), 1);
  ASSERT_EQ(after_read(&ending, 1, 32 * KIB), 1);
  ASSERT_EQ(after_read(&slow, 1, 8 * KIB), 1);
  ASSERT_EQ(after_read(&unknown, 1, 32 * KIB), 1);
  ASSERT_EQ(after_read(NULL, 0, 0), 1);
  end();
}

static bool told(int timeout_ms) {
  struct epoll_event event;
  return epoll_wait(poller, &event, 1, timeout_ms) == 1;
}

TEST(what_has_come_is_told_of_after_a_while) {
  begin();
  valk_request_t one = upload(512 * KIB, 4 * MIB);
  ASSERT_EQ(after_read(&one, 1, 64 * KIB), 128 * KIB);
  ASSERT_EQ(send(peer, "little", 6, 0), 6);
  ASSERT_FALSE(told(20));
  /* What a read without any of it brings changes nothing. */
  ASSERT_EQ(after_read(NULL, 0, 0), 128 * KIB);
  valk_deadline_t *deadline = &connection.gathering;
  valk__deadline_stop(deadline);
  thread.deadlines[VALK_DEADLINE_GATHER].expired(deadline);
  ASSERT_EQ(connection.low_water, 1);
  ASSERT(told(1000));
  end();
}

TEST(a_socket_that_takes_no_mark_is_left_as_it_was) {
  begin();
  valk_request_t one = upload(512 * KIB, 4 * MIB);
  valk__fault_arm(VALK_FAULT_OPTION, 1, false, ENOMEM);
  ASSERT_EQ(after_read(&one, 1, 64 * KIB), 1);
  ASSERT_EQ(after_read(&one, 1, 64 * KIB), 128 * KIB);
  valk_deadline_t *deadline = &connection.gathering;
  valk__deadline_stop(deadline);
  valk__fault_arm(VALK_FAULT_OPTION, 1, false, ENOMEM);
  thread.deadlines[VALK_DEADLINE_GATHER].expired(deadline);
  ASSERT_EQ(connection.low_water, 128 * KIB);
  ASSERT(valk__listed(&deadline->link)); /* so it is lowered a while later */
  valk__deadline_stop(deadline);
  thread.deadlines[VALK_DEADLINE_GATHER].expired(deadline);
  ASSERT_EQ(after_read(NULL, 0, 0), 1);
  end();
}

TEST(the_end_of_a_peer_is_told_of_at_once) {
  begin();
  valk_request_t one = upload(512 * KIB, 4 * MIB);
  ASSERT_EQ(after_read(&one, 1, 64 * KIB), 128 * KIB);
  ASSERT_EQ(shutdown(peer, SHUT_WR), 0);
  ASSERT(told(1000));
  end();
}
