/* HTTP/2: floods, each with its result; clients that are merely busy; memory that fails. */
#include <string.h>

#include "core/fault.h"
#include "support/h2_host.h"
#include "test.h"

static h2_host_t host;
static h2_bytes_t out;

/* A session in which stream 1 is open and stream 3 is closed. */
static void begin(void) {
  h2_host_init(&host, NULL);
  h2_host_begin(&host, 0);
  h2_post(&out, 1, "");
  h2_host_talk(&host, &out);
  h2_host_assert_good(&host, 3);
}

static void finish(void) {
  h2_host_deinit(&host);
  h2_bytes_free(&out);
}

static void assert_calm_down(void) {
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_EQ(host.client.goaways, 1u);
  ASSERT_EQ(host.client.goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);
  ASSERT_FALSE(valk_h2_alive(host.h2));
  ASSERT_EQ((int) h2_host_receive(&host, &out), (int) VALK_H2_FLOOD);
}

/* ---- control frames ---- */

static void write_ping(h2_bytes_t *to) {
  h2_frame(to, NGHTTP2_PING, 0, 0, "12345678", 8);
}
static void write_pong(h2_bytes_t *to) {
  h2_frame(to, NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, "12345678", 8);
}
static void write_settings(h2_bytes_t *to) {
  h2_setting(to, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 65535);
}
static void write_priority(h2_bytes_t *to) {
  h2_frame(to, NGHTTP2_PRIORITY, 0, 1, "\0\0\0\0\x10", 5);
}
static void write_priority_update(h2_bytes_t *to) {
  h2_frame(to, NGHTTP2_PRIORITY_UPDATE, 0, 0, "\0\0\0\x01u=2", 7);
}
static void write_connection_window(h2_bytes_t *to) {
  h2_window_update(to, 0, 1);
}
static void write_stream_window(h2_bytes_t *to) {
  h2_window_update(to, 1, 1);
}
static void write_unknown(h2_bytes_t *to) {
  h2_frame(to, 0xf0, 0xff, 0, NULL, 0);
}
static void write_altsvc(h2_bytes_t *to) {
  h2_frame(to, NGHTTP2_ALTSVC, 0, 0, "\0\x01ox", 4);
}
static void write_empty_data(h2_bytes_t *to) {
  h2_frame(to, NGHTTP2_DATA, 0, 1, NULL, 0);
}
static void write_padding(h2_bytes_t *to) {
  h2_frame(to, NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1, "\x02\0\0", 3);
}
static void write_late_reset(h2_bytes_t *to) {
  h2_rst_stream(to, 3, NGHTTP2_CANCEL);
}
static void write_late_headers(h2_bytes_t *to) {
  h2_get(to, 3);
}
static void write_goaway(h2_bytes_t *to) {
  h2_frame(to, NGHTTP2_GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0", 8);
}

static const struct {
  const char *name;
  void (*write)(h2_bytes_t *to);
} controls[] = {
    {"PING", write_ping},
    {"PING acknowledgement", write_pong},
    {"SETTINGS", write_settings},
    {"PRIORITY", write_priority},
    {"PRIORITY_UPDATE", write_priority_update},
    {"WINDOW_UPDATE of the connection", write_connection_window},
    {"WINDOW_UPDATE of a stream", write_stream_window},
    {"a frame of an unknown type", write_unknown},
    {"ALTSVC", write_altsvc},
    {"empty DATA", write_empty_data},
    {"DATA of padding", write_padding},
    {"RST_STREAM of a closed stream", write_late_reset},
    {"HEADERS on a closed stream", write_late_headers},
    {"GOAWAY", write_goaway},
};
#define CONTROLS (sizeof(controls) / sizeof(controls[0]))

/* How many of a frame are taken, each read and answered by itself. */
static unsigned count_taken(void (*write)(h2_bytes_t *to), unsigned most, unsigned interval_ms) {
  for (unsigned taken = 0; taken < most; taken++) {
    host.now_ms += interval_ms;
    write(&out);
    valk_h2_result_t result = h2_host_receive(&host, &out);
    if (result != VALK_H2_OK) {
      ASSERT_EQ((int) result, (int) VALK_H2_FLOOD);
      return taken;
    }
    ASSERT_OK(h2_host_flush(&host));
  }
  return most;
}

TEST(floods_of_control_frames) {
  for (size_t i = 0; i < CONTROLS; i++) {
    begin();
    unsigned taken = count_taken(controls[i].write, 10000, 0);
    ASSERT_MSG(taken >= 1000 && taken < 3000, "%s: %u taken", controls[i].name, taken);
    assert_calm_down();
    h2_host_deinit(&host);
  }
  h2_bytes_free(&out);
}

TEST(control_frames_at_a_calm_pace_are_no_flood) {
  for (size_t i = 0; i < CONTROLS; i++) {
    begin();
    unsigned taken = count_taken(controls[i].write, 5000, 10);
    ASSERT_MSG(taken == 5000, "%s: %u taken", controls[i].name, taken);
    h2_host_deinit(&host);
  }
  h2_bytes_free(&out);
}

/* Newer versions of nghttp2 have a count of their own, which would end the session after 10,000. */
TEST(only_our_own_budgets_count) {
  for (size_t i = 0; i < CONTROLS; i++) {
    if (controls[i].write == write_goaway)
      continue; /* no new request comes after it */
    begin();
    unsigned taken = count_taken(controls[i].write, 25000, 10);
    ASSERT_MSG(taken == 25000, "%s: %u taken", controls[i].name, taken);
    h2_host_assert_good(&host, 101);
    h2_host_deinit(&host);
  }
  h2_bytes_free(&out);
}

/* The answers wait in our memory. */
TEST(pings_that_are_not_read_are_few) {
  begin();
  unsigned taken = 0;
  for (; taken < 2000; taken++) {
    write_ping(&out);
    if (h2_host_receive(&host, &out) != VALK_H2_OK)
      break;
  }
  ASSERT_EQ(taken, 256u);
  assert_calm_down();
  ASSERT_EQ(host.client.pings, 0u);
  finish();
}

/* CVE-2019-9511: an answer drawn out of us byte by byte. */
TEST(one_byte_windows_are_a_flood) {
  h2_host_init(&host, NULL);
  h2_host_begin(&host, 1);
  h2_get(&out, 1);
  h2_host_talk(&host, &out);
  h2_host_answer(h2_host_stream(&host, 0), 100000);
  ASSERT_OK(h2_host_flush(&host));
  unsigned taken = count_taken(write_stream_window, 10000, 0);
  ASSERT_GE(taken, 1000u);
  ASSERT_LT(taken, 3000u);
  assert_calm_down();
  finish();
}

/* nghttp2 1.52 would write into a stream that it has freed. */
TEST(streams_prioritised_before_they_begin) {
  begin();
  for (int32_t id = 5; id < 805; id += 2) {
    uint8_t payload[7] = {0, 0, (uint8_t) (id >> 8), (uint8_t) id, 'u', '=', '1'};
    h2_frame(&out, NGHTTP2_PRIORITY_UPDATE, 0, 0, payload, sizeof(payload));
    h2_host_talk(&host, &out);
    h2_host_assert_good(&host, id);
  }
  finish();
}

/* ---- resets ---- */

static int32_t next_id;

static void write_rapid_reset(h2_bytes_t *to) {
  next_id += 2;
  h2_get(to, next_id);
  h2_rst_stream(to, next_id, NGHTTP2_CANCEL);
}
static void write_malformed(h2_bytes_t *to) {
  next_id += 2;
  h2_headers(to, next_id, HEAD("GET", "/") "Upper\ncase\n", true);
}
static void write_wrong_length(h2_bytes_t *to) {
  next_id += 2;
  h2_post(to, next_id, "content-length\n1\n");
  h2_data(to, next_id, "two", 3, true);
}

TEST(floods_of_resets) {
  void (*const writers[])(h2_bytes_t *) = {write_rapid_reset, write_malformed, write_wrong_length};
  for (size_t i = 0; i < 3; i++) {
    begin();
    next_id = 3;
    /* A browser that cancels a thousand requests is no attacker. */
    ASSERT_EQ(count_taken(writers[i], 1000, 0), 1000u);
    unsigned more = count_taken(writers[i], 100, 0);
    ASSERT_LE(more, 1u);
    assert_calm_down();
    h2_host_deinit(&host);

    begin();
    next_id = 3;
    ASSERT_EQ(count_taken(writers[i], 1000, 0), 1000u);
    host.now_ms += 1000; /* brings a hundred more */
    ASSERT_EQ(count_taken(writers[i], 100, 0), 100u);
    ASSERT_EQ(count_taken(writers[i], 2000, 10), 2000u);
    ASSERT_LE(count_taken(writers[i], 100, 0), 1u);
    h2_host_deinit(&host);
  }
  h2_bytes_free(&out);
}

TEST(streams_beyond_the_limit_count_as_resets) {
  h2_host_init(&host, NULL);
  h2_preface(&out, 0);
  int32_t id = 1;
  for (; id <= 199; id += 2)
    h2_post(&out, id, "");
  h2_host_talk(&host, &out);
  ASSERT_EQ(host.count, 100u);
  /* Our SETTINGS may not have been read yet: refused, and the client may try again. */
  bool flood = false;
  unsigned refused = 0;
  for (; refused < 2000 && !flood; refused++, id += 2) {
    h2_post(&out, id, "");
    flood = h2_host_receive(&host, &out) == VALK_H2_FLOOD;
    ASSERT_OK(h2_host_flush(&host));
    ASSERT_TRUE(flood || h2_answer(&host.client, id)->reset);
    ASSERT_TRUE(flood || h2_answer(&host.client, id)->code == NGHTTP2_REFUSED_STREAM);
  }
  ASSERT_TRUE(flood);
  ASSERT_GE(refused, 1000u);
  ASSERT_EQ(host.count, 100u);
  finish();
}

TEST(resets_by_the_owner_are_not_the_clients) {
  h2_host_init(&host, NULL);
  h2_host_begin(&host, 0);
  int32_t id = 1;
  for (unsigned i = 0; i < 3000; i++, id += 2) {
    host.refuse = i % 2 == 0;
    h2_post(&out, id, "");
    ASSERT_EQ((int) h2_host_receive(&host, &out), (int) VALK_H2_OK);
    if (!host.refuse)
      valk_h2_reset(host.h2, id, NGHTTP2_CANCEL);
    ASSERT_OK(h2_host_flush(&host));
    ASSERT_TRUE(h2_answer(&host.client, id)->reset);
  }
  finish();
}

/* ---- clients that are merely busy ---- */

/* It answers each DATA frame with two WINDOW_UPDATEs and a PING, and all of them late: some clients
 * do no better. */
TEST(a_naive_download_is_no_flood) {
  h2_host_init(&host, NULL);
  h2_host_begin(&host, 16 << 20);
  h2_window_update(&out, 0, 16 << 20);
  h2_get(&out, 1);
  h2_host_talk(&host, &out);
  h2_host_answer(h2_host_stream(&host, 0), 24 << 20);
  ASSERT_OK(h2_host_flush(&host));
  size_t answered = 0;
  while (!h2_answer(&host.client, 1)->ended) {
    ASSERT_LT(answered, host.client.frame_count);
    unsigned waiting = 0;
    for (; answered < host.client.frame_count; answered++) {
      const h2_frame_t *frame = &host.client.frames[answered];
      if (frame->type != NGHTTP2_DATA)
        continue;
      h2_window_update(&out, 0, (uint32_t) frame->length);
      h2_window_update(&out, 1, (uint32_t) frame->length);
      write_ping(&out);
      if (++waiting % 64 == 0) /* as many as one record holds */
        h2_host_talk(&host, &out);
    }
    h2_host_talk(&host, &out);
  }
  ASSERT_EQ(h2_answer(&host.client, 1)->body.length, (size_t) 24 << 20);
  finish();
}

static void defer_when_empty(h2_host_t *of, h2_host_stream_t *stream) {
  (void) of;
  stream->defer = stream->left == 0;
}

/* A small event each time, and two WINDOW_UPDATEs for it. */
TEST(a_naive_reader_of_events_is_no_flood) {
  begin();
  h2_host_stream_t *stream = h2_host_stream(&host, 0);
  host.on_read = defer_when_empty;
  stream->late_end = true;
  h2_host_answer(stream, 0);
  for (unsigned i = 1; i <= 5000; i++) {
    stream->left = 20;
    valk_h2_resume(host.h2, 1);
    ASSERT_OK(h2_host_flush(&host));
    ASSERT_EQ(h2_answer(&host.client, 1)->body.length, i * 20u);
    h2_window_update(&out, 0, 20);
    h2_window_update(&out, 1, 20);
    h2_host_talk(&host, &out);
  }
  finish();
}

TEST(an_upload_in_single_bytes_is_no_flood) {
  begin();
  for (unsigned i = 0; i < 20000; i++)
    h2_data(&out, 1, "x", 1, false);
  h2_host_talk(&host, &out);
  ASSERT_EQ(h2_host_stream(&host, 0)->received, 20000u);
  finish();
}

/* As old browsers do: each request with a PRIORITY and a WINDOW_UPDATE; then all are cancelled. */
TEST(many_requests_with_their_frames_cancelled_at_once) {
  valk_h2_options_t options = h2_host_options();
  options.max_concurrent_streams = 1000;
  options.reset_budget = 10000;
  options.reset_refill = 1000;
  h2_host_init(&host, &options);
  h2_host_begin(&host, 0);
  int32_t id = 1;
  for (unsigned round = 0; round < 5; round++) {
    int32_t first = id;
    for (unsigned i = 0; i < 1000; i++, id += 2) {
      h2_get(&out, id);
      uint8_t priority[5] = {0, 0, 0, 0, 15};
      h2_frame(&out, NGHTTP2_PRIORITY, 0, id, priority, 5);
      h2_window_update(&out, id, 1 << 20);
    }
    h2_host_talk(&host, &out);
    ASSERT_EQ(valk_h2_open_streams(host.h2), 1000u);
    for (; first < id; first += 2)
      h2_rst_stream(&out, first, NGHTTP2_CANCEL);
    h2_host_talk(&host, &out);
    ASSERT_EQ(valk_h2_open_streams(host.h2), 0u);
  }
  finish();
}

/* ---- nghttp2's own client, at full speed ---- */

typedef struct {
  size_t left;
} upload_t;

static ssize_t read_upload(nghttp2_session *session, int32_t stream_id, uint8_t *to, size_t room,
                           uint32_t *flags, nghttp2_data_source *source, void *data) {
  (void) session;
  (void) stream_id;
  (void) data;
  upload_t *upload = source->ptr;
  size_t length = upload->left < room ? upload->left : room;
  memset(to, 'u', length);
  upload->left -= length;
  if (upload->left == 0)
    *flags |= NGHTTP2_DATA_FLAG_EOF;
  return (ssize_t) length;
}

static unsigned clean_ends;

static int count_end(nghttp2_session *session, int32_t stream_id, uint32_t code, void *data) {
  (void) session;
  (void) stream_id;
  (void) data;
  clean_ends += code == NGHTTP2_NO_ERROR;
  return 0;
}

static void answer_large(h2_host_t *of, h2_host_stream_t *stream) {
  of->forget_body = true;
  h2_host_answer(stream, 100000);
}

static nghttp2_nv nv(const char *name, const char *value) {
  return (nghttp2_nv){(uint8_t *) (uintptr_t) name, (uint8_t *) (uintptr_t) value, strlen(name),
                      strlen(value), NGHTTP2_NV_FLAG_NONE};
}

TEST(a_busy_client_of_nghttp2_is_no_flood) {
  h2_host_init(&host, NULL);
  host.on_request = answer_large;
  nghttp2_session_callbacks *callbacks;
  nghttp2_session *client;
  ASSERT_OK(nghttp2_session_callbacks_new(&callbacks));
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, count_end);
  ASSERT_OK(nghttp2_session_client_new(&client, callbacks, NULL));
  nghttp2_session_callbacks_del(callbacks);
  ASSERT_OK(nghttp2_submit_settings(client, 0, NULL, 0));
  nghttp2_nv fields[] = {nv(":method", "POST"), nv(":scheme", "https"), nv(":path", "/"),
                         nv(":authority", "example.com")};
  enum { REQUESTS = 400 };
  static upload_t uploads[REQUESTS];
  static uint8_t sent[20000];
  clean_ends = 0;
  for (unsigned i = 0; clean_ends < REQUESTS;) {
    for (; i < REQUESTS && i < clean_ends + 90; i++) {
      uploads[i].left = 100000;
      nghttp2_data_provider provider = {.source.ptr = &uploads[i], .read_callback = read_upload};
      ASSERT_GT(nghttp2_submit_request(client, NULL, fields, 4, &provider, NULL), 0);
      ASSERT_OK(nghttp2_submit_ping(client, 0, NULL));
    }
    for (;;) {
      const uint8_t *bytes;
      ssize_t length = nghttp2_session_mem_send(client, &bytes);
      ASSERT_GE(length, 0);
      if (length == 0)
        break;
      ASSERT_EQ((int) valk_h2_receive(host.h2, bytes, (size_t) length, host.now_ms),
                (int) VALK_H2_OK);
    }
    ssize_t length;
    bool any = false;
    while ((length = valk_h2_send(host.h2, sent, sizeof(sent))) > 0) {
      any = true;
      ASSERT_EQ(nghttp2_session_mem_recv(client, sent, (size_t) length), length);
    }
    ASSERT_EQ(length, 0);
    ASSERT_TRUE(any || i < REQUESTS || nghttp2_session_want_write(client));
  }
  for (size_t i = 0; i < host.count; i++) {
    ASSERT_EQ(host.streams[i]->received, 100000u);
    ASSERT_TRUE(host.streams[i]->ended);
    ASSERT_EQ(host.streams[i]->code, 0u);
  }
  nghttp2_session_del(client);
  finish();
}

/* ---- memory ---- */

static void answer_if_possible(h2_host_t *of, h2_host_stream_t *stream) {
  static const char fields[] = "content-type\ntext/plain\nx-long-name-of-a-field\n1\n";
  stream->left = 30000;
  stream->trailing = "checksum\n42\n";
  int result = valk_h2_respond(of->h2, stream->id, 200, fields, sizeof(fields) - 1,
                               "Mon, 01 Jan 2024 00:00:00 GMT", -1, true);
  if (result != 0) {
    ASSERT_EQ(result, VALK_ENOMEM);
    valk_h2_reset(of->h2, stream->id, NGHTTP2_INTERNAL_ERROR);
  }
}

static bool good;

/* Gives |out| in two pieces. False when the session is over. */
static void exchange(void) {
  h2_bytes_t rest = {0};
  size_t half = out.length / 2;
  h2_bytes_add(&rest, out.data + half, out.length - half);
  out.length = half;
  for (int i = 0; i < 2 && good; i++) {
    valk_h2_result_t result = h2_host_receive(&host, i == 0 ? &out : &rest);
    ASSERT_TRUE(result == VALK_H2_OK || result == VALK_H2_MEMORY);
    int sent = h2_host_flush(&host);
    ASSERT_TRUE(sent == 0 || sent == VALK_ENOMEM);
    good = result == VALK_H2_OK && sent == 0;
    ASSERT_TRUE(good || valk_h2_wants_write(host.h2)); /* or its owner would not learn of it */
    ASSERT_TRUE(good || !valk_h2_alive(host.h2));
  }
  out.length = 0;
  h2_bytes_free(&rest);
}

static void run_session(void) {
  good = true;
  host.on_request = answer_if_possible;
  h2_preface(&out, 100000);
  h2_settings_ack(&out);
  h2_headers(&out, 1, HEAD("GET", "/") "a-field\nwith a value\nanother\nwith another value\n",
             true);
  exchange();
  h2_bytes_t block = {0};
  h2_block(&block, HEAD("POST", "/indexed") "indexed\nvalue\ncookie\na\ncookie\nb\n", true);
  h2_frame(&out, NGHTTP2_HEADERS, 0, 3, block.data, 20);
  h2_frame(&out, NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 3, block.data + 20,
           block.length - 20);
  h2_bytes_free(&block);
  h2_data_fill(&out, 3, 40000, false);
  h2_headers(&out, 3, "trailer\nof the request\n", true);
  exchange();
  for (int32_t id = 5; id < 45; id += 2)
    h2_get(&out, id);
  h2_rst_stream(&out, 43, NGHTTP2_CANCEL);
  h2_headers(&out, 45, HEAD("GET", "/") "Malformed\n1\n", true);
  h2_window_update(&out, 0, 1 << 20);
  write_ping(&out);
  exchange();
  if (!good)
    return;
  valk_h2_open_window(host.h2, 41, 200000);
  valk_h2_goaway_notice(host.h2);
  valk_h2_goaway(host.h2, 0);
  write_settings(&out);
  exchange();
}

static void fail_allocations(bool sticky) {
  for (uint64_t nth = 1;; nth++) {
    h2_host_init(&host, NULL);
    valk__fault_arm(VALK_FAULT_MALLOC, nth, sticky, 0);
    run_session();
    bool reached = valk__fault_count(VALK_FAULT_MALLOC) >= nth;
    valk__fault_arm(VALK_FAULT_MALLOC, 0, false, 0);
    if (!reached) {
      ASSERT_TRUE(good);
      for (size_t i = 0; i < host.count; i++)
        ASSERT_EQ(h2_answer(&host.client, host.streams[i]->id)->body.length,
                  host.streams[i]->id == 43 ? 0u : 30000u);
      ASSERT_GT(nth, 100u);
    }
    h2_host_deinit(&host);
    if (!reached)
      return;
  }
}

TEST(each_allocation_fails_once) {
  fail_allocations(false);
  h2_bytes_free(&out);
}

TEST(each_allocation_and_all_after_it_fail) {
  fail_allocations(true);
  h2_bytes_free(&out);
}

TEST(a_session_that_cannot_begin) {
  static const valk_h2_events_t none = {0};
  valk_ledger_t *ledger = valk_ledger_new(0);
  ASSERT_NOT_NULL(ledger);
  valk_h2_options_t options = h2_host_options();
  for (uint64_t nth = 1;; nth++) {
    valk_h2_t *h2 = NULL;
    valk__fault_arm(VALK_FAULT_MALLOC, nth, false, 0);
    int result = valk_h2_new(&options, &none, NULL, ledger, &h2);
    valk__fault_arm(VALK_FAULT_MALLOC, 0, false, 0);
    if (result == 0) {
      ASSERT_GT(nth, 5u);
      valk_h2_free(h2);
      break;
    }
    ASSERT_EQ(result, VALK_ENOMEM);
    ASSERT_NULL(h2);
    ASSERT_EQ(atomic_load(&ledger->used), 0u);
  }
  valk_ledger_close(ledger);
}

TEST(a_full_ledger_ends_the_session) {
  h2_host_init(&host, NULL);
  h2_host_begin(&host, 0);
  host.ledger->limit = atomic_load(&host.ledger->used) + 20000;
  valk_h2_result_t result = VALK_H2_OK;
  for (int32_t id = 1; id < 199 && result == VALK_H2_OK; id += 2) {
    h2_post(&out, id, "");
    result = h2_host_receive(&host, &out);
  }
  ASSERT_EQ((int) result, (int) VALK_H2_MEMORY);
  ASSERT_LE(atomic_load(&host.ledger->peak), host.ledger->limit);
  ASSERT_EQ(valk_h2_respond(host.h2, 1, 200, "", 0, NULL, -1, false), VALK_ESTALE);
  ASSERT_EQ(h2_host_flush(&host), VALK_ENOMEM);
  finish();
}

/* Wherever the ledger's limit is met, in a session that is otherwise the same. */
TEST(a_ledger_that_fills_up_anywhere) {
  size_t whole = 0;
  for (size_t limit = 0; limit == 0 || good == false || limit < whole; limit += 997) {
    h2_host_init(&host, NULL);
    size_t begun = atomic_load(&host.ledger->used);
    if (limit > 0)
      host.ledger->limit = begun + limit;
    run_session();
    if (limit == 0)
      whole = atomic_load(&host.ledger->peak) - begun;
    h2_host_deinit(&host);
    ASSERT_LT(limit, whole + 100000);
  }
  ASSERT_GT(whole, 10000u);
  h2_bytes_free(&out);
}
