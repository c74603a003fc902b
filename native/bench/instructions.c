/* What a request costs in instructions: a server in this process, which callgrind counts, and a
 * client in a process of its own, which it does not.
 *
 *   valgrind --tool=callgrind --callgrind-out-file=FILE instructions
 *
 * The client writes a batch in one send and waits for all of its answers before the next, so that
 * each batch is one turn of the engine's one thread and every run counts the same. It asks for
 * /begin before a workload and for /end/NAME after it: the server then sets the counts to nothing,
 * and has them written. Prints `with WHAT`, all that the counts depend on but this program, and a
 * line a workload: its name, a space, how many times it was done. */
#include <arpa/inet.h>
#include <errno.h>
#include <gnu/libc-version.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <valgrind/callgrind.h>

#include "../include/valk.h"
#include "../test/support/rig.h"

#define BATCH 10
#define LARGE (100u << 10)
#define POST_SIZE 1024
#define WINDOW ((1u << 31) - 1)

/* ---- the server ---- */

static valk_system_t *engine;

static valk_buffer_t *answer_of(const void *body, uint32_t length, uint32_t *head) {
  static const char fields[] = "content-type\ntext/plain\n";
  *head = sizeof(fields) - 1;
  valk_buffer_t *buffer = valk_buffer_new(*head + length);
  if (buffer == NULL)
    abort();
  memcpy(buffer->data, fields, *head);
  if (length > 0)
    memcpy(buffer->data + *head, body, length);
  return buffer;
}

static void respond(valk_request_t *request, const void *body, uint32_t length) {
  uint32_t head;
  valk_buffer_t *buffer = answer_of(body, length, &head);
  if (length > VALK_INLINE_MAX) {
    buffer->slot = valk_request_slot(request);
    buffer->charged = valk_budget_take(engine, buffer->slot, length, length);
    if (buffer->charged == 0)
      abort();
  }
  if (valk_request_respond(request, 200, buffer, head, -1, VALK_ANSWER_END) != 0)
    abort();
}

static bool is_at(const char *path, const char *wanted) {
  return strncmp(path, wanted, strlen(wanted)) == 0;
}

static int on_request(void *data, valk_request_t *request) {
  static const uint8_t large[LARGE];
  (void) data;
  const char *path = valk_request_head(request)->text;
  for (int i = 0; i < 3; i++)
    path = strchr(path, '\n') + 1;
  if (is_at(path, "/hello\n")) {
    respond(request, "Hello, world!", 13);
  } else if (is_at(path, "/echo\n")) {
    valk_bytes_t body = valk_request_body(request);
    respond(request, body.data, (uint32_t) body.length);
  } else if (is_at(path, "/large\n")) {
    respond(request, large, LARGE);
  } else if (is_at(path, "/begin\n")) {
    CALLGRIND_ZERO_STATS;
    respond(request, "", 0);
  } else if (is_at(path, "/end/")) {
    char name[64];
    snprintf(name, sizeof(name), "%.*s", (int) strcspn(path + 5, "\n"), path + 5);
    CALLGRIND_DUMP_STATS_AT(name);
    respond(request, "", 0);
  } else {
    abort();
  }
  return 0;
}

static bool on_drop(void *data, valk_request_t *request) {
  (void) data;
  (void) request;
  return false;
}

static bool on_abort(void *data, valk_request_t *request, valk_abort_t reason) {
  (void) data;
  (void) request;
  (void) reason;
  return true;
}

static int on_body(void *data, valk_request_t *request, const uint8_t *bytes, size_t length) {
  (void) data;
  (void) request;
  (void) bytes;
  (void) length;
  return 0;
}

static void on_nothing(void *data, valk_request_t *request) {
  (void) data;
  (void) request;
}

static void on_thread(void *data, unsigned thread) {
  (void) data;
  (void) thread;
}

static uint64_t last_turn(void *data, bool poke) {
  (void) data;
  (void) poke;
  return uv_hrtime() / 1000000;
}

static int serve(char *program) {
  static const valk_consumer_t consumer = {.on_request = on_request,
                                           .on_drop = on_drop,
                                           .on_abort = on_abort,
                                           .on_body = on_body,
                                           .on_body_end = on_nothing,
                                           .on_writable = on_nothing,
                                           .on_end = on_nothing,
                                           .on_turn = on_thread,
                                           .on_wake = on_thread,
                                           .last_turn_ms = last_turn};
  static const char fields[] = "content-type\ntext/plain\n";
  static const valk_route_t route = {
      "/static", 200, fields, sizeof(fields) - 1, (const uint8_t *) "Hello, world!", 13};
  char error[256] = "";
  const char *key = rig_key();
  valk_config_t config = rig_config();
  valk_server_t *server;
  valk_server_options_t options = {.host = "127.0.0.1",
                                   .key = key,
                                   .key_length = strlen(key),
                                   .certificate = rig_certificate(),
                                   .certificate_length = strlen(rig_certificate()),
                                   .error_503_body = (const uint8_t *) "busy\n",
                                   .error_503_body_length = 5,
                                   .send_date = true,
                                   .routes = &route,
                                   .route_count = 1,
                                   .js_stall_timeout_ms = 30000,
                                   .consumer = &consumer};
  if (valk_system_start(&config, &engine, error, sizeof(error)) != 0 ||
      valk_system_add_consumer(engine, &consumer) != 0 ||
      valk_server_listen(engine, &options, &server, error, sizeof(error)) != 0) {
    fprintf(stderr, "instructions: %s\n", error);
    return 1;
  }
  char port[16];
  snprintf(port, sizeof(port), "%u", valk_server_port(server));
  char *arguments[] = {program, port, NULL};
  extern char **environ;
  pid_t client;
  int status = 1;
  if (posix_spawn(&client, program, NULL, NULL, arguments, environ) != 0 ||
      waitpid(client, &status, 0) != client) {
    perror("instructions");
  }
  valk_system_free(engine);
  return status == 0 ? 0 : 1;
}

/* ---- the client ---- */

typedef struct {
  int fd;
  SSL *ssl;
  BIO *in, *out;
  nghttp2_session *session;
  unsigned open;      /* streams */
  size_t body_left;   /* of the request body that is being sent */
  uint64_t body_size; /* received */
} peer_t;

static SSL_CTX *context;

static void expect(bool condition, const char *what) {
  if (condition)
    return;
  fprintf(stderr, "instructions: the client: %s (errno %d)\n", what, errno);
  ERR_print_errors_fp(stderr);
  _exit(1);
}

static void push(peer_t *peer) {
  static uint8_t bytes[65536];
  int length;
  while ((length = BIO_read(peer->out, bytes, sizeof(bytes))) > 0)
    expect(send(peer->fd, bytes, (size_t) length, MSG_NOSIGNAL) == length, "send");
}

/* False at the end of the server's bytes. */
static bool pull(peer_t *peer) {
  static uint8_t bytes[262144];
  ssize_t length = recv(peer->fd, bytes, sizeof(bytes), 0);
  expect(length >= 0, "recv");
  if (length > 0)
    expect(BIO_write(peer->in, bytes, (int) length) == length, "BIO_write");
  return length > 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
                   size_t length, void *data) {
  (void) session;
  (void) flags;
  (void) id;
  (void) bytes;
  ((peer_t *) data)->body_size += length;
  return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *data) {
  (void) session;
  (void) id;
  expect(code == 0, "a stream was reset");
  ((peer_t *) data)->open--;
  return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *out, size_t room,
                         uint32_t *flags, nghttp2_data_source *source, void *data) {
  (void) session;
  (void) id;
  (void) source;
  (void) data;
  expect(room >= POST_SIZE, "no room for a request body");
  memset(out, 'b', POST_SIZE);
  *flags |= NGHTTP2_DATA_FLAG_EOF;
  return POST_SIZE;
}

/* All frames in one record, all records in one send. */
static void write_frames(peer_t *peer) {
  uint8_t frames[16384];
  size_t length = 0;
  for (;;) {
    const uint8_t *bytes;
    ssize_t n = nghttp2_session_mem_send(peer->session, &bytes);
    expect(n >= 0 && length + (size_t) n <= sizeof(frames), "a batch is larger than a record");
    if (n == 0)
      break;
    memcpy(frames + length, bytes, (size_t) n);
    length += (size_t) n;
  }
  if (length > 0)
    expect(SSL_write(peer->ssl, frames, (int) length) == (int) length, "SSL_write");
  push(peer);
}

/* Takes what has come; false at its end. */
static bool read_frames(peer_t *peer) {
  static uint8_t bytes[16384];
  bool more = pull(peer);
  for (;;) {
    int n = SSL_read(peer->ssl, bytes, sizeof(bytes));
    if (n <= 0)
      return more;
    expect(nghttp2_session_mem_recv(peer->session, bytes, (size_t) n) == n, "nghttp2");
  }
}

static void await_answers(peer_t *peer) {
  write_frames(peer);
  while (peer->open > 0)
    expect(read_frames(peer), "the server closed the connection");
}

static void submit(peer_t *peer, const char *method, const char *path) {
  const char *pairs[][2] = {{":method", method},
                            {":scheme", "https"},
                            {":authority", "localhost:8443"},
                            {":path", path},
                            {"user-agent", "instructions"}};
  nghttp2_nv fields[5];
  for (int i = 0; i < 5; i++) {
    fields[i] =
        (nghttp2_nv){(uint8_t *) (uintptr_t) pairs[i][0], (uint8_t *) (uintptr_t) pairs[i][1],
                     strlen(pairs[i][0]), strlen(pairs[i][1]), NGHTTP2_NV_FLAG_NONE};
  }
  nghttp2_data_provider body = {.read_callback = read_body};
  bool post = method[0] == 'P';
  expect(nghttp2_submit_request(peer->session, NULL, fields, 5, post ? &body : NULL, NULL) > 0,
         "nghttp2_submit_request");
  peer->open++;
}

static SSL_SESSION *newest; /* that a server gave */

static int on_session(SSL *ssl, SSL_SESSION *session) {
  (void) ssl;
  SSL_SESSION_free(newest);
  newest = session;
  return 1;
}

/* Connects, shakes hands and exchanges SETTINGS; resumes |session| if it is not NULL. */
static void peer_open(peer_t *peer, uint16_t port, SSL_SESSION *session) {
  memset(peer, 0, sizeof(*peer));
  peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int on = 1, room = 4 << 20;
  struct timeval limit = {60, 0};
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  setsockopt(peer->fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
  setsockopt(peer->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  expect(connect(peer->fd, (struct sockaddr *) &address, sizeof(address)) == 0, "connect");
  peer->ssl = SSL_new(context);
  peer->in = BIO_new(BIO_s_mem());
  peer->out = BIO_new(BIO_s_mem());
  SSL_set_bio(peer->ssl, peer->in, peer->out);
  SSL_set_tlsext_host_name(peer->ssl, "localhost");
  SSL_set_alpn_protos(peer->ssl, (const unsigned char *) "\x02h2", 3);
  if (session != NULL)
    SSL_set_session(peer->ssl, session);
  while (SSL_connect(peer->ssl) != 1) {
    push(peer);
    expect(pull(peer), "the server ended the handshake");
  }
  expect(SSL_session_reused(peer->ssl) == (session != NULL), "resumption");
  nghttp2_session_callbacks *callbacks;
  nghttp2_option *option;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
  nghttp2_option_new(&option);
  /* No WINDOW_UPDATE, which would come at a time of its own. */
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_session_client_new2(&peer->session, callbacks, peer, option);
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(callbacks);
  nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                       {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW}};
  nghttp2_submit_settings(peer->session, NGHTTP2_FLAG_NONE, settings, 2);
  nghttp2_session_set_local_window_size(peer->session, NGHTTP2_FLAG_NONE, 0, (int32_t) WINDOW);
  write_frames(peer);
}

/* Returns when the server has closed it too. */
static SSL_SESSION *peer_close(peer_t *peer) {
  SSL_SESSION *session = newest;
  newest = NULL;
  SSL_shutdown(peer->ssl);
  push(peer);
  shutdown(peer->fd, SHUT_WR);
  while (read_frames(peer)) {
  }
  nghttp2_session_del(peer->session);
  SSL_free(peer->ssl);
  close(peer->fd);
  return session;
}

static void one(peer_t *peer, const char *path) {
  submit(peer, "GET", path);
  await_answers(peer);
}

static void requests(peer_t *peer, const char *method, const char *path, unsigned count,
                     unsigned batch) {
  for (unsigned done = 0; done < count; done += batch) {
    for (unsigned i = 0; i < batch; i++)
      submit(peer, method, path);
    await_answers(peer);
  }
}

/* |session| not NULL: each connection resumes the one before. */
static void connections(uint16_t port, unsigned count, SSL_SESSION **session) {
  for (unsigned i = 0; i < count; i++) {
    peer_t peer;
    peer_open(&peer, port, session != NULL ? *session : NULL);
    one(&peer, "/static");
    SSL_SESSION *next = peer_close(&peer);
    SSL_SESSION_free(session != NULL ? *session : next);
    if (session != NULL)
      *session = next;
  }
}

typedef struct {
  const char *name, *method, *path;
  unsigned count, batch;
  uint32_t answer; /* bytes */
} workload_t;

static void print_circumstances(void) {
  valk_versions_t versions;
  valk_versions(&versions);
  printf("with gcc %s, glibc %s, libuv %s, %s%s, nghttp2 %s%s\n", __VERSION__,
         gnu_get_libc_version(), versions.uv_runtime,
         strncmp(versions.openssl_runtime, "AWS-LC", 6) == 0 ? "" : "OpenSSL ",
         versions.openssl_runtime, versions.nghttp2_runtime,
         __builtin_cpu_supports("avx2") ? ", AVX2" : "");
}

static int be_client(uint16_t port) {
  static const workload_t workloads[] = {
      {"get-13-bytes", "GET", "/hello", 4000, BATCH, 13},
      {"get-13-bytes-one-at-a-time", "GET", "/hello", 1000, 1, 13},
      {"static-route", "GET", "/static", 4000, BATCH, 13},
      {"post-1-kib", "POST", "/echo", 2000, BATCH, POST_SIZE},
      {"get-100-kib", "GET", "/large", 200, 1, LARGE},
  };
  print_circumstances();
  context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(context, on_session);
  SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
  SSL_CTX_set1_groups_list(context, "X25519");
  peer_t control;
  peer_open(&control, port, NULL);
  for (size_t i = 0; i < sizeof(workloads) / sizeof(workloads[0]); i++) {
    const workload_t *workload = &workloads[i];
    char end[64];
    snprintf(end, sizeof(end), "/end/%s", workload->name);
    /* Warm: tables, pools, header compression. */
    requests(&control, workload->method, workload->path, 10 * workload->batch, workload->batch);
    one(&control, end);
    one(&control, "/begin");
    control.body_size = 0;
    requests(&control, workload->method, workload->path, workload->count, workload->batch);
    expect(control.body_size == (uint64_t) workload->count * workload->answer, "an answer's size");
    one(&control, end);
    printf("%s %u\n", workload->name, workload->count);
  }
  static const struct {
    const char *name, *end;
    bool resumed;
  } handshakes[] = {{"connection-full", "/end/connection-full", false},
                    {"connection-resumed", "/end/connection-resumed", true}};
  for (size_t i = 0; i < sizeof(handshakes) / sizeof(handshakes[0]); i++) {
    peer_t first;
    peer_open(&first, port, NULL);
    one(&first, "/static");
    SSL_SESSION *session = peer_close(&first);
    SSL_SESSION **resumed = handshakes[i].resumed ? &session : NULL;
    connections(port, 4, resumed);
    one(&control, handshakes[i].end);
    one(&control, "/begin");
    connections(port, 100, resumed);
    one(&control, handshakes[i].end);
    printf("%s %u\n", handshakes[i].name, 100u);
    SSL_SESSION_free(session);
  }
  SSL_SESSION_free(peer_close(&control));
  SSL_CTX_free(context);
  return 0;
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  return argc > 1 ? be_client((uint16_t) atoi(argv[1])) : serve(argv[0]);
}
