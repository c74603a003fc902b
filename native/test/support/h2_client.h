/* An HTTP/2 client for tests that writes its frames by hand, well or badly formed, and reads what
 * the server sends frame by frame. */
#ifndef VALK_TEST_H2_CLIENT_H
#define VALK_TEST_H2_CLIENT_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that grow. A '\0' that is not counted follows them. Zeros are an empty one. */
typedef struct {
  uint8_t *data;
  size_t length, capacity;
} h2_bytes_t;

void h2_bytes_add(h2_bytes_t *bytes, const void *data, size_t length);
void h2_bytes_free(h2_bytes_t *bytes);
/* As a string: "" when empty. */
const char *h2_text(const h2_bytes_t *bytes);

/* ---- writing: each adds to |out| ---- */

void h2_frame(h2_bytes_t *out, unsigned type, unsigned flags, int32_t stream_id,
              const void *payload, size_t length);
/* The client's magic and SETTINGS; |window| 0: SETTINGS without an initial window. */
void h2_preface(h2_bytes_t *out, uint32_t window);
void h2_settings_ack(h2_bytes_t *out);
void h2_setting(h2_bytes_t *out, unsigned id, uint32_t value);
void h2_window_update(h2_bytes_t *out, int32_t stream_id, uint32_t increment);
void h2_rst_stream(h2_bytes_t *out, int32_t stream_id, uint32_t code);
void h2_data(h2_bytes_t *out, int32_t stream_id, const void *data, size_t length, bool end);
/* |length| bytes of 'd' in frames of up to 16,384. */
void h2_data_fill(h2_bytes_t *out, int32_t stream_id, size_t length, bool end);
/* A field list "name\nvalue\n…" in HPACK, literally; |index|: each also goes into the dynamic
 * table. */
void h2_block(h2_bytes_t *out, const char *fields, bool index);
/* One HEADERS frame with such a block. */
void h2_headers(h2_bytes_t *out, int32_t stream_id, const char *fields, bool end);
/* GET https://example.com/ or POST to it. */
void h2_get(h2_bytes_t *out, int32_t stream_id);
void h2_post(h2_bytes_t *out, int32_t stream_id, const char *more_fields);

/* ---- reading ---- */

typedef struct {
  uint8_t type, flags;
  int32_t stream_id;
  size_t length;
  uint8_t *payload;
} h2_frame_t;

typedef struct {
  h2_bytes_t interim; /* the fields of 1xx answers */
  h2_bytes_t fields;  /* "name\nvalue\n…" as they came, :status first */
  h2_bytes_t body;
  h2_bytes_t trailers;
  size_t data_frames, largest;
  bool ended; /* END_STREAM */
  bool reset;
  uint32_t code;   /* of the reset */
  uint64_t window; /* WINDOW_UPDATE increments */
} h2_answer_t;

typedef struct {
  h2_bytes_t input; /* an unfinished frame */
  nghttp2_hd_inflater *inflater;
  h2_bytes_t block;
  int32_t block_stream;
  bool block_end;
  h2_frame_t *frames;
  size_t frame_count, frame_capacity;
  h2_answer_t *answers;
  size_t answer_count;
  uint64_t window; /* of the connection: WINDOW_UPDATE increments */
  unsigned pings, settings, settings_acks, goaways;
  int32_t goaway_last;
  uint32_t goaway_code;
} h2_client_t;

void h2_client_init(h2_client_t *client);
void h2_client_deinit(h2_client_t *client);
/* What the server sent. */
void h2_client_take(h2_client_t *client, const uint8_t *bytes, size_t length);
h2_answer_t *h2_answer(h2_client_t *client, int32_t stream_id);
/* The value of |name| in "name\nvalue\n…", copied into |value|; NULL when it is not there. */
const char *h2_field(const h2_bytes_t *fields, const char *name, char *value, size_t size);
/* The place in |frames| of the nth (from 0) frame of |type| on |stream_id|; -1 when there is none.
 */
long h2_find_frame(const h2_client_t *client, unsigned type, int32_t stream_id, size_t nth);

#endif
