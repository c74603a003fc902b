#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

uint64_t client_clock_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

uint8_t client_pattern(size_t offset) {
  return (uint8_t) (offset * 31 + (offset >> 8) * 7 + (offset >> 16));
}

uint32_t client_checksum(uint32_t sum, const uint8_t *bytes, size_t length) {
  for (size_t i = 0; i < length; i++)
    sum = (sum << 5 | sum >> 27) ^ bytes[i];
  return sum;
}

uint32_t client_pattern_checksum(size_t length) {
  uint32_t sum = 0;
  for (size_t i = 0; i < length; i++) {
    uint8_t byte = client_pattern(i);
    sum = client_checksum(sum, &byte, 1);
  }
  return sum;
}

static client_stream_t *stream_of(client_t *client, int32_t id) {
  for (size_t i = client->stream_count; i-- > 0;) {
    if (client->streams[i].id == id)
      return &client->streams[i];
  }
  return NULL;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_length, const uint8_t *value, size_t value_length, uint8_t flags,
                     void *data) {
  (void) session;
  (void) flags;
  client_stream_t *stream = stream_of(data, frame->hd.stream_id);
  if (stream == NULL)
    return 0;
  if (name_length == 7 && memcmp(name, ":status", 7) == 0) {
    int status = atoi((const char *) value);
    if (status == 100) {
      stream->interim = true;
    } else {
      stream->status = status;
    }
  } else if (name_length == 11 && memcmp(name, "retry-after", 11) == 0) {
    snprintf(stream->retry_after, sizeof(stream->retry_after), "%.*s", (int) value_length, value);
  } else if (name_length == 4 && memcmp(name, "date", 4) == 0) {
    snprintf(stream->date, sizeof(stream->date), "%.*s", (int) value_length, value);
  } else if (name_length == 9 && memcmp(name, "x-trailer", 9) == 0) {
    snprintf(stream->trailer, sizeof(stream->trailer), "%.*s", (int) value_length, value);
  }
  return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
                   size_t length, void *data) {
  (void) session;
  (void) flags;
  client_stream_t *stream = stream_of(data, id);
  if (stream == NULL)
    return 0;
  for (size_t i = 0; i < length && stream->received + i + 1 < sizeof(stream->text); i++) {
    stream->text[stream->received + i] = (char) bytes[i];
  }
  stream->received += length;
  stream->checksum = client_checksum(stream->checksum, bytes, length);
  return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t error, void *data) {
  (void) session;
  client_stream_t *stream = stream_of(data, id);
  if (stream == NULL)
    return 0;
  stream->closed = true;
  stream->error = error;
  return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *data) {
  (void) session;
  client_t *client = data;
  if (frame->hd.type == NGHTTP2_GOAWAY) {
    client->goaway = true;
    client->goaway_code = frame->goaway.error_code;
  } else if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK)) {
    client->ping_acks++;
  }
  return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *out, size_t room,
                         uint32_t *flags, nghttp2_data_source *source, void *data) {
  (void) session;
  (void) source;
  client_stream_t *stream = stream_of(data, id);
  if (stream->hold || (stream->hold_at > 0 && stream->send_offset == stream->hold_at))
    return NGHTTP2_ERR_DEFERRED;
  if (stream->hold_at > 0 && room > stream->hold_at - stream->send_offset)
    room = stream->hold_at - stream->send_offset;
  if (room > stream->send_left)
    room = stream->send_left;
  for (size_t i = 0; i < room; i++)
    out[i] = client_pattern(stream->send_offset + i);
  stream->send_offset += room;
  stream->send_left -= room;
  if (stream->send_left == 0)
    *flags |= NGHTTP2_DATA_FLAG_EOF;
  return (ssize_t) room;
}

bool client_open(client_t *client, uint16_t port, const client_options_t *options) {
  static const client_options_t defaults;
  if (options == NULL)
    options = &defaults;
  memset(client, 0, sizeof(*client));
  signal(SIGPIPE, SIG_IGN);
  client->fd = options->fd > 0 ? options->fd : socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (options->receive_buffer > 0) {
    setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &options->receive_buffer, sizeof(int));
  }
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  struct timeval limit = {10, 0};
  setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  int on = 1;
  setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  client->context = SSL_CTX_new(TLS_client_method());
  if (options->key != NULL) {
    SSL_CTX_use_certificate(client->context, options->certificate);
    SSL_CTX_use_PrivateKey(client->context, options->key);
  }
  client->ssl = SSL_new(client->context);
  SSL_set_fd(client->ssl, client->fd);
  SSL_set_tlsext_host_name(client->ssl, "localhost");
  if (!options->no_alpn) {
    const char *alpn = options->alpn == NULL ? "h2" : options->alpn;
    unsigned char wire[32];
    wire[0] = (unsigned char) strlen(alpn);
    memcpy(wire + 1, alpn, strlen(alpn));
    SSL_set_alpn_protos(client->ssl, wire, (unsigned) strlen(alpn) + 1);
  }
  if ((options->fd == 0 &&
       connect(client->fd, (struct sockaddr *) &address, sizeof(address)) != 0) ||
      SSL_connect(client->ssl) != 1) {
    client->ssl_error = ERR_peek_last_error();
    client->failed = true;
    return false;
  }
  fcntl(client->fd, F_SETFL, fcntl(client->fd, F_GETFL) | O_NONBLOCK);
  nghttp2_session_callbacks *callbacks;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
  nghttp2_option *option;
  nghttp2_option_new(&option);
  client->manual_window = options->manual_window;
  nghttp2_option_set_no_auto_window_update(option, options->manual_window);
  nghttp2_session_client_new2(&client->session, callbacks, client, option);
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(callbacks);
  nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                       {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, options->window}};
  nghttp2_submit_settings(client->session, NGHTTP2_FLAG_NONE, settings,
                          options->window > 0 ? 2 : 1);
  if (options->window > 65535) {
    nghttp2_session_set_local_window_size(client->session, NGHTTP2_FLAG_NONE, 0,
                                          (int32_t) options->window);
  }
  return true;
}

static void free_tls(client_t *client) {
  if (client->session != NULL)
    nghttp2_session_del(client->session);
  SSL_free(client->ssl);
  SSL_CTX_free(client->context);
  free(client->streams);
  client->session = NULL;
  client->streams = NULL;
}

void client_close(client_t *client) {
  if (!client->failed && !client->eof)
    SSL_shutdown(client->ssl);
  free_tls(client);
  if (client->fd >= 0)
    close(client->fd);
  client->fd = -1;
}

void client_vanish(client_t *client, bool reset) {
  struct linger linger = {reset ? 1 : 0, 0};
  if (reset)
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
  close(client->fd);
  client->fd = -1;
  SSL_set_quiet_shutdown(client->ssl, 1);
  free_tls(client);
}

size_t client_request(client_t *client, const char *method, const char *path,
                      const char *const *fields, int64_t body) {
  nghttp2_nv nva[64];
  size_t count = 0;
  const char *fixed[] = {":method",   method,  ":scheme", "https", ":authority",
                         "localhost", ":path", path,      NULL};
  for (int pass = 0; pass < 2; pass++) {
    const char *const *from = pass == 0 ? fixed : fields;
    for (size_t i = 0; from != NULL && from[i] != NULL && count < 64; i += 2) {
      nva[count++] =
          (nghttp2_nv){(uint8_t *) (uintptr_t) from[i], (uint8_t *) (uintptr_t) from[i + 1],
                       strlen(from[i]), strlen(from[i + 1]), NGHTTP2_NV_FLAG_NONE};
    }
  }
  if (client->stream_count == client->stream_capacity) {
    client->stream_capacity = client->stream_capacity * 2 + 16;
    client->streams = realloc(client->streams, client->stream_capacity * sizeof(*client->streams));
  }
  client_stream_t *stream = &client->streams[client->stream_count];
  memset(stream, 0, sizeof(*stream));
  nghttp2_data_provider provider = {.read_callback = read_body};
  if (body >= 0)
    stream->send_left = (size_t) body;
  stream->id =
      nghttp2_submit_request(client->session, NULL, nva, count, body >= 0 ? &provider : NULL, NULL);
  return client->stream_count++;
}

void client_release(client_t *client, size_t index) {
  client->streams[index].hold = false;
  client->streams[index].hold_at = 0;
  nghttp2_session_resume_data(client->session, client->streams[index].id);
}

void client_reset(client_t *client, size_t index, uint32_t code) {
  nghttp2_submit_rst_stream(client->session, NGHTTP2_FLAG_NONE, client->streams[index].id, code);
}

void client_ping(client_t *client) {
  nghttp2_submit_ping(client->session, NGHTTP2_FLAG_NONE, NULL);
}

/* True when something was written or read. */
static bool step(client_t *client) {
  bool moved = false;
  if (client->eof || client->failed)
    return false;
  while (!client->failed) {
    const uint8_t *bytes;
    ssize_t length = nghttp2_session_mem_send(client->session, &bytes);
    if (length <= 0)
      break;
    moved = true;
    for (ssize_t sent = 0; sent < length;) {
      ERR_clear_error(); /* another client's failure is not ours */
      int n = SSL_write(client->ssl, bytes + sent, (int) (length - sent));
      if (n > 0) {
        sent += n;
        continue;
      }
      int error = SSL_get_error(client->ssl, n);
      if (error != SSL_ERROR_WANT_WRITE && error != SSL_ERROR_WANT_READ) {
        client->failed = true;
        break;
      }
      struct pollfd poller = {client->fd, POLLOUT, 0};
      poll(&poller, 1, 1000);
    }
  }
  for (;;) {
    static __thread uint8_t bytes[16384];
    ERR_clear_error();
    int n = SSL_read(client->ssl, bytes, sizeof(bytes));
    if (n > 0) {
      moved = true;
      if (nghttp2_session_mem_recv(client->session, bytes, (size_t) n) < 0)
        client->failed = true;
      continue;
    }
    int error = SSL_get_error(client->ssl, n);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
      break;
    client->eof = true;
    break;
  }
  return moved;
}

void client_pump(client_t *client, int timeout_ms) {
  if (step(client) || client->eof || client->failed)
    return;
  struct pollfd poller = {client->fd, POLLIN, 0};
  if (poll(&poller, 1, timeout_ms) > 0)
    step(client);
}

static bool all_closed(const client_t *client) {
  for (size_t i = 0; i < client->stream_count; i++) {
    if (!client->streams[i].closed)
      return false;
  }
  return true;
}

bool client_wait(client_t *client, size_t index, int timeout_ms) {
  uint64_t end = client_clock_ms() + (uint64_t) timeout_ms;
  while (!client->streams[index].closed && !client->eof && !client->failed) {
    if (client_clock_ms() > end)
      return false;
    client_pump(client, 20);
  }
  return client->streams[index].closed;
}

bool client_wait_all(client_t *client, int timeout_ms) {
  uint64_t end = client_clock_ms() + (uint64_t) timeout_ms;
  while (!all_closed(client) && !client->eof && !client->failed) {
    if (client_clock_ms() > end)
      return false;
    client_pump(client, 20);
  }
  return all_closed(client);
}

bool client_wait_eof(client_t *client, int timeout_ms) {
  uint64_t end = client_clock_ms() + (uint64_t) timeout_ms;
  while (!client->eof && !client->failed) {
    if (client_clock_ms() > end)
      return false;
    client_pump(client, 20);
  }
  return true;
}
