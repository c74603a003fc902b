/* Answers: their fields, bodies, trailers, and resets in the right place among them. */
#include <string.h>

#include "h2_internal.h"

/* Fields of one answer, and :status, date and content-length before them. nghttp2 chooses by itself
 * what to index: it leaves out content-length, etag, location, set-cookie and the like, and indexes
 * date, which a burst of answers shares. */
#define FIELDS_MAX 1000u
#define OWN_FIELDS 3u
/* Bytes of one answer's fields; below what h2.c allows nghttp2 to send in one block, whose worst
 * case adds 12 bytes a field. */
#define FIELDS_SIZE_MAX 65536u

static _Thread_local nghttp2_nv fields_scratch[FIELDS_MAX + OWN_FIELDS];

static nghttp2_nv own_field(const char *name, size_t name_length, const char *value,
                            size_t value_length) {
  nghttp2_nv field = {(uint8_t *) (uintptr_t) name, (uint8_t *) (uintptr_t) value, name_length,
                      value_length, NGHTTP2_NV_FLAG_NO_COPY_NAME};
  return field;
}

static bool named(const char *name, size_t length, const char *other) {
  return strlen(other) == length && memcmp(name, other, length) == 0;
}

/* Fields that belong to a connection, not to a message (RFC 9113 section 8.2.2), and the one that
 * is ours to add. */
static bool not_ours(const char *name, size_t length) {
  switch (length) {
  case 2:
    return named(name, length, "te");
  case 7:
    return named(name, length, "upgrade");
  case 10:
    return named(name, length, "connection") || named(name, length, "keep-alive");
  case 14:
    return named(name, length, "content-length");
  case 16:
    return named(name, length, "proxy-connection");
  case 17:
    return named(name, length, "transfer-encoding");
  default:
    return false;
  }
}

/* The values of this one differ from answer to answer: in HPACK's table they would be in each
 * other's way, and whoever looks for one there would look at all. */
static uint8_t flags_of(const char *name, size_t length) {
  return length == 11 && named(name, length, "retry-after") ? NGHTTP2_NV_FLAG_NO_INDEX
                                                            : NGHTTP2_NV_FLAG_NONE;
}

/* Reads { name \n value \n } into |into|, which has room for FIELDS_MAX. False: they break HTTP. */
static bool parse_fields(const char *text, size_t length, nghttp2_nv *into, size_t *count) {
  const char *at = text, *end = text + length;
  *count = 0;
  if (length > FIELDS_SIZE_MAX)
    return false;
  while (at < end) {
    const char *name_end = memchr(at, '\n', (size_t) (end - at));
    if (name_end == NULL)
      return false;
    const char *value = name_end + 1;
    const char *value_end = memchr(value, '\n', (size_t) (end - value));
    if (value_end == NULL)
      return false;
    size_t name_length = (size_t) (name_end - at), value_length = (size_t) (value_end - value);
    if (name_length == 0 || *at == ':' ||
        !nghttp2_check_header_name((const uint8_t *) at, name_length) ||
        !nghttp2_check_header_value_rfc9113((const uint8_t *) value, value_length))
      return false;
    if (!not_ours(at, name_length)) {
      if (*count == FIELDS_MAX)
        return false;
      into[(*count)++] = (nghttp2_nv){(uint8_t *) (uintptr_t) at, (uint8_t *) (uintptr_t) value,
                                      name_length, value_length, flags_of(at, name_length)};
    }
    at = value_end + 1;
  }
  return true;
}

/* An answer's fields leave room for what keeps the connection going: the bigger ones of a burst
 * that its client does not read must not be its end. nghttp2 copies them, and again as it sends
 * them. */
#define ROOM_TO_GO_ON 65536u

static bool fits(const valk_h2_t *h2, size_t length, size_t count) {
  const valk_ledger_t *ledger = h2->ledger;
  if (ledger == NULL || ledger->limit == 0)
    return true;
  size_t used = atomic_load_explicit(&ledger->used, memory_order_relaxed);
  size_t room = ledger->limit / 4 < ROOM_TO_GO_ON ? ledger->limit / 4 : ROOM_TO_GO_ON;
  return used + 2 * length + count * sizeof(nghttp2_nv) + room <= ledger->limit;
}

/* Nothing was queued, so a lack of memory is not the session's end: a reset may still fit. */
static int not_submitted(valk_h2_t *h2, int error, bool starved) {
  h2->starved = starved;
  return error == NGHTTP2_ERR_NOMEM ? VALK_ENOMEM : VALK_EINVAL;
}

/* DATA goes straight into what valk_h2_send fills, where there is room for a frame worth sending,
 * and is cut to end with it: a record's plaintext then holds whole frames. In a smaller room it
 * goes through nghttp2's buffer and is cut anywhere. */
static bool straight(const valk_h2_t *h2) {
  return h2->out_room - h2->out_filled >= VALK__H2_FRAME_HEADER + VALK__H2_DATA_LEAST;
}

ssize_t valk__h2_data_length(nghttp2_session *session, uint8_t type, int32_t stream_id,
                             int32_t connection_window, int32_t stream_window,
                             uint32_t max_frame_size, void *user_data) {
  (void) session;
  (void) type;
  (void) stream_id;
  (void) connection_window;
  (void) stream_window;
  (void) max_frame_size;
  const valk_h2_t *h2 = user_data;
  size_t room = h2->out_room - h2->out_filled;
  /* nghttp2 takes the least of it, the windows and the peer's frame size. */
  return straight(h2) && room < VALK_H2_DATA_MAX + VALK__H2_FRAME_HEADER
             ? (ssize_t) (room - VALK__H2_FRAME_HEADER)
             : (ssize_t) VALK_H2_DATA_MAX;
}

int valk__h2_data_send(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header,
                       size_t length, nghttp2_data_source *source, void *user_data) {
  (void) session;
  (void) frame;
  (void) source;
  valk_h2_t *h2 = user_data;
  memcpy(h2->out + h2->out_filled, header, VALK__H2_FRAME_HEADER);
  h2->out_filled += VALK__H2_FRAME_HEADER + length;
  return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t stream_id, uint8_t *out, size_t room,
                         uint32_t *flags, nghttp2_data_source *source, void *user_data) {
  (void) session;
  (void) stream_id;
  valk_h2_t *h2 = user_data;
  valk__h2_stream_t *stream = source->ptr;
  bool direct = straight(h2);
  if (direct) {
    out = h2->out + h2->out_filled + VALK__H2_FRAME_HEADER;
  } else if (h2->out_filled > 0) {
    return NGHTTP2_ERR_PAUSE; /* what is there goes first */
  }
  bool end = false, trailers = false;
  h2->reading = h2->found = stream;
  ssize_t length = h2->events->on_read(h2->data, stream->owner, out, room, &end, &trailers);
  h2->reading = NULL;
  if (stream->resetting)
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* the reset is queued already */
  if (length == VALK_H2_DEFER || (length == 0 && !end))
    return NGHTTP2_ERR_DEFERRED;
  if (length < 0) {
    stream->resetting = true;
    stream->reset_after_end = false;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* nghttp2 resets with INTERNAL_ERROR */
  }
  if (direct)
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
  if (!end)
    return length;
  *flags |= NGHTTP2_DATA_FLAG_EOF;
  if (trailers && stream->trailers != NULL && valk__h2_send_trailers(h2, stream) != 0) {
    stream->resetting = true;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }
  if (trailers && stream->trailers_queued)
    *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
  return length;
}

/* |value| in decimal; |text| holds 19 digits. */
static size_t write_number(char *text, int64_t value) {
  size_t length = 1;
  for (int64_t rest = value; rest >= 10; rest /= 10)
    length++;
  for (size_t i = length; i-- > 0; value /= 10)
    text[i] = (char) ('0' + value % 10);
  return length;
}

int valk_h2_respond(valk_h2_t *h2, int32_t stream_id, uint16_t status, const char *fields,
                    size_t fields_length, const char *date, int64_t content_length, bool body) {
  valk__h2_stream_t *stream = h2->found = valk__h2_find(h2, stream_id);
  if (stream == NULL || stream->resetting)
    return VALK_ESTALE;
  size_t count = 0, given;
  nghttp2_nv *nva = fields_scratch;
  if (status < 200 || status > 599 || stream->answered ||
      !parse_fields(fields, fields_length, nva + OWN_FIELDS, &given))
    return VALK_EINVAL;
  char status_text[4], length_text[24];
  status_text[0] = (char) ('0' + status / 100);
  status_text[1] = (char) ('0' + status / 10 % 10);
  status_text[2] = (char) ('0' + status % 10);
  /* :status must come first; the rest fills the places up to the given fields. */
  bool has_length = content_length >= 0 && status != 204; /* RFC 9110 section 8.6 */
  nva += OWN_FIELDS - 1 - (date != NULL) - has_length;
  nva[count++] = own_field(":status", 7, status_text, 3);
  if (date != NULL)
    nva[count++] = own_field("date", 4, date, 29);
  if (has_length) {
    size_t digits = write_number(length_text, content_length);
    nva[count++] = own_field("content-length", 14, length_text, digits);
  }
  /* Small ones always: an answer that says that there is no room must find some. */
  if (fields_length > 512 && !fits(h2, fields_length, given))
    return VALK_ENOMEM;
  nghttp2_data_provider provider = {.source.ptr = stream, .read_callback = read_body};
  bool starved = h2->starved;
  int error =
      nghttp2_submit_response(h2->session, stream_id, nva, count + given, body ? &provider : NULL);
  if (error != 0)
    return not_submitted(h2, error, starved);
  stream->answered = true;
  stream->has_body = body;
  return 0;
}

int valk_h2_continue(valk_h2_t *h2, int32_t stream_id) {
  valk__h2_stream_t *stream = valk__h2_find(h2, stream_id);
  if (stream == NULL || stream->resetting)
    return VALK_ESTALE;
  if (stream->answered)
    return VALK_EINVAL;
  nghttp2_nv field = own_field(":status", 7, "100", 3);
  bool starved = h2->starved;
  int error =
      nghttp2_submit_headers(h2->session, NGHTTP2_FLAG_NONE, stream_id, NULL, &field, 1, NULL);
  return error == 0 ? 0 : not_submitted(h2, error, starved);
}

static int submit_trailers(valk_h2_t *h2, valk__h2_stream_t *stream, const nghttp2_nv *nva,
                           size_t count) {
  bool starved = h2->starved;
  int error = nghttp2_submit_trailer(h2->session, stream->id, nva, count);
  if (error != 0)
    return not_submitted(h2, error, starved);
  stream->trailers_queued = true;
  return 0;
}

int valk__h2_send_trailers(valk_h2_t *h2, valk__h2_stream_t *stream) {
  size_t count;
  char *text = stream->trailers;
  stream->trailers = NULL;
  int error = parse_fields(text, stream->trailers_length, fields_scratch, &count)
                  ? submit_trailers(h2, stream, fields_scratch, count)
                  : VALK_EINVAL;
  valk_ledger_free(text);
  return error;
}

int valk_h2_trailers(valk_h2_t *h2, int32_t stream_id, const char *fields, size_t fields_length) {
  valk__h2_stream_t *stream = valk__h2_find(h2, stream_id);
  if (stream == NULL || stream->resetting)
    return VALK_ESTALE;
  size_t count;
  if (!stream->has_body || stream->sent_end || stream->trailers_queued ||
      stream->trailers != NULL || !parse_fields(fields, fields_length, fields_scratch, &count) ||
      count == 0)
    return VALK_EINVAL;
  if (h2->reading == stream)
    return submit_trailers(h2, stream, fields_scratch, count);
  /* nghttp2 would send them before the rest of the body. */
  stream->trailers = valk_ledger_malloc(h2->ledger, fields_length);
  if (stream->trailers == NULL)
    return VALK_ENOMEM;
  memcpy(stream->trailers, fields, fields_length);
  stream->trailers_length = (uint32_t) fields_length;
  return 0;
}

void valk_h2_resume(valk_h2_t *h2, int32_t stream_id) {
  if (valk__h2_find(h2, stream_id) == NULL)
    return;
  int error = nghttp2_session_resume_data(h2->session, stream_id);
  if (nghttp2_is_fatal(error))
    valk__h2_error(h2, error);
}

void valk__h2_reset_now(valk_h2_t *h2, int32_t stream_id, uint32_t code) {
  valk__h2_stream_t *stream = valk__h2_find(h2, stream_id);
  if (stream == NULL || stream->resetting)
    return;
  stream->resetting = true;
  stream->reset_after_end = false;
  int error = nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, stream_id, code);
  if (error != 0)
    valk__h2_error(h2, error);
}

void valk_h2_reset(valk_h2_t *h2, int32_t stream_id, uint32_t code) {
  valk__h2_stream_t *stream = valk__h2_find(h2, stream_id);
  if (stream == NULL || stream->resetting)
    return;
  /* nghttp2 sends RST_STREAM before DATA that waits, and drops the DATA. */
  if (code == NGHTTP2_NO_ERROR && stream->answered && !stream->sent_end) {
    stream->reset_after_end = true;
  } else {
    valk__h2_reset_now(h2, stream_id, code);
  }
}
