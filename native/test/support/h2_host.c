#include "h2_host.h"

#include <string.h>

#include "test.h"

uint8_t h2_host_pattern(size_t at) {
  return (uint8_t) (at * 31 + at / 251);
}

static void *on_request(void *data, int32_t stream_id, const valk_head_t *head, bool end_stream,
                        int problem) {
  h2_host_t *host = data;
  ASSERT_LT(host->count, (size_t) H2_HOST_STREAMS);
  h2_host_stream_t *stream = calloc(1, sizeof(*stream));
  ASSERT_NOT_NULL(stream);
  host->streams[host->count++] = stream;
  stream->host = host;
  stream->id = stream_id;
  stream->end_stream = end_stream;
  stream->problem = problem;
  stream->field_count = head->field_count;
  stream->content_length = head->content_length;
  stream->expects_continue = head->expects_continue;
  h2_bytes_add(&stream->head, head->text, head->length);
  if (host->on_request != NULL)
    host->on_request(host, stream);
  if (host->refuse) {
    stream->closed = true; /* no other event may come */
    return NULL;
  }
  return stream;
}

static void on_data(void *data, void *owner, const uint8_t *bytes, size_t length) {
  h2_host_t *host = data;
  h2_host_stream_t *stream = owner;
  ASSERT_FALSE(stream->closed);
  ASSERT_FALSE(stream->ended);
  ASSERT_GT(length, 0u);
  stream->received += length;
  if (!host->forget_body)
    h2_bytes_add(&stream->body, bytes, length);
  if (host->on_data != NULL)
    host->on_data(host, stream);
  if (!host->hold_data) {
    valk_h2_consume_stream(host->h2, stream->id, length);
    valk_h2_consume_connection(host->h2, length);
  }
}

static void on_end(void *data, void *owner, valk_bytes_t trailers) {
  (void) data;
  h2_host_stream_t *stream = owner;
  ASSERT_FALSE(stream->closed);
  ASSERT_FALSE(stream->ended);
  ASSERT_FALSE(stream->end_stream);
  stream->ended = true;
  h2_bytes_add(&stream->trailers, trailers.data, trailers.length);
}

static void on_close(void *data, void *owner, uint32_t code, bool by_peer) {
  (void) data;
  h2_host_stream_t *stream = owner;
  ASSERT_FALSE(stream->closed);
  stream->closed = true;
  stream->code = code;
  stream->by_peer = by_peer;
}

static ssize_t on_read(void *data, void *owner, uint8_t *out, size_t room, bool *end,
                       bool *trailers) {
  h2_host_t *host = data;
  h2_host_stream_t *stream = owner;
  ASSERT_FALSE(stream->closed);
  ASSERT_GT(room, 0u);
  ASSERT_LE(room, (size_t) VALK_H2_DATA_MAX);
  stream->reads++;
  if (host->on_read != NULL)
    host->on_read(host, stream);
  if (stream->fail)
    return VALK_H2_FAIL;
  if (stream->defer)
    return VALK_H2_DEFER;
  size_t length = stream->left < room ? stream->left : room;
  for (size_t i = 0; i < length; i++)
    out[i] = h2_host_pattern(stream->sent + i);
  stream->sent += length;
  stream->left -= length;
  *end = stream->left == 0 && !(stream->late_end && length > 0);
  if (*end && stream->trailing != NULL) {
    int result = valk_h2_trailers(host->h2, stream->id, stream->trailing, strlen(stream->trailing));
    if (result == VALK_ENOMEM)
      return VALK_H2_FAIL;
    ASSERT_OK(result);
    *trailers = true;
  }
  if (*end && stream->trailing_before)
    *trailers = true;
  return (ssize_t) length;
}

static const valk_h2_events_t events = {on_request, on_data, on_end, on_close, on_read};

valk_h2_options_t h2_host_options(void) {
  return (valk_h2_options_t){
      .max_concurrent_streams = 100,
      .max_header_list_size = 32768,
      .max_header_fields = 128,
      .stream_window = 65536,
      .connection_window = 1 << 20,
      .reset_budget = 1000,
      .reset_refill = 100,
  };
}

void h2_host_init(h2_host_t *host, const valk_h2_options_t *options) {
  memset(host, 0, sizeof(*host));
  valk_h2_options_t usual = h2_host_options();
  h2_client_init(&host->client);
  host->now_ms = 1000;
  host->ledger = valk_ledger_new(0);
  ASSERT_NOT_NULL(host->ledger);
  ASSERT_OK(
      valk_h2_new(options != NULL ? options : &usual, &events, host, host->ledger, &host->h2));
}

void h2_host_deinit(h2_host_t *host) {
  valk_h2_free(host->h2);
  ASSERT_EQ(atomic_load(&host->ledger->used), 0u);
  valk_ledger_close(host->ledger);
  for (size_t i = 0; i < host->count; i++) {
    h2_host_stream_t *stream = host->streams[i];
    ASSERT_TRUE(stream->closed);
    h2_bytes_free(&stream->head);
    h2_bytes_free(&stream->body);
    h2_bytes_free(&stream->trailers);
    free(stream);
  }
  h2_client_deinit(&host->client);
}

valk_h2_result_t h2_host_receive(h2_host_t *host, h2_bytes_t *bytes) {
  /* A copy of just that size: a read past its end is seen. */
  uint8_t *copy = malloc(bytes->length > 0 ? bytes->length : 1);
  ASSERT_NOT_NULL(copy);
  if (bytes->length > 0)
    memcpy(copy, bytes->data, bytes->length);
  valk_h2_result_t result = valk_h2_receive(host->h2, copy, bytes->length, host->now_ms);
  free(copy);
  bytes->length = 0;
  return result;
}

int h2_host_flush(h2_host_t *host) {
  static uint8_t out[32768];
  for (;;) {
    ssize_t length = valk_h2_send(host->h2, out, sizeof(out));
    if (length < 0)
      return (int) length;
    if (length == 0)
      return 0;
    h2_client_take(&host->client, out, (size_t) length);
  }
}

void h2_host_talk(h2_host_t *host, h2_bytes_t *bytes) {
  ASSERT_EQ((int) h2_host_receive(host, bytes), (int) VALK_H2_OK);
  ASSERT_OK(h2_host_flush(host));
}

void h2_host_begin(h2_host_t *host, uint32_t window) {
  h2_bytes_t out = {0};
  h2_preface(&out, window);
  h2_host_talk(host, &out);
  h2_settings_ack(&out);
  h2_host_talk(host, &out);
  h2_bytes_free(&out);
}

h2_host_stream_t *h2_host_stream(h2_host_t *host, size_t nth) {
  ASSERT_LT(nth, host->count);
  return host->streams[nth];
}

h2_host_stream_t *h2_host_find(h2_host_t *host, int32_t id) {
  for (size_t i = host->count; i-- > 0;) {
    if (host->streams[i]->id == id)
      return host->streams[i];
  }
  return NULL;
}

void h2_host_answer(h2_host_stream_t *stream, size_t length) {
  stream->left = length;
  ASSERT_OK(valk_h2_respond(stream->host->h2, stream->id, 200, "", 0, NULL, -1, true));
}

void h2_host_answer_small(h2_host_t *host, h2_host_stream_t *stream) {
  static const char fields[] = "content-type\ntext/plain\n";
  stream->left = 2;
  ASSERT_OK(valk_h2_respond(host->h2, stream->id, 200, fields, sizeof(fields) - 1,
                            "Mon, 01 Jan 2024 00:00:00 GMT", 2, true));
}

void h2_host_assert_good(h2_host_t *host, int32_t stream_id) {
  void (*usual)(h2_host_t *, h2_host_stream_t *) = host->on_request;
  bool refuse = host->refuse;
  h2_bytes_t out = {0};
  host->on_request = h2_host_answer_small;
  host->refuse = false;
  h2_get(&out, stream_id);
  h2_host_talk(host, &out);
  h2_bytes_free(&out);
  host->on_request = usual;
  host->refuse = refuse;
  h2_host_stream_t *stream = h2_host_find(host, stream_id);
  ASSERT_NOT_NULL(stream);
  ASSERT_STR_EQ(h2_text(&stream->head), TEXT("GET", "/"));
  ASSERT_EQ(stream->problem, 0);
  h2_answer_t *answer = h2_answer(&host->client, stream_id);
  ASSERT_STR_EQ(h2_text(&answer->fields),
                ":status\n200\ndate\nMon, 01 Jan 2024 00:00:00 GMT\ncontent-length\n2\n"
                "content-type\ntext/plain\n");
  ASSERT_EQ(answer->body.length, 2u);
  ASSERT_TRUE(answer->ended);
  ASSERT_TRUE(stream->closed);
  ASSERT_EQ(stream->code, 0u);
}
