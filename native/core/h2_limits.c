/* Budgets against floods (specification, section 5): resets, and frames that cost us work and the
 * client nothing.
 *
 * An honest client sends control frames in proportion to what it gets: a WINDOW_UPDATE or two and a
 * PING for a DATA frame, a PRIORITY and a WINDOW_UPDATE for a request. So what we send and what we
 * take is owed such frames, and the bucket is only for the rest. The resets are counted apart. */
#include "h2_internal.h"

#define CONTROL_BURST 1000u
#define CONTROL_BURST_STREAM 4u /* ... and for each stream that may be open */
#define CONTROL_REFILL 200u     /* a second */
#define OWED_EACH 3u
#define OWED_MAX 100000u
/* A DATA frame shorter than this that closed the peer's window is what the peer asked for by
 * opening it a little: such frames are owed nothing, or a client could buy work with one-byte
 * windows (CVE-2019-9511). */
#define DRIBBLE 512u

static valk__bucket_t full(uint64_t capacity, uint64_t refill) {
  valk__bucket_t bucket = {
      .tokens = capacity * 1000, .capacity = capacity * 1000, .refill = refill};
  return bucket;
}

static void refill(valk__bucket_t *bucket, uint64_t now_ms) {
  if (now_ms <= bucket->at_ms)
    return;
  uint64_t elapsed_ms = now_ms - bucket->at_ms;
  uint64_t room = bucket->capacity - bucket->tokens;
  bucket->at_ms = now_ms;
  if (bucket->refill > 0 && elapsed_ms > room / bucket->refill) {
    bucket->tokens = bucket->capacity;
  } else {
    bucket->tokens += elapsed_ms * bucket->refill;
  }
}

static bool take(valk__bucket_t *bucket) {
  if (bucket->tokens < 1000)
    return false;
  bucket->tokens -= 1000;
  return true;
}

void valk__h2_limits_init(valk_h2_t *h2) {
  h2->limits.resets = full(h2->options.reset_budget, h2->options.reset_refill);
  h2->limits.control =
      full(CONTROL_BURST + (uint64_t) CONTROL_BURST_STREAM * h2->options.max_concurrent_streams,
           CONTROL_REFILL);
}

void valk__h2_limits_refill(valk_h2_t *h2, uint64_t now_ms) {
  refill(&h2->limits.resets, now_ms);
  refill(&h2->limits.control, now_ms);
}

static bool control(valk__h2_limits_t *limits) {
  if (limits->owed > 0) {
    limits->owed--;
    return true;
  }
  return take(&limits->control);
}

static void owe(valk__h2_limits_t *limits) {
  if (limits->owed <= OWED_MAX - OWED_EACH)
    limits->owed += OWED_EACH;
}

bool valk__h2_limits_frame(valk_h2_t *h2, const nghttp2_frame_hd *hd) {
  valk__h2_limits_t *limits = &h2->limits;
  switch (hd->type) {
  case NGHTTP2_DATA:
    if (hd->length > 0 || (hd->flags & NGHTTP2_FLAG_END_STREAM) != 0)
      return true;
    return control(limits);
  case NGHTTP2_HEADERS:
    /* A new stream is counted by what becomes of it; trailers of an open one come once. The rest is
     * decoded for the sake of HPACK's state alone. */
    if (hd->stream_id > limits->newest) {
      limits->newest = hd->stream_id;
      return !h2->goaway_sent || control(limits);
    }
    return valk__h2_find(h2, hd->stream_id) != NULL || control(limits);
  case NGHTTP2_RST_STREAM: {
    /* One that crosses the end of its stream costs us nothing. */
    const valk__h2_stream_t *stream = valk__h2_find(h2, hd->stream_id);
    return stream != NULL && !stream->resetting ? take(&limits->resets) : control(limits);
  }
  case NGHTTP2_CONTINUATION:
    return true;
  case NGHTTP2_SETTINGS:
    return (hd->flags & NGHTTP2_FLAG_ACK) != 0 || control(limits);
  default:
    return control(limits);
  }
}

bool valk__h2_limits_padding(valk_h2_t *h2) {
  return control(&h2->limits);
}

void valk__h2_limits_request(valk_h2_t *h2) {
  owe(&h2->limits);
}

void valk__h2_limits_sent(valk_h2_t *h2, const nghttp2_frame *frame) {
  if (frame->hd.type != NGHTTP2_DATA)
    return;
  if (frame->hd.length >= DRIBBLE || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 ||
      (nghttp2_session_get_remote_window_size(h2->session) > 0 &&
       nghttp2_session_get_stream_remote_window_size(h2->session, frame->hd.stream_id) > 0))
    owe(&h2->limits);
}

void valk__h2_limits_reset(valk_h2_t *h2) {
  if (!take(&h2->limits.resets))
    h2->limits.passed = true;
}
