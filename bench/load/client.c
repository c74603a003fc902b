#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WINDOW_BYTES (1 << 24)

uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t) now.tv_sec * 1000000000u + (uint64_t) now.tv_nsec;
}

static int on_session(SSL *ssl, SSL_SESSION *session) {
  struct conn *conn = SSL_get_app_data(ssl);
  if (conn->client->session)
    SSL_SESSION_free(conn->client->session);
  conn->client->session = session;
  return 1;
}

static void must(bool ok, const char *what) {
  if (ok)
    return;
  fprintf(stderr, "%s failed: %s\n", what, strerror(errno));
  exit(1);
}

void client_init(struct client *client, int port) {
  memset(client, 0, sizeof *client);
  client->epoll = epoll_create1(EPOLL_CLOEXEC);
  must(client->epoll >= 0, "epoll_create1");
  client->address.sin_family = AF_INET;
  client->address.sin_port = htons((uint16_t) port);
  client->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  SSL_CTX *tls = client->tls = SSL_CTX_new(TLS_client_method());
  must(tls != NULL, "SSL_CTX_new");
  must(SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) == 1, "TLS 1.3");
  must(SSL_CTX_set_ciphersuites(tls, "TLS_AES_128_GCM_SHA256") == 1, "the cipher");
  must(SSL_CTX_set1_groups_list(tls, "P-256") == 1, "the group");
  must(SSL_CTX_set_alpn_protos(tls, (const uint8_t *) "\x02h2", 3) == 0, "ALPN");
  SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(tls, on_session);
  SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS);
}

static void set_interest(struct conn *conn, uint32_t wanted) {
  if (conn->interest == wanted)
    return;
  struct epoll_event event = {.events = wanted, .data.ptr = conn};
  epoll_ctl(conn->client->epoll, conn->interest ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, conn->fd, &event);
  conn->interest = wanted;
}

// Events of this round may still name it: freed when the round is over.
static void bury(struct conn *conn) {
  conn->is_dead = true;
  conn->next_dead = conn->client->dead;
  conn->client->dead = conn;
  nghttp2_session_del(conn->h2);
  SSL_free(conn->ssl);
  close(conn->fd);
}

static void lose(struct conn *conn) {
  if (conn->is_dead)
    return;
  bury(conn);
  conn->events->on_lost(conn);
}

void conn_close(struct conn *conn) {
  if (conn->is_dead)
    return;
  // nghttp2 must not lose its session in a call of its own: conn_ready() comes back here.
  conn->is_closing = true;
  if (conn->is_in_h2)
    return;
  // Its ticket would not be taken for good without.
  if (conn->is_secure)
    SSL_shutdown(conn->ssl);
  ERR_clear_error();
  bury(conn);
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *user) {
  (void) flags, (void) user, (void) value_size;
  if (name_size != 7 || memcmp(name, ":status", 7) != 0)
    return 0;
  struct exchange *exchange = nghttp2_session_get_stream_user_data(h2, frame->hd.stream_id);
  if (exchange)
    exchange->status = atoi((const char *) value);
  return 0;
}

static int on_stream_close(nghttp2_session *h2, int32_t id, uint32_t error, void *user) {
  struct conn *conn = user;
  struct exchange *exchange = nghttp2_session_get_stream_user_data(h2, id);
  if (!exchange)
    return 0;
  exchange->is_busy = false;
  conn->events->on_answer(conn, error == 0 ? exchange->status : 0, exchange->sent_ns);
  return 0;
}

static int on_frame(nghttp2_session *h2, const nghttp2_frame *frame, void *user) {
  (void) h2;
  struct conn *conn = user;
  if (frame->hd.type != NGHTTP2_SETTINGS || (frame->hd.flags & NGHTTP2_FLAG_ACK))
    return 0;
  if (conn->is_open)
    return 0;
  conn->is_open = true;
  conn->events->on_open(conn);
  return 0;
}

static void start_h2(struct conn *conn) {
  nghttp2_session_callbacks *callbacks;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
  nghttp2_session_client_new(&conn->h2, callbacks, conn);
  nghttp2_session_callbacks_del(callbacks);
  nghttp2_submit_settings(conn->h2, NGHTTP2_FLAG_NONE, NULL, 0);
  nghttp2_session_set_local_window_size(conn->h2, NGHTTP2_FLAG_NONE, 0, WINDOW_BYTES);
}

struct conn *conn_open(struct client *client, int slots, const struct conn_events *events,
                       void *user) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return NULL;
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(fd, (struct sockaddr *) &client->address, sizeof client->address) != 0 &&
      errno != EINPROGRESS) {
    close(fd);
    return NULL;
  }
  struct conn *conn = calloc(1, sizeof *conn);
  struct exchange *all = calloc((size_t) slots, sizeof *all);
  must(conn && all, "calloc");
  conn->client = client;
  conn->events = events;
  conn->user = user;
  conn->fd = fd;
  conn->begun_ns = now_ns();
  conn->slot_count = slots;
  conn->slots = all;
  conn->ssl = SSL_new(client->tls);
  must(conn->ssl != NULL, "SSL_new");
  SSL_set_app_data(conn->ssl, conn);
  SSL_set_fd(conn->ssl, fd);
  SSL_set_connect_state(conn->ssl);
  if (client->resumes && client->session) {
    // A copy: OpenSSL takes a session of TLS 1.3 for used up after its first connection.
    SSL_SESSION *session = SSL_SESSION_dup(client->session);
    must(session != NULL, "SSL_SESSION_dup");
    SSL_set_session(conn->ssl, session);
    SSL_SESSION_free(session);
  }
  start_h2(conn);
  set_interest(conn, EPOLLOUT);
  return conn;
}

#define NV(n, v)                                                                                   \
  { (uint8_t *) (n), (uint8_t *) (v), sizeof(n) - 1, strlen(v), NGHTTP2_NV_FLAG_NO_COPY_NAME }

void conn_get(struct conn *conn, const char *path) {
  for (int i = 0; i < conn->slot_count; i++) {
    struct exchange *exchange = &conn->slots[i];
    if (exchange->is_busy)
      continue;
    *exchange = (struct exchange){.conn = conn, .sent_ns = now_ns(), .is_busy = true};
    const nghttp2_nv head[] = {NV(":method", "GET"), NV(":scheme", "https"),
                               NV(":authority", "localhost"), NV(":path", path)};
    if (nghttp2_submit_request(conn->h2, NULL, head, 4, NULL, exchange) < 0)
      exchange->is_busy = false;
    return;
  }
}

// False: the connection has ended.
static bool failed(struct conn *conn, int result) {
  int error = SSL_get_error(conn->ssl, result);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
    return false;
  ERR_clear_error();
  lose(conn);
  return true;
}

void conn_flush(struct conn *conn) {
  static uint8_t batch[16 * 1024];
  while (!conn->is_dead && conn->is_secure) {
    // What a full socket has left over goes first.
    if (conn->out_size > 0) {
      int sent = SSL_write(conn->ssl, conn->out, (int) conn->out_size);
      if (sent <= 0) {
        if (!failed(conn, sent))
          set_interest(conn, EPOLLIN | EPOLLOUT);
        return;
      }
      conn->out += sent;
      conn->out_size -= (size_t) sent;
      if (conn->out_size == 0) {
        free(conn->rest);
        conn->rest = NULL;
      }
      continue;
    }
    size_t size = 0;
    const uint8_t *piece = NULL;
    ssize_t got = 0;
    // A request that may not be sent after GOAWAY ends here, and its end may close the connection.
    conn->is_in_h2 = true;
    while (size < sizeof batch / 2 && !conn->is_closing &&
           (got = nghttp2_session_mem_send(conn->h2, &piece)) > 0) {
      // HEADERS and SETTINGS only: each is far smaller than half the batch.
      memcpy(batch + size, piece, (size_t) got);
      size += (size_t) got;
    }
    conn->is_in_h2 = false;
    if (conn->is_closing) {
      conn_close(conn);
      return;
    }
    if (got < 0) {
      lose(conn);
      return;
    }
    if (size == 0)
      break;
    int sent = SSL_write(conn->ssl, batch, (int) size);
    if (sent <= 0 && failed(conn, sent))
      return;
    size_t done = sent > 0 ? (size_t) sent : 0;
    if (done < size) {
      // The batch is everyone's: what is left is the connection's own.
      conn->rest = malloc(size - done);
      must(conn->rest != NULL, "malloc");
      memcpy(conn->rest, batch + done, size - done);
      conn->out = conn->rest;
      conn->out_size = size - done;
    }
  }
  if (!conn->is_dead && conn->is_secure)
    set_interest(conn, EPOLLIN);
}

static void conn_ready(struct conn *conn) {
  if (!conn->is_secure) {
    int result = SSL_do_handshake(conn->ssl);
    if (result != 1) {
      int error = SSL_get_error(conn->ssl, result);
      if (failed(conn, result))
        return;
      set_interest(conn, error == SSL_ERROR_WANT_WRITE ? EPOLLOUT : EPOLLIN);
      return;
    }
    conn->is_secure = true;
  }
  uint8_t in[16 * 1024];
  while (!conn->is_dead) {
    int size = SSL_read(conn->ssl, in, sizeof in);
    if (size <= 0) {
      if (failed(conn, size))
        return;
      break;
    }
    conn->is_in_h2 = true;
    ssize_t taken = nghttp2_session_mem_recv(conn->h2, in, (size_t) size);
    conn->is_in_h2 = false;
    if (conn->is_closing) {
      conn_close(conn);
    } else if (taken < 0) {
      lose(conn);
    }
  }
  conn_flush(conn);
}

void client_poll(struct client *client, int timeout_ms) {
  struct epoll_event ready[256];
  int count = epoll_wait(client->epoll, ready, 256, timeout_ms);
  for (int i = 0; i < count; i++) {
    struct conn *conn = ready[i].data.ptr;
    if (!conn->is_dead)
      conn_ready(conn);
  }
  while (client->dead) {
    struct conn *conn = client->dead;
    client->dead = conn->next_dead;
    free(conn->rest);
    free(conn->slots);
    free(conn);
  }
}
