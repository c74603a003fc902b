/* HTTP/2: answers of every shape. */
#include <stdlib.h>
#include <string.h>

#include "support/h2_host.h"
#include "test.h"

static h2_host_t host;
static h2_bytes_t out;

static void begin(void) {
  h2_host_init(&host, NULL);
  h2_host_begin(&host, 0);
}

static void finish(void) {
  h2_host_deinit(&host);
  h2_bytes_free(&out);
}

static const char *answer_field(int32_t stream_id, const char *name) {
  static char value[256];
  return h2_field(&h2_answer(&host.client, stream_id)->fields, name, value, sizeof(value));
}

/* ---- trailers ---- */

TEST(trailers_of_an_answer) {
  for (int way = 0; way < 4; way++) {
    begin();
    h2_get(&out, 1);
    h2_host_talk(&host, &out);
    h2_host_stream_t *stream = h2_host_stream(&host, 0);
    h2_host_answer(stream, way < 2 ? 40000 : 0);
    if (way % 2 == 0) {
      stream->trailing = "checksum\n42\nconnection\nclose\n";
    } else {
      stream->trailing_before = true;
      ASSERT_OK(valk_h2_trailers(host.h2, 1, "checksum\n42\n", 12));
      ASSERT_EQ(valk_h2_trailers(host.h2, 1, "checksum\n43\n", 12), VALK_EINVAL);
    }
    ASSERT_OK(h2_host_flush(&host));
    h2_answer_t *answer = h2_answer(&host.client, 1);
    ASSERT_EQ(answer->body.length, way < 2 ? 40000u : 0u);
    ASSERT_STR_EQ(h2_text(&answer->trailers), "checksum\n42\n");
    ASSERT_TRUE(answer->ended);
    ASSERT_TRUE(stream->closed);
    ASSERT_EQ(stream->code, 0u);
    h2_host_deinit(&host);
  }
  h2_bytes_free(&out);
}

TEST(trailers_that_cannot_be_sent) {
  begin();
  h2_get(&out, 1);
  h2_get(&out, 3);
  h2_host_talk(&host, &out);
  ASSERT_EQ(valk_h2_trailers(host.h2, 1, "a\n1\n", 4), VALK_EINVAL); /* before the answer */
  ASSERT_EQ(valk_h2_trailers(host.h2, 5, "a\n1\n", 4), VALK_ESTALE);
  h2_host_stream_t *stream = h2_host_stream(&host, 0);
  h2_host_answer(stream, 3);
  ASSERT_EQ(valk_h2_trailers(host.h2, 1, "A\n1\n", 4), VALK_EINVAL);
  ASSERT_EQ(valk_h2_trailers(host.h2, 1, ":status\n200\n", 12), VALK_EINVAL);
  ASSERT_EQ(valk_h2_trailers(host.h2, 1, "", 0), VALK_EINVAL);
  stream->trailing_before = true; /* the end with trailers, of which there are none */
  ASSERT_OK(valk_h2_respond(host.h2, 3, 200, "", 0, NULL, 0, false));
  ASSERT_EQ(valk_h2_trailers(host.h2, 3, "a\n1\n", 4), VALK_EINVAL); /* no body */
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_TRUE(h2_answer(&host.client, 1)->ended);
  ASSERT_EQ(h2_answer(&host.client, 1)->trailers.length, 0u);
  ASSERT_TRUE(stream->closed);
  finish();
}

/* ---- answers ---- */

/* Its values differ, and each would be one more for a search in HPACK's table to go through. */
TEST(retry_after_is_not_in_the_table) {
  begin();
  size_t size = 0;
  for (int32_t id = 1; id < 21; id += 2) {
    char fields[64];
    size_t length = (size_t) snprintf(fields, sizeof fields, "x-kept\n1\nretry-after\n%d\n", id);
    out.length = 0;
    h2_get(&out, id);
    h2_host_talk(&host, &out);
    ASSERT_OK(valk_h2_respond(host.h2, id, 503, fields, length, NULL, 0, false));
    ASSERT_OK(h2_host_flush(&host));
    ASSERT_EQ(atoi(answer_field(id, "retry-after")), id);
    size_t now = nghttp2_hd_inflate_get_dynamic_table_size(host.client.inflater);
    ASSERT_GT(now, 0u);
    ASSERT_TRUE(id == 1 || now == size);
    size = now;
  }
  finish();
}

TEST(answers_that_break_http_are_refused) {
  static const char *const bad[] = {"no-end",         "name\nno-end", "Upper\n1\n", "\n1\n",
                                    ":status\n200\n", "a b\n1\n",     "a\nb\rc\n",  "a\n\x01\n",
                                    "a\n lead\n",     "a\ntrail \n",  "a\n1\nb"};
  begin();
  h2_get(&out, 1);
  h2_host_talk(&host, &out);
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    int result = valk_h2_respond(host.h2, 1, 200, bad[i], strlen(bad[i]), NULL, -1, false);
    ASSERT_MSG(result == VALK_EINVAL, "%s: %d", bad[i], result);
  }
  ASSERT_EQ(valk_h2_respond(host.h2, 1, 200, "a\n\0\n", 4, NULL, -1, false), VALK_EINVAL);
  ASSERT_EQ(valk_h2_respond(host.h2, 1, 199, "", 0, NULL, -1, false), VALK_EINVAL);
  ASSERT_EQ(valk_h2_respond(host.h2, 1, 600, "", 0, NULL, -1, false), VALK_EINVAL);
  h2_bytes_t many = {0};
  for (int i = 0; i < 1000; i++)
    h2_bytes_add(&many, "a\n1\n", 4);
  h2_bytes_add(&many, "a\n1\n", 4);
  ASSERT_EQ(valk_h2_respond(host.h2, 1, 200, h2_text(&many), many.length, NULL, -1, false),
            VALK_EINVAL);
  ASSERT_FALSE(valk_h2_wants_write(host.h2));
  ASSERT_OK(valk_h2_respond(host.h2, 1, 599, h2_text(&many), many.length - 4,
                            "Mon, 01 Jan 2024 00:00:00 GMT", INT64_MAX, false));
  ASSERT_EQ(valk_h2_respond(host.h2, 1, 200, "", 0, NULL, -1, false), VALK_EINVAL); /* again */
  ASSERT_EQ(valk_h2_respond(host.h2, 3, 200, "", 0, NULL, -1, false), VALK_ESTALE);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_STR_EQ(answer_field(1, ":status"), "599");
  ASSERT_STR_EQ(answer_field(1, "content-length"), "9223372036854775807");
  ASSERT_EQ(valk_h2_respond(host.h2, 1, 200, "", 0, NULL, -1, false), VALK_ESTALE);
  h2_bytes_free(&many);
  finish();
}

TEST(large_fields_of_an_answer) {
  begin();
  h2_get(&out, 1);
  h2_get(&out, 3);
  h2_host_talk(&host, &out);
  char *fields = malloc(65537);
  ASSERT_NOT_NULL(fields);
  memset(fields, '~', 65537);
  memcpy(fields, "a\n", 2);
  fields[65535] = fields[65536] = '\n';
  ASSERT_EQ(valk_h2_respond(host.h2, 1, 200, fields, 65537, NULL, -1, false), VALK_EINVAL);
  ASSERT_OK(valk_h2_respond(host.h2, 1, 200, fields, 65536, NULL, -1, false));
  /* As many and as large as may be. */
  for (int i = 0; i < 1000; i++) {
    memcpy(fields + i * 65, "a\n", 2);
    memset(fields + i * 65 + 2, '~', 62);
    fields[i * 65 + 64] = '\n';
  }
  ASSERT_OK(valk_h2_respond(host.h2, 3, 200, fields, 65000, NULL, -1, false));
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_TRUE(h2_answer(&host.client, 1)->ended);
  ASSERT_EQ(h2_answer(&host.client, 1)->fields.length, 65536u + strlen(":status\n200\n"));
  ASSERT_EQ(h2_answer(&host.client, 3)->fields.length, 65000u + strlen(":status\n200\n"));
  free(fields);
  h2_host_assert_good(&host, 5);
  finish();
}

TEST(fields_of_the_connection_are_dropped) {
  begin();
  h2_get(&out, 1);
  h2_host_talk(&host, &out);
  static const char fields[] = "connection\nclose\na\n1\nkeep-alive\n5\nproxy-connection\nx\n"
                               "transfer-encoding\nchunked\nupgrade\nh2c\nte\ntrailers\n"
                               "content-length\n7\nb\n2\n";
  ASSERT_OK(valk_h2_respond(host.h2, 1, 304, fields, sizeof(fields) - 1, NULL, 9, false));
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_STR_EQ(h2_text(&h2_answer(&host.client, 1)->fields),
                ":status\n304\ncontent-length\n9\na\n1\nb\n2\n");
  finish();
}

TEST(continue_comes_before_the_answer) {
  begin();
  h2_post(&out, 1, "expect\n100-continue\n");
  h2_host_talk(&host, &out);
  ASSERT_TRUE(h2_host_stream(&host, 0)->expects_continue);
  ASSERT_OK(valk_h2_continue(host.h2, 1));
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_STR_EQ(h2_text(&h2_answer(&host.client, 1)->interim), ":status\n100\n");
  h2_data(&out, 1, "body", 4, true);
  h2_host_talk(&host, &out);
  ASSERT_STR_EQ(h2_text(&h2_host_stream(&host, 0)->body), "body");
  h2_host_answer(h2_host_stream(&host, 0), 3);
  ASSERT_EQ(valk_h2_continue(host.h2, 1), VALK_EINVAL);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_TRUE(h2_answer(&host.client, 1)->ended);
  ASSERT_EQ(valk_h2_continue(host.h2, 1), VALK_ESTALE);
  finish();
}

TEST(what_is_expected_is_found_among_the_fields) {
  static const struct {
    const char *fields;
    bool expected;
  } cases[] = {
      {"", false},
      {"expect\n100-Continue\n", true},
      {"expect\n100-continued\n", false},
      {"expect\n200-continue\n", false},
      {"expected\n100-continue\n", false},
      {"a\n100-continue\n", false},
      {"expect\n100-continue\nexpect\nelse\n", true},
  };
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    begin();
    h2_post(&out, 1, cases[i].fields);
    h2_host_talk(&host, &out);
    ASSERT_EQ(h2_host_stream(&host, 0)->expects_continue, cases[i].expected);
    finish();
  }
}

TEST(an_answer_without_bytes_and_its_end) {
  begin();
  h2_get(&out, 1);
  h2_get(&out, 3);
  h2_host_talk(&host, &out);
  h2_host_answer(h2_host_stream(&host, 0), 0);
  h2_host_stream(&host, 1)->late_end = true;
  h2_host_answer(h2_host_stream(&host, 1), 10);
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_TRUE(h2_answer(&host.client, 1)->ended);
  ASSERT_EQ(h2_answer(&host.client, 1)->data_frames, 1u);
  ASSERT_TRUE(h2_answer(&host.client, 3)->ended);
  ASSERT_EQ(h2_answer(&host.client, 3)->body.length, 10u);
  ASSERT_EQ(h2_answer(&host.client, 3)->data_frames, 2u);
  finish();
}

static void assert_pattern(const h2_bytes_t *body, size_t length) {
  ASSERT_EQ(body->length, length);
  for (size_t i = 0; i < length; i++)
    ASSERT_EQ(body->data[i], h2_host_pattern(i));
}

/* The same answers come out whatever the room, and each byte is asked for once. Rooms that are
 * worth a DATA frame end with a whole one. */
TEST(output_cut_anywhere) {
  for (size_t room = 1; room < 40000; room = room < 40 ? room + 1 : room * 5 / 3) {
    begin();
    h2_get(&out, 1);
    h2_post(&out, 3, "");
    ASSERT_EQ((int) h2_host_receive(&host, &out), (int) VALK_H2_OK);
    h2_host_answer(h2_host_stream(&host, 0), 20000);
    h2_host_stream(&host, 0)->trailing = "a\n1\n";
    h2_host_answer(h2_host_stream(&host, 1), 100);
    uint8_t *piece = malloc(room);
    ASSERT_NOT_NULL(piece);
    while (valk_h2_wants_write(host.h2)) {
      ssize_t length = valk_h2_send(host.h2, piece, room);
      ASSERT_GE(length, 0);
      ASSERT_LE((size_t) length, room);
      h2_client_take(&host.client, piece, (size_t) length);
      if (room >= 2048)
        ASSERT_EQ(host.client.input.length, 0u);
    }
    ASSERT_EQ(valk_h2_send(host.h2, piece, room), 0);
    free(piece);
    assert_pattern(&h2_answer(&host.client, 1)->body, 20000);
    ASSERT_STR_EQ(h2_text(&h2_answer(&host.client, 1)->trailers), "a\n1\n");
    assert_pattern(&h2_answer(&host.client, 3)->body, 100);
    ASSERT_TRUE(h2_answer(&host.client, 1)->ended && h2_answer(&host.client, 3)->ended);
    h2_host_deinit(&host);
  }
  h2_bytes_free(&out);
}

/* Frames fill a record's plaintext to its last byte. */
TEST(data_fills_the_room) {
  static uint8_t piece[VALK_H2_DATA_MAX + 9];
  begin();
  h2_get(&out, 1);
  ASSERT_EQ((int) h2_host_receive(&host, &out), (int) VALK_H2_OK);
  h2_host_answer(h2_host_stream(&host, 0), 60000);
  for (int record = 0; record < 3; record++) {
    ASSERT_EQ(valk_h2_send(host.h2, piece, sizeof(piece)), (ssize_t) sizeof(piece));
    h2_client_take(&host.client, piece, sizeof(piece));
    ASSERT_EQ(host.client.input.length, 0u);
  }
  ASSERT_OK(h2_host_flush(&host));
  ASSERT_EQ(h2_answer(&host.client, 1)->data_frames, 4u);
  assert_pattern(&h2_answer(&host.client, 1)->body, 60000);
  finish();
}

TEST(refused_requests_have_no_other_event) {
  begin();
  host.refuse = true;
  h2_post(&out, 1, "");
  h2_data(&out, 1, "late", 4, false);
  h2_headers(&out, 1, "late\ntrailers\n", true);
  h2_get(&out, 3);
  h2_host_talk(&host, &out);
  ASSERT_EQ(valk_h2_open_streams(host.h2), 0u);
  for (int32_t id = 1; id <= 3; id += 2) {
    ASSERT_TRUE(h2_answer(&host.client, id)->reset);
    ASSERT_EQ(h2_answer(&host.client, id)->code, NGHTTP2_REFUSED_STREAM);
    ASSERT_NULL(valk_h2_stream(host.h2, id));
  }
  ASSERT_EQ(valk_h2_counts(host.h2)->refused, 2u);
  /* Even one that was answered first. */
  host.on_request = h2_host_answer_small;
  h2_get(&out, 5);
  h2_host_talk(&host, &out);
  ASSERT_TRUE(h2_answer(&host.client, 5)->reset);
  ASSERT_EQ(h2_answer(&host.client, 5)->fields.length, 0u);
  h2_host_assert_good(&host, 7);
  finish();
}
