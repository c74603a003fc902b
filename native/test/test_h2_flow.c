/* HTTP/2: flow control both ways, resets at each stage, GOAWAY. */
#include <string.h>

#include "support/h2_host.h"
#include "test.h"

static h2_host_t host;
static h2_bytes_t out;

static void begin_window(uint32_t window) {
  h2_host_init(&host, NULL);
  h2_host_begin(&host, window);
}

static void begin(void) {
  begin_window(0);
}

static void finish(void) {
  h2_host_deinit(&host);
  h2_bytes_free(&out);
}

static h2_answer_t *answer_of(int32_t stream_id) {
  return h2_answer(&host.client, stream_id);
}

static void assert_pattern(const h2_bytes_t *body) {
  for (size_t i = 0; i < body->length; i++)
    ASSERT_EQ(body->data[i], h2_host_pattern(i));
}

/* ---- what we send ---- */

TEST(data_fits_a_record_and_the_peers_frames) {
  begin_window(1 << 20);
  h2_window_update(&out, 0, 1 << 20);
  h2_get(&out, 1);
  h2_host_talk(&host, &out);
  h2_host_answer(h2_host_stream(&host, 0), 500000);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_EQ(answer_of(1)->body.length, 500000u);
  ASSERT_EQ(answer_of(1)->largest, (size_t) VALK_H2_DATA_MAX);
  ASSERT_TRUE(answer_of(1)->ended);
  assert_pattern(&answer_of(1)->body);
  finish();
}

TEST(a_window_of_one_byte) {
  begin_window(1);
  h2_get(&out, 1);
  h2_host_talk(&host, &out);
  ASSERT_TRUE(valk_h2_can_send(host.h2, 1));
  h2_host_answer(h2_host_stream(&host, 0), 50);
  ASSERT_OK(h2_host_flush(&host));
  for (size_t i = 1; i < 50; i++) {
    ASSERT_EQ(answer_of(1)->body.length, i);
    ASSERT_FALSE(valk_h2_can_send(host.h2, 1));
    ASSERT_FALSE(valk_h2_wants_write(host.h2));
    h2_window_update(&out, 1, 1);
    h2_host_talk(&host, &out);
  }
  ASSERT_TRUE(answer_of(1)->ended);
  assert_pattern(&answer_of(1)->body);
  ASSERT_FALSE(valk_h2_can_send(host.h2, 1)); /* gone */
  finish();
}

TEST(the_connections_window_bounds_all_streams) {
  begin_window(1 << 20);
  for (int32_t id = 1; id <= 5; id += 2)
    h2_get(&out, id);
  h2_host_talk(&host, &out);
  for (size_t i = 0; i < 3; i++)
    h2_host_answer(h2_host_stream(&host, i), 40000);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_EQ(answer_of(1)->body.length + answer_of(3)->body.length + answer_of(5)->body.length,
            65535u);
  ASSERT_FALSE(valk_h2_can_send(host.h2, 1));
  ASSERT_FALSE(valk_h2_wants_write(host.h2));
  h2_window_update(&out, 0, 100000);
  h2_host_talk(&host, &out);
  for (int32_t id = 1; id <= 5; id += 2) {
    ASSERT_EQ(answer_of(id)->body.length, 40000u);
    assert_pattern(&answer_of(id)->body);
  }
  finish();
}

TEST(a_smaller_initial_window_holds_streams_that_are_open) {
  begin();
  h2_get(&out, 1);
  h2_host_talk(&host, &out);
  h2_host_answer(h2_host_stream(&host, 0), 100000);
  h2_setting(&out, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0);
  ASSERT_EQ((int) h2_host_receive(&host, &out), (int) VALK_H2_OK);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_EQ(answer_of(1)->body.length, 0u);
  h2_setting(&out, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1000);
  h2_host_talk(&host, &out);
  ASSERT_EQ(answer_of(1)->body.length, 1000u);
  h2_setting(&out, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 500);
  h2_window_update(&out, 1, 600);
  h2_host_talk(&host, &out);
  ASSERT_EQ(answer_of(1)->body.length, 1100u);
  finish();
}

TEST(a_deferred_body_goes_on_when_resumed) {
  begin();
  h2_get(&out, 1);
  h2_host_talk(&host, &out);
  h2_host_stream_t *stream = h2_host_stream(&host, 0);
  stream->defer = true;
  h2_host_answer(stream, 30);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_GT(answer_of(1)->fields.length, 0u);
  unsigned reads = stream->reads;
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_EQ(stream->reads, reads); /* not asked again */
  ASSERT_FALSE(valk_h2_wants_write(host.h2));
  stream->defer = false;
  valk_h2_resume(host.h2, 1);
  valk_h2_resume(host.h2, 1);
  valk_h2_resume(host.h2, 3);
  ASSERT_TRUE(valk_h2_wants_write(host.h2));
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_EQ(answer_of(1)->body.length, 30u);
  ASSERT_TRUE(answer_of(1)->ended);
  valk_h2_resume(host.h2, 1);
  finish();
}

TEST(a_body_that_fails_is_reset) {
  begin();
  h2_get(&out, 1);
  h2_post(&out, 3, "");
  h2_host_talk(&host, &out);
  for (size_t i = 0; i < 2; i++) {
    h2_host_stream_t *stream = h2_host_stream(&host, i);
    h2_host_answer(stream, 100000);
    ASSERT_OK(h2_host_flush(&host));
    stream->fail = true;
    h2_window_update(&out, stream->id, 100000);
    h2_window_update(&out, 0, 100000);
    h2_host_talk(&host, &out);
    ASSERT_TRUE(answer_of(stream->id)->reset);
    ASSERT_EQ(answer_of(stream->id)->code, NGHTTP2_INTERNAL_ERROR);
    ASSERT_TRUE(stream->closed);
    ASSERT_EQ(stream->code, NGHTTP2_INTERNAL_ERROR);
    ASSERT_FALSE(stream->by_peer);
  }
  h2_host_assert_good(&host, 5);
  finish();
}

static void reset_in_read(h2_host_t *of, h2_host_stream_t *stream) {
  if (stream->reads == 2)
    valk_h2_reset(of->h2, stream->id, NGHTTP2_CANCEL);
}

TEST(a_reset_from_inside_a_read) {
  begin();
  host.on_read = reset_in_read;
  h2_get(&out, 1);
  h2_host_talk(&host, &out);
  h2_host_answer(h2_host_stream(&host, 0), 60000);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_EQ(h2_host_stream(&host, 0)->reads, 2u);
  ASSERT_EQ(answer_of(1)->data_frames, 1u);
  ASSERT_TRUE(answer_of(1)->reset);
  ASSERT_EQ(answer_of(1)->code, NGHTTP2_CANCEL);
  host.on_read = NULL;
  h2_host_assert_good(&host, 3);
  finish();
}

/* ---- what we receive ---- */

TEST(windows_open_only_by_consumption) {
  begin();
  host.hold_data = true;
  h2_post(&out, 1, "");
  h2_data_fill(&out, 1, 65536, false);
  h2_host_talk(&host, &out);
  h2_host_stream_t *stream = h2_host_stream(&host, 0);
  ASSERT_EQ(stream->received, 65536u);
  ASSERT_EQ(answer_of(1)->window, 0u);
  uint64_t connection = host.client.window;
  valk_h2_consume_stream(host.h2, 1, 40000);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_EQ(answer_of(1)->window, 40000u);
  ASSERT_EQ(host.client.window, connection);
  valk_h2_consume_stream(host.h2, 1, 1000000); /* no more than was delivered */
  valk_h2_consume_stream(host.h2, 3, 10);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_EQ(answer_of(1)->window, 40000u); /* what is left is too little for a frame */
  h2_data_fill(&out, 1, 40000, false);
  h2_host_talk(&host, &out);
  valk_h2_consume_stream(host.h2, 1, 40000);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_EQ(answer_of(1)->window, 65536u + 40000u);
  ASSERT_EQ(stream->received, 65536u + 40000u);
  valk_h2_consume_connection(host.h2, SIZE_MAX);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_EQ(host.client.window, connection); /* a tenth of it was used */
  finish();
}

/* RFC 9113 section 6.9.1: an error of the stream, as nghttp2 1.52 has it, or of the connection, as
 * later ones do. */
TEST(bytes_beyond_the_window_are_not_delivered) {
  begin();
  host.hold_data = true;
  h2_post(&out, 1, "");
  h2_data_fill(&out, 1, 60000, false);
  h2_data_fill(&out, 1, 16384, false);
  valk_h2_result_t result = h2_host_receive(&host, &out);
  ASSERT_OK(h2_host_flush(&host));
  h2_host_stream_t *stream = h2_host_stream(&host, 0);
  ASSERT_LE(stream->received, 65536u);
  if (result == VALK_H2_OK) {
    ASSERT_TRUE(answer_of(1)->reset);
    ASSERT_EQ(answer_of(1)->code, NGHTTP2_FLOW_CONTROL_ERROR);
    ASSERT_EQ(stream->code, NGHTTP2_FLOW_CONTROL_ERROR);
    h2_host_assert_good(&host, 3);
  } else {
    ASSERT_EQ((int) result, (int) VALK_H2_PROTOCOL);
    ASSERT_EQ(host.client.goaway_code, NGHTTP2_FLOW_CONTROL_ERROR);
  }
  finish();
}

TEST(the_connections_window_passed_ends_the_connection) {
  begin();
  host.hold_data = true;
  for (int32_t id = 1; id <= 33; id += 2) {
    h2_post(&out, id, "");
    h2_data_fill(&out, id, 65536, false);
  }
  ASSERT_EQ((int) h2_host_receive(&host, &out), (int) VALK_H2_PROTOCOL);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_EQ(host.client.goaway_code, NGHTTP2_FLOW_CONTROL_ERROR);
  size_t total = 0;
  for (size_t i = 0; i < host.count; i++)
    total += host.streams[i]->received;
  ASSERT_LE(total, (size_t) 1 << 20);
  finish();
}

TEST(padding_is_consumed_by_itself) {
  begin();
  host.hold_data = true;
  h2_post(&out, 1, "");
  uint8_t payload[256] = {254, 'x'};
  for (int i = 0; i < 200; i++)
    h2_frame(&out, NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1, payload, sizeof(payload));
  h2_host_talk(&host, &out);
  ASSERT_EQ(h2_host_stream(&host, 0)->received, 200u);
  /* 51,200 bytes of the window were used, and come back but for the 200 of the body. */
  ASSERT_GE(answer_of(1)->window, 32768u);
  valk_h2_consume_stream(host.h2, 1, 200);
  for (int i = 0; i < 300; i++)
    h2_frame(&out, NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1, payload, sizeof(payload));
  h2_host_talk(&host, &out);
  ASSERT_EQ(h2_host_stream(&host, 0)->received, 500u);
  ASSERT_FALSE(answer_of(1)->reset);
  finish();
}

TEST(a_streams_window_grows) {
  begin();
  host.hold_data = true;
  h2_post(&out, 1, "");
  h2_host_talk(&host, &out);
  valk_h2_open_window(host.h2, 1, 10); /* never shrinks */
  ASSERT_FALSE(valk_h2_wants_write(host.h2));
  valk_h2_open_window(host.h2, 1, 200000);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_EQ(answer_of(1)->window, 200000u - 65536u);
  h2_data_fill(&out, 1, 200000, false);
  h2_host_talk(&host, &out);
  ASSERT_EQ(h2_host_stream(&host, 0)->received, 200000u);
  ASSERT_FALSE(answer_of(1)->reset);
  valk_h2_open_window(host.h2, 99, 200000);
  finish();
}

/* Until the client has our SETTINGS, streams have the protocol's 65,535. What was asked for in the
 * meantime holds afterwards too. */
TEST(windows_asked_for_before_the_settings_are_known) {
  valk_h2_options_t options = h2_host_options();
  options.stream_window = 8192;
  h2_host_init(&host, &options);
  host.hold_data = true;
  h2_preface(&out, 0);
  h2_post(&out, 1, "");
  h2_post(&out, 3, "");
  h2_post(&out, 5, "");
  h2_host_talk(&host, &out);
  valk_h2_open_window(host.h2, 1, 20000);
  valk_h2_open_window(host.h2, 3, 100000);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_EQ(answer_of(1)->window, 0u);
  ASSERT_EQ(answer_of(3)->window, 100000u - 65535u);
  h2_settings_ack(&out);
  h2_host_talk(&host, &out);
  ASSERT_EQ(answer_of(1)->window, 20000u - 8192u);
  ASSERT_EQ(answer_of(3)->window, 100000u - 8192u);
  ASSERT_EQ(answer_of(5)->window, 0u);
  finish();
}

/* ---- the connection's window never leaks ---- */

/* One upload that ends midway in the given way, with bytes on their way that come too late. */
static void end_midway(int32_t stream_id, unsigned way) {
  host.refuse = way == 3;
  h2_post(&out, stream_id, way == 4 ? "content-length\n10\n" : way == 5 ? "bad\n\x01\n" : "");
  if (way == 7) {
    uint8_t padded[1000] = {200};
    h2_frame(&out, NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, stream_id, padded, sizeof(padded));
  }
  h2_data_fill(&out, stream_id, 9000, false);
  if (way == 0)
    h2_rst_stream(&out, stream_id, NGHTTP2_CANCEL);
  if (way == 6) /* the reset overtakes a frame that is half here */
    out.length -= 4000;
  ASSERT_EQ((int) h2_host_receive(&host, &out), (int) VALK_H2_OK);
  if (way == 1 || way >= 6)
    valk_h2_reset(host.h2, stream_id, NGHTTP2_CANCEL);
  if (way == 2) {
    ASSERT_OK(valk_h2_respond(host.h2, stream_id, 413, "", 0, NULL, -1, false));
    valk_h2_reset(host.h2, stream_id, NGHTTP2_NO_ERROR);
  }
  if (stream_id / 16 % 2 == 0)
    ASSERT_OK(h2_host_flush(&host));
  if (way == 6) {
    static const uint8_t rest[4000];
    h2_bytes_add(&out, rest, sizeof(rest));
  }
  if (way != 0)
    h2_data_fill(&out, stream_id, 7000, way % 2 == 0 && way != 4);
  h2_host_talk(&host, &out);
  host.refuse = false;
}

TEST(a_thousand_uploads_cut_short_leak_no_window) {
  valk_h2_options_t options = h2_host_options();
  options.connection_window = 1 << 17;
  h2_host_init(&host, &options);
  h2_host_begin(&host, 0);
  int32_t stream_id = 1;
  size_t total = 0;
  for (unsigned i = 0; i < 1000; i++, stream_id += 2) {
    host.now_ms += 20;
    end_midway(stream_id, i % 8);
    total += 9000 + (i % 8 == 0 ? 0 : 7000) + (i % 8 == 7 ? 1000 : 0);
    ASSERT_EQ(valk_h2_open_streams(host.h2), 0u);
  }
  /* All that was received has come back, up to what nghttp2 keeps until it is worth a frame. */
  uint64_t given = host.client.window - ((1 << 17) - 65535);
  ASSERT_LE(given, total);
  ASSERT_LE(total - given, 1u << 16);
  host.forget_body = true;
  h2_post(&out, stream_id, "");
  h2_host_talk(&host, &out);
  uint64_t stream_window = 65536, used = 0;
  for (size_t sent = 0; sent < 10u << 20;) {
    size_t room = (size_t) (stream_window + answer_of(stream_id)->window - used);
    ASSERT_GT(room, 0u);
    size_t piece = room < 16384 ? room : 16384;
    h2_data_fill(&out, stream_id, piece, false);
    h2_host_talk(&host, &out);
    sent += piece;
    used += piece;
  }
  h2_data_fill(&out, stream_id, 0, true);
  h2_host_talk(&host, &out);
  ASSERT_TRUE(h2_host_find(&host, stream_id)->ended);
  ASSERT_FALSE(answer_of(stream_id)->reset);
  h2_host_assert_good(&host, stream_id + 2);
  finish();
}

/* ---- resets ---- */

TEST(the_client_resets_at_each_stage) {
  begin();
  for (unsigned stage = 0; stage < 5; stage++) {
    int32_t id = (int32_t) (2 * stage + 1);
    if (stage == 0) {
      h2_post(&out, id, "");
      h2_rst_stream(&out, id, NGHTTP2_CANCEL);
      h2_host_talk(&host, &out);
    } else {
      h2_post(&out, id, "");
      h2_host_talk(&host, &out);
      h2_host_stream_t *stream = h2_host_stream(&host, stage);
      if (stage >= 2)
        h2_host_answer(stream, 200000);
      if (stage >= 3)
        ASSERT_OK(h2_host_flush(&host));
      if (stage == 4)
        valk_h2_reset(host.h2, id, NGHTTP2_INTERNAL_ERROR); /* crosses the client's */
      h2_rst_stream(&out, id, NGHTTP2_CANCEL);
      h2_host_talk(&host, &out);
    }
    h2_host_stream_t *stream = h2_host_stream(&host, stage);
    ASSERT_TRUE(stream->closed);
    ASSERT_EQ(stream->code, NGHTTP2_CANCEL);
    ASSERT_TRUE(stream->by_peer);
    ASSERT_EQ(valk_h2_counts(host.h2)->resets_by_peer, stage + 1);
    ASSERT_EQ(valk_h2_respond(host.h2, id, 200, "", 0, NULL, -1, false), VALK_ESTALE);
    valk_h2_reset(host.h2, id, NGHTTP2_CANCEL);
    ASSERT_OK(h2_host_flush(&host));
  }
  h2_window_update(&out, 0, 1 << 20);
  h2_host_talk(&host, &out);
  h2_host_assert_good(&host, 99);
  finish();
}

TEST(we_reset_at_each_stage) {
  begin();
  for (unsigned stage = 0; stage < 4; stage++) {
    int32_t id = (int32_t) (2 * stage + 1);
    h2_post(&out, id, "");
    h2_data(&out, id, "some", 4, stage == 3);
    h2_host_talk(&host, &out);
    h2_host_stream_t *stream = h2_host_stream(&host, stage);
    if (stage >= 1)
      h2_host_answer(stream, 30000);
    if (stage >= 2) {
      stream->defer = true;
      ASSERT_OK(h2_host_flush(&host));
    }
    valk_h2_reset(host.h2, id, NGHTTP2_CANCEL);
    valk_h2_reset(host.h2, id, NGHTTP2_INTERNAL_ERROR); /* the first one counts */
    ASSERT_EQ(valk_h2_respond(host.h2, id, 200, "", 0, NULL, -1, false), VALK_ESTALE);
    ASSERT_EQ(valk_h2_trailers(host.h2, id, "a\n1\n", 4), VALK_ESTALE);
    ASSERT_OK(h2_host_flush(&host));
    ASSERT_TRUE(answer_of(id)->reset);
    ASSERT_EQ(answer_of(id)->code, NGHTTP2_CANCEL);
    ASSERT_EQ(answer_of(id)->fields.length > 0, stage >= 2);
    ASSERT_EQ(answer_of(id)->body.length, 0u);
    ASSERT_TRUE(stream->closed);
    ASSERT_EQ(stream->code, NGHTTP2_CANCEL);
    ASSERT_FALSE(stream->by_peer);
    ASSERT_EQ(h2_find_frame(&host.client, NGHTTP2_RST_STREAM, id, 1), -1);
    /* What comes late is not the stream's any more. */
    if (stage < 3)
      h2_data(&out, id, "late", 4, true);
    h2_host_talk(&host, &out);
    ASSERT_EQ(stream->received, 4u);
  }
  ASSERT_EQ(valk_h2_counts(host.h2)->resets_by_peer, 0u);
  h2_host_assert_good(&host, 99);
  finish();
}

/* RFC 9113 section 8.1: RST_STREAM(NO_ERROR) follows the whole answer. */
TEST(a_reset_without_error_waits_for_the_answers_end) {
  for (unsigned way = 0; way < 4; way++) {
    begin();
    h2_post(&out, 1, "");
    h2_host_talk(&host, &out);
    h2_host_stream_t *stream = h2_host_stream(&host, 0);
    if (way == 0) {
      ASSERT_OK(valk_h2_respond(host.h2, 1, 413, "", 0, NULL, 0, false));
    } else {
      stream->trailing = way == 2 ? "a\n1\n" : NULL;
      h2_host_answer(stream, 100000);
    }
    valk_h2_reset(host.h2, 1, NGHTTP2_NO_ERROR);
    ASSERT_OK(h2_host_flush(&host));
    if (way > 0) {
      ASSERT_EQ(answer_of(1)->body.length, 65535u);
      ASSERT_FALSE(answer_of(1)->reset);
      h2_data(&out, 1, "unwanted", 8, way == 3);
      h2_window_update(&out, 1, 100000);
      h2_window_update(&out, 0, 100000);
      h2_host_talk(&host, &out);
      ASSERT_EQ(answer_of(1)->body.length, 100000u);
      ASSERT_EQ(answer_of(1)->trailers.length, way == 2 ? 4u : 0u);
    }
    ASSERT_TRUE(answer_of(1)->ended);
    ASSERT_EQ(stream->received, 0u);
    ASSERT_FALSE(stream->ended);
    /* None is needed when the request has ended. */
    ASSERT_EQ(answer_of(1)->reset, way != 3);
    ASSERT_EQ(answer_of(1)->code, NGHTTP2_NO_ERROR);
    ASSERT_EQ(h2_find_frame(&host.client, NGHTTP2_RST_STREAM, 1, 1), -1);
    ASSERT_TRUE(stream->closed);
    ASSERT_EQ(stream->code, 0u);
    ASSERT_FALSE(stream->by_peer);
    h2_host_assert_good(&host, 3);
    h2_host_deinit(&host);
  }
  h2_bytes_free(&out);
}

TEST(an_error_overtakes_a_reset_that_waits) {
  begin();
  h2_post(&out, 1, "");
  h2_host_talk(&host, &out);
  h2_host_answer(h2_host_stream(&host, 0), 100000);
  valk_h2_reset(host.h2, 1, NGHTTP2_NO_ERROR);
  ASSERT_OK(h2_host_flush(&host));
  valk_h2_reset(host.h2, 1, NGHTTP2_CANCEL);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_TRUE(answer_of(1)->reset);
  ASSERT_EQ(answer_of(1)->code, NGHTTP2_CANCEL);
  ASSERT_EQ(h2_host_stream(&host, 0)->code, NGHTTP2_CANCEL);
  finish();
}

TEST(a_reset_without_error_after_the_answer_was_sent) {
  begin();
  h2_post(&out, 1, "");
  h2_host_talk(&host, &out);
  h2_host_answer(h2_host_stream(&host, 0), 10);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_TRUE(answer_of(1)->ended);
  ASSERT_FALSE(answer_of(1)->reset);
  valk_h2_reset(host.h2, 1, NGHTTP2_NO_ERROR);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_TRUE(answer_of(1)->reset);
  ASSERT_EQ(answer_of(1)->code, NGHTTP2_NO_ERROR);
  ASSERT_TRUE(h2_host_stream(&host, 0)->closed);
  finish();
}

/* ---- GOAWAY ---- */

TEST(goaway_in_two_steps) {
  begin();
  h2_get(&out, 1);
  h2_host_talk(&host, &out);
  valk_h2_goaway_notice(host.h2);
  valk_h2_goaway_notice(host.h2);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_EQ(host.client.goaways, 1u);
  ASSERT_EQ(host.client.goaway_last, INT32_MAX);
  ASSERT_EQ(host.client.goaway_code, NGHTTP2_NO_ERROR);
  /* What was on its way is still taken. */
  h2_get(&out, 3);
  h2_host_talk(&host, &out);
  ASSERT_EQ(host.count, 2u);
  valk_h2_goaway(host.h2, 0);
  valk_h2_goaway(host.h2, 0);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_EQ(host.client.goaways, 2u);
  ASSERT_EQ(host.client.goaway_last, 3);
  h2_get(&out, 5);
  h2_host_talk(&host, &out);
  ASSERT_EQ(host.count, 2u);
  ASSERT_TRUE(valk_h2_alive(host.h2));
  h2_host_answer(h2_host_stream(&host, 0), 20000);
  h2_host_answer(h2_host_stream(&host, 1), 20000);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_EQ(answer_of(1)->body.length, 20000u);
  ASSERT_EQ(answer_of(3)->body.length, 20000u);
  ASSERT_EQ(h2_host_stream(&host, 0)->code, 0u);
  ASSERT_FALSE(valk_h2_alive(host.h2));
  finish();
}

TEST(goaway_with_a_code_lets_streams_finish) {
  begin();
  h2_get(&out, 1);
  h2_host_talk(&host, &out);
  valk_h2_goaway(host.h2, NGHTTP2_ENHANCE_YOUR_CALM);
  valk_h2_goaway_notice(host.h2); /* too late for it */
  /* A request that comes before the GOAWAY is out is above its last stream. */
  h2_get(&out, 3);
  h2_host_talk(&host, &out);
  ASSERT_EQ(host.client.goaways, 1u);
  ASSERT_EQ(host.client.goaway_last, 1);
  ASSERT_EQ(host.client.goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);
  ASSERT_TRUE(h2_host_stream(&host, 1)->closed);
  ASSERT_EQ(h2_host_stream(&host, 1)->code, NGHTTP2_REFUSED_STREAM);
  ASSERT_FALSE(h2_host_stream(&host, 1)->by_peer);
  ASSERT_TRUE(valk_h2_alive(host.h2));
  h2_host_answer(h2_host_stream(&host, 0), 10);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_TRUE(answer_of(1)->ended);
  ASSERT_FALSE(valk_h2_alive(host.h2));
  finish();
}

TEST(goaway_in_the_middle_of_a_block) {
  begin();
  h2_bytes_t block = {0};
  h2_block(&block, HEAD("GET", "/") "a\n1\n", true);
  h2_post(&out, 1, "");
  h2_host_talk(&host, &out);
  valk_h2_goaway(host.h2, 0);
  h2_frame(&out, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_STREAM, 3, block.data, 10);
  h2_host_talk(&host, &out);
  ASSERT_EQ(host.client.goaway_last, 1);
  ASSERT_FALSE(valk_h2_in_header_block(host.h2)); /* its stream is closed */
  h2_frame(&out, NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 3, block.data + 10,
           block.length - 10);
  h2_data(&out, 1, "the rest", 8, true);
  h2_host_talk(&host, &out);
  ASSERT_EQ(host.count, 1u);
  ASSERT_STR_EQ(h2_text(&h2_host_stream(&host, 0)->body), "the rest");
  h2_host_answer(h2_host_stream(&host, 0), 10);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_TRUE(answer_of(1)->ended);
  ASSERT_FALSE(valk_h2_alive(host.h2));
  h2_bytes_free(&block);
  finish();
}

TEST(the_clients_goaway) {
  begin();
  h2_get(&out, 1);
  h2_frame(&out, NGHTTP2_GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0bye", 11);
  h2_host_talk(&host, &out);
  ASSERT_TRUE(valk_h2_alive(host.h2));
  h2_host_answer(h2_host_stream(&host, 0), 10);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_TRUE(answer_of(1)->ended);
  ASSERT_FALSE(valk_h2_alive(host.h2));
  finish();
}

/* ---- events that call back, and the end ---- */

static void respond_and_reset(h2_host_t *of, h2_host_stream_t *stream) {
  ASSERT_OK(valk_h2_respond(of->h2, stream->id, 413, "", 0, NULL, 0, false));
  valk_h2_reset(of->h2, stream->id, NGHTTP2_NO_ERROR);
}

TEST(events_may_call_everything) {
  begin();
  host.on_request = respond_and_reset;
  h2_post(&out, 1, "");
  h2_data(&out, 1, "unwanted", 8, false);
  h2_host_talk(&host, &out);
  h2_host_stream_t *stream = h2_host_stream(&host, 0);
  ASSERT_EQ(stream->received, 0u);
  ASSERT_STR_EQ(h2_text(&h2_answer(&host.client, 1)->fields), ":status\n413\ncontent-length\n0\n");
  ASSERT_TRUE(h2_answer(&host.client, 1)->ended);
  ASSERT_TRUE(h2_answer(&host.client, 1)->reset);
  ASSERT_EQ(h2_answer(&host.client, 1)->code, NGHTTP2_NO_ERROR);
  ASSERT_TRUE(stream->closed);
  ASSERT_EQ(stream->code, 0u);
  h2_host_assert_good(&host, 3);
  finish();
}

TEST(open_streams_are_closed_when_the_session_is_freed) {
  begin();
  for (int32_t id = 1; id < 99; id += 2)
    h2_post(&out, id, "");
  h2_host_talk(&host, &out);
  ASSERT_EQ(valk_h2_open_streams(host.h2), 49u);
  h2_host_answer(h2_host_stream(&host, 0), 100000);
  ASSERT_OK(valk_h2_trailers(host.h2, 1, "a\n1\n", 4));
  ASSERT_OK(h2_host_flush(&host));
  h2_bytes_t block = {0};
  h2_block(&block, HEAD("GET", "/half"), true);
  h2_frame(&out, NGHTTP2_HEADERS, 0, 101, block.data, block.length);
  h2_host_talk(&host, &out);
  ASSERT_TRUE(valk_h2_in_header_block(host.h2));
  h2_bytes_free(&block);
  finish(); /* asserts that each was told */
}
