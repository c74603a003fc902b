#include "h2_internal.h"

#include <string.h>

/* What nghttp2 may send in one block: an answer's fields as h2_answer.c bounds them, and its worst
 * case of 12 bytes a field. */
#define SEND_BLOCK_MAX 98304u
#define DEFLATE_TABLE_SIZE 4096u
/* nghttp2 1.52 counts a CONTINUATION frame once for each call that brings a piece of its 9-byte
 * header. Frames are counted here; its own count must not come first. */
#define CONTINUATIONS_PIECES (VALK__H2_CONTINUATIONS_MAX * 9u + VALK__H2_CONTINUATIONS_MAX)
/* The first version known to be safe from PRIORITY_UPDATE: in 1.52 one that names a stream before
 * its HEADERS leaves the stream in a list when it is freed, for the next such frame to write into.
 * Before it these frames are ignored; RFC 9218's priority field works in all versions. */
#define PRIORITY_UPDATE_SAFE 0x014600
/* Above our own budgets. */
#define NEVER_RESETS (1u << 30)
/* From 1.70 on, if not before, nghttp2 counts what it finds suspicious, by a clock of its own:
 * 10,000 such frames at once, 330 a second. All but malformed requests, which are resets to us, are
 * in our budget of control frames, which knows what a client is owed. */
#define NEVER_GLITCHES (1u << 30)
#define GLITCHES_SINCE 0x014600

int valk__h2_stop(valk_h2_t *h2, valk_h2_result_t result) {
  if (h2->result == VALK_H2_OK || result == VALK_H2_MEMORY)
    h2->result = result;
  return NGHTTP2_ERR_CALLBACK_FAILURE;
}

int valk__h2_error(valk_h2_t *h2, int error) {
  if (!nghttp2_is_fatal(error))
    return VALK_EINVAL;
  valk__h2_stop(h2, VALK_H2_MEMORY);
  return VALK_ENOMEM;
}

/* ---- streams ---- */

valk__h2_stream_t *valk__h2_find(const valk_h2_t *h2, int32_t stream_id) {
  if (valk__h2_dead(h2))
    return NULL;
  /* What happens to a stream comes in runs. */
  if (h2->found != NULL && h2->found->id == stream_id)
    return h2->found;
  return nghttp2_session_get_stream_user_data(h2->session, stream_id);
}

valk__h2_stream_t *valk__h2_add(valk_h2_t *h2, int32_t stream_id) {
  if (h2->free_streams == NULL) {
    valk__h2_chunk_t *chunk = valk_ledger_calloc(h2->ledger, 1, sizeof(*chunk));
    if (chunk == NULL)
      return NULL;
    chunk->next = h2->chunks;
    h2->chunks = chunk;
    for (unsigned i = VALK__H2_CHUNK; i-- > 0;) {
      chunk->streams[i].next_free = h2->free_streams;
      h2->free_streams = &chunk->streams[i];
    }
  }
  valk__h2_stream_t *stream = h2->free_streams;
  if (nghttp2_session_set_stream_user_data(h2->session, stream_id, stream) != 0)
    return NULL;
  h2->free_streams = stream->next_free;
  memset(stream, 0, sizeof(*stream));
  stream->id = stream_id;
  h2->found = stream;
  return stream;
}

static void close_stream(valk_h2_t *h2, valk__h2_stream_t *stream, uint32_t code) {
  void *owner = stream->owner;
  bool by_peer = stream->reset_by_peer;
  valk_ledger_free(stream->trailers);
  if (h2->found == stream)
    h2->found = NULL;
  memset(stream, 0, sizeof(*stream));
  stream->next_free = h2->free_streams;
  h2->free_streams = stream;
  if (owner == NULL)
    return;
  h2->open--;
  h2->events->on_close(h2->data, owner, code, by_peer);
}

/* ---- what nghttp2 tells ---- */

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *user_data) {
  (void) session;
  valk_h2_t *h2 = user_data;
  if (hd->type == NGHTTP2_CONTINUATION) {
    if (++h2->head.continuations > VALK__H2_CONTINUATIONS_MAX)
      return valk__h2_stop(h2, VALK_H2_FLOOD);
  } else {
    valk__h2_head_drop(h2); /* a block that nghttp2 gave up */
  }
  return valk__h2_limits_frame(h2, hd) ? 0 : valk__h2_stop(h2, VALK_H2_FLOOD);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user_data) {
  (void) session;
  valk_h2_t *h2 = user_data;
  return valk__h2_head_begin(h2, frame->hd.stream_id, frame->headers.cat != NGHTTP2_HCAT_REQUEST);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *user_data) {
  (void) session;
  (void) flags;
  valk_h2_t *h2 = user_data;
  /* A block that was dropped, had nghttp2 not stopped giving its fields, has no text to go to. */
  if (h2->head.stream_id != frame->hd.stream_id)
    return 0;
  return valk__h2_head_field(h2, name, value);
}

/* nghttp2 would leave such a field out; RFC 9113 section 8.2.1 has the request malformed. */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
                             nghttp2_rcbuf *name, nghttp2_rcbuf *value, uint8_t flags,
                             void *user_data) {
  (void) session;
  (void) frame;
  (void) name;
  (void) value;
  (void) flags;
  (void) user_data;
  return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int error,
                            void *user_data) {
  (void) session;
  (void) error;
  valk_h2_t *h2 = user_data;
  if (frame->hd.type == NGHTTP2_HEADERS && frame->hd.stream_id == h2->head.stream_id)
    valk__h2_head_drop(h2);
  return 0;
}

static void end_request(valk_h2_t *h2, int32_t stream_id) {
  valk__h2_stream_t *stream = valk__h2_find(h2, stream_id);
  if (stream == NULL)
    return;
  stream->ended = true;
  if (stream->resetting || stream->reset_after_end)
    return;
  valk_bytes_t none = {NULL, 0};
  h2->events->on_end(h2->data, stream->owner, none);
}

/* Windows asked for before the client knew our SETTINGS were reckoned from the protocol's default.
 */
static void adjust_windows(valk_h2_t *h2) {
  for (valk__h2_chunk_t *chunk = h2->chunks; chunk != NULL; chunk = chunk->next) {
    for (unsigned i = 0; i < VALK__H2_CHUNK; i++) {
      const valk__h2_stream_t *stream = &chunk->streams[i];
      if (stream->id != 0 && stream->window > 0)
        valk_h2_open_window(h2, stream->id, stream->window);
    }
  }
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user_data) {
  (void) session;
  valk_h2_t *h2 = user_data;
  bool end_stream = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  switch (frame->hd.type) {
  case NGHTTP2_HEADERS:
    return frame->hd.stream_id == h2->head.stream_id ? valk__h2_head_end(h2, end_stream) : 0;
  case NGHTTP2_DATA:
    if (end_stream) {
      end_request(h2, frame->hd.stream_id);
    } else if (frame->hd.length > 0 && frame->hd.length <= frame->data.padlen &&
               !valk__h2_limits_padding(h2)) {
      return valk__h2_stop(h2, VALK_H2_FLOOD);
    }
    return 0;
  case NGHTTP2_RST_STREAM: {
    valk__h2_stream_t *stream = valk__h2_find(h2, frame->hd.stream_id);
    if (stream != NULL) {
      stream->reset_by_peer = true;
      h2->counts.resets_by_peer++;
    }
    return 0;
  }
  case NGHTTP2_SETTINGS:
    if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) {
      h2->settled = true;
    } else if (!h2->acknowledged) {
      h2->acknowledged = true;
      adjust_windows(h2);
    }
    return 0;
  default:
    return 0;
  }
}

static int on_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id,
                    const uint8_t *bytes, size_t length, void *user_data) {
  (void) flags;
  valk_h2_t *h2 = user_data;
  valk__h2_stream_t *stream = valk__h2_find(h2, stream_id);
  if (stream != NULL && stream->owner != NULL && !stream->resetting && !stream->reset_after_end) {
    /* nghttp2 resets the stream that passes its window, but still gives the bytes. */
    int32_t window = nghttp2_session_get_stream_effective_local_window_size(session, stream_id);
    if (window >= 0 && stream->delivered + length <= (size_t) window) {
      stream->delivered += (uint32_t) length;
      h2->delivered += length;
      h2->events->on_data(h2->data, stream->owner, bytes, length);
      return 0;
    }
  }
  if (valk__h2_dead(h2))
    return NGHTTP2_ERR_CALLBACK_FAILURE;
  int error = nghttp2_session_consume_connection(session, length);
  return error == 0 ? 0 : valk__h2_stop(h2, VALK_H2_MEMORY);
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t code,
                           void *user_data) {
  valk_h2_t *h2 = user_data;
  if (h2->head.stream_id == stream_id)
    valk__h2_head_drop(h2);
  valk__h2_stream_t *stream = nghttp2_session_get_stream_user_data(session, stream_id);
  if (stream != NULL) {
    /* on_close may look for it. */
    nghttp2_session_set_stream_user_data(session, stream_id, NULL);
    close_stream(h2, stream, code);
  }
  return 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user_data) {
  (void) session;
  valk_h2_t *h2 = user_data;
  valk__h2_limits_sent(h2, frame);
  valk__h2_stream_t *stream = valk__h2_find(h2, frame->hd.stream_id);
  switch (frame->hd.type) {
  case NGHTTP2_DATA:
  case NGHTTP2_HEADERS:
    if (stream == NULL || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
      return 0;
    stream->sent_end = true;
    if (stream->reset_after_end && !stream->ended)
      valk__h2_reset_now(h2, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    return 0;
  case NGHTTP2_RST_STREAM:
    if (stream == NULL && frame->rst_stream.error_code != NGHTTP2_REFUSED_STREAM)
      h2->counts.malformed++;
    if (stream == NULL || !stream->resetting)
      valk__h2_limits_reset(h2);
    return 0;
  default:
    return 0;
  }
}

static int on_frame_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int error,
                             void *user_data) {
  (void) session;
  valk_h2_t *h2 = user_data;
  if (frame->hd.type == NGHTTP2_HEADERS && error != NGHTTP2_ERR_SESSION_CLOSING)
    valk__h2_reset_now(h2, frame->hd.stream_id,
                       NGHTTP2_INTERNAL_ERROR); /* or it would wait for ever */
  return 0;
}

/* Frames of types that we do not know are ignored (RFC 9113 section 4.1), but counted: nghttp2
 * shows only those that have an unpacker. */
static int ignore_extension(nghttp2_session *session, void **payload, const nghttp2_frame_hd *hd,
                            void *user_data) {
  (void) session;
  (void) payload;
  (void) hd;
  (void) user_data;
  return NGHTTP2_ERR_CANCEL;
}

/* ---- memory ---- */

static void *checked(valk_h2_t *h2, void *block) {
  if (block == NULL)
    h2->starved = true;
  return block;
}
/* The large ones are for frames: a session keeps one for its life, and short answers touch its
 * first page alone. */
static void *take_memory(size_t size, void *h2) {
  return checked(h2, valk_ledger_malloc_few_pages(((valk_h2_t *) h2)->ledger, size));
}
static void free_memory(void *block, void *data) {
  valk_h2_t *h2 = data;
  /* After a failed allocation nghttp2 1.52 may keep a frame that it has freed in its stream, and
   * free it again with the session. The session ends now; until then nothing is really freed. */
  if (h2->starved)
    valk_ledger_retire(block, &h2->retired);
  else
    valk_ledger_free(block);
}
static void *take_zeros(size_t count, size_t size, void *h2) {
  return checked(h2, valk_ledger_calloc(((valk_h2_t *) h2)->ledger, count, size));
}
static void *change_memory(void *block, size_t size, void *h2) {
  if (block == NULL)
    return take_memory(size, h2);
  return checked(h2, valk_ledger_realloc(((valk_h2_t *) h2)->ledger, block, size));
}

/* ---- a session ---- */

static void set_callbacks(nghttp2_session_callbacks *callbacks) {
  nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
  nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
  nghttp2_session_callbacks_set_on_invalid_header_callback2(callbacks, on_invalid_header);
  nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_chunk);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
  nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
  nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_sent);
  nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, valk__h2_data_length);
  nghttp2_session_callbacks_set_send_data_callback(callbacks, valk__h2_data_send);
  nghttp2_session_callbacks_set_unpack_extension_callback(callbacks, ignore_extension);
}

static void set_options(nghttp2_option *option) {
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_option_set_no_closed_streams(option, 1);
  nghttp2_option_set_max_outbound_ack(option, VALK__H2_ACKS_MAX);
  nghttp2_option_set_stream_reset_rate_limit(option, NEVER_RESETS, NEVER_RESETS);
#if NGHTTP2_VERSION_NUM >= GLITCHES_SINCE
  nghttp2_option_set_glitch_rate_limit(option, NEVER_GLITCHES, NEVER_GLITCHES);
#endif
  nghttp2_option_set_max_continuations(option, CONTINUATIONS_PIECES);
  nghttp2_option_set_max_send_header_block_length(option, SEND_BLOCK_MAX);
  nghttp2_option_set_max_deflate_dynamic_table_size(option, DEFLATE_TABLE_SIZE);
  bool updates = nghttp2_version(PRIORITY_UPDATE_SAFE) != NULL;
  if (updates)
    nghttp2_option_set_builtin_recv_extension_type(option, NGHTTP2_PRIORITY_UPDATE);
  for (unsigned type = NGHTTP2_CONTINUATION + 1; type < 256; type++) {
    if (type != NGHTTP2_PRIORITY_UPDATE || !updates)
      nghttp2_option_set_user_recv_extension_type(option, (uint8_t) type);
  }
}

static int start_session(valk_h2_t *h2) {
  nghttp2_session_callbacks *callbacks = NULL;
  nghttp2_option *option = NULL;
  nghttp2_mem memory = {h2, take_memory, free_memory, take_zeros, change_memory};
  int error = NGHTTP2_ERR_NOMEM;
  if (nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0) {
    set_callbacks(callbacks);
    set_options(option);
    error = nghttp2_session_server_new3(&h2->session, callbacks, h2, option, &memory);
  }
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(callbacks);
  return error;
}

int valk_h2_new(const valk_h2_options_t *options, const valk_h2_events_t *events, void *data,
                valk_ledger_t *ledger, valk_h2_t **result) {
  *result = NULL;
  valk_h2_t *h2 = valk_ledger_calloc(ledger, 1, sizeof(*h2));
  if (h2 == NULL)
    return VALK_ENOMEM;
  h2->events = events;
  h2->data = data;
  h2->ledger = ledger;
  h2->options = *options;
  valk__h2_limits_init(h2);
  /* Without RFC 7540's priorities nghttp2 keeps RFC 9218's queues, and no tree of streams. */
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, options->max_concurrent_streams},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, options->stream_window},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, options->max_header_list_size},
      {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
  };
  if (start_session(h2) != 0 ||
      nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, settings,
                              sizeof(settings) / sizeof(settings[0])) != 0 ||
      nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0,
                                            (int32_t) options->connection_window) != 0) {
    nghttp2_session_del(h2->session);
    valk_ledger_free_retired(&h2->retired);
    valk_ledger_free(h2);
    return VALK_ENOMEM;
  }
  *result = h2;
  return 0;
}

void valk_h2_free(valk_h2_t *h2) {
  if (h2 == NULL)
    return;
  h2->freeing = true;
  valk__h2_head_drop(h2);
  for (valk__h2_chunk_t *chunk = h2->chunks; chunk != NULL; chunk = chunk->next) {
    for (unsigned i = 0; i < VALK__H2_CHUNK; i++) {
      if (chunk->streams[i].id != 0)
        close_stream(h2, &chunk->streams[i], NGHTTP2_CANCEL);
    }
  }
  nghttp2_session_del(h2->session);
  valk_ledger_free_retired(&h2->retired);
  while (h2->chunks != NULL) {
    valk__h2_chunk_t *chunk = h2->chunks;
    h2->chunks = chunk->next;
    valk_ledger_free(chunk);
  }
  valk_ledger_free(h2);
}

/* ---- bytes ---- */

/* True when nghttp2 has met a connection error and queued its GOAWAY: only then does it take a
 * GOAWAY with a last stream id that no client can have. */
static bool terminated(valk_h2_t *h2) {
  return nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE, 2, NGHTTP2_NO_ERROR, NULL, 0) == 0;
}

static void receive_failed(valk_h2_t *h2, ssize_t error) {
  switch (error) {
  case NGHTTP2_ERR_NOMEM:
    valk__h2_stop(h2, VALK_H2_MEMORY);
    break;
  case NGHTTP2_ERR_BAD_CLIENT_MAGIC:
    valk__h2_stop(h2, VALK_H2_PREFACE);
    break;
  case NGHTTP2_ERR_FLOODED:
  case NGHTTP2_ERR_TOO_MANY_CONTINUATIONS:
    valk__h2_stop(h2, VALK_H2_FLOOD);
    break;
  default:
    valk__h2_stop(h2, VALK_H2_PROTOCOL); /* a callback of ours has said more already */
    break;
  }
}

valk_h2_result_t valk_h2_receive(valk_h2_t *h2, const uint8_t *bytes, size_t length,
                                 uint64_t now_ms) {
  if (h2->result != VALK_H2_OK)
    return h2->result;
  valk__h2_limits_refill(h2, now_ms);
  ssize_t taken = h2->limits.passed ? NGHTTP2_ERR_FLOODED
                                    : nghttp2_session_mem_recv(h2->session, bytes, length);
  if (h2->starved) {
    valk__h2_stop(h2, VALK_H2_MEMORY);
  } else if (taken < 0) {
    receive_failed(h2, taken);
  }
  if (h2->result == VALK_H2_OK && terminated(h2))
    h2->result = VALK_H2_PROTOCOL;
  if (h2->result == VALK_H2_OK) {
    if (!valk__h2_head_keep(h2))
      h2->result = VALK_H2_MEMORY;
    return h2->result;
  }
  valk__h2_head_drop(h2);
  uint32_t code = h2->result == VALK_H2_FLOOD ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_PROTOCOL_ERROR;
  if (!valk__h2_dead(h2) && nghttp2_session_terminate_session(h2->session, code) != 0)
    h2->result = VALK_H2_MEMORY;
  return h2->result;
}

ssize_t valk_h2_send(valk_h2_t *h2, uint8_t *out, size_t room) {
  if (h2->result == VALK_H2_PREFACE)
    return 0;
  h2->out = out;
  h2->out_room = room;
  h2->out_filled = 0;
  while (h2->out_filled < room && h2->result != VALK_H2_MEMORY) {
    if (h2->pending_length == 0) {
      ssize_t length = nghttp2_session_mem_send(h2->session, &h2->pending);
      if (length < 0 || h2->starved)
        valk__h2_stop(h2, VALK_H2_MEMORY);
      if (length <= 0 || h2->starved)
        break;
      h2->pending_length = (size_t) length;
    }
    size_t left = room - h2->out_filled;
    size_t length = h2->pending_length < left ? h2->pending_length : left;
    memcpy(out + h2->out_filled, h2->pending, length);
    h2->pending += length;
    h2->pending_length -= length;
    h2->out_filled += length;
  }
  h2->out = NULL;
  if (h2->out_filled == 0 && room > 0 && h2->result == VALK_H2_MEMORY)
    return VALK_ENOMEM;
  return (ssize_t) h2->out_filled;
}

bool valk_h2_wants_write(const valk_h2_t *h2) {
  if (h2->result == VALK_H2_PREFACE)
    return false;
  return h2->result == VALK_H2_MEMORY || h2->pending_length > 0 ||
         nghttp2_session_want_write(h2->session) != 0;
}

bool valk_h2_alive(const valk_h2_t *h2) {
  if (valk__h2_dead(h2))
    return false;
  return h2->pending_length > 0 || nghttp2_session_want_write(h2->session) != 0 ||
         nghttp2_session_want_read(h2->session) != 0;
}

/* ---- windows ---- */

void valk_h2_consume_stream(valk_h2_t *h2, int32_t stream_id, size_t bytes) {
  valk__h2_stream_t *stream = valk__h2_find(h2, stream_id);
  if (stream == NULL)
    return;
  if (bytes > stream->delivered)
    bytes = stream->delivered;
  stream->delivered -= (uint32_t) bytes;
  /* Nothing comes any more: the window would be opened for nothing. */
  if (stream->ended || stream->resetting || stream->reset_after_end)
    return;
  int error = nghttp2_session_consume_stream(h2->session, stream_id, bytes);
  if (error != 0)
    valk__h2_error(h2, error);
}

void valk_h2_consume_connection(valk_h2_t *h2, size_t bytes) {
  if (valk__h2_dead(h2))
    return;
  if (bytes > h2->delivered)
    bytes = h2->delivered;
  h2->delivered -= bytes;
  int error = nghttp2_session_consume_connection(h2->session, bytes);
  if (error != 0)
    valk__h2_error(h2, error);
}

void valk_h2_open_window(valk_h2_t *h2, int32_t stream_id, uint32_t window) {
  valk__h2_stream_t *stream = valk__h2_find(h2, stream_id);
  if (stream == NULL || stream->ended || stream->resetting)
    return;
  if (window > NGHTTP2_MAX_WINDOW_SIZE)
    window = NGHTTP2_MAX_WINDOW_SIZE;
  if (window > stream->window)
    stream->window = window;
  int32_t now = nghttp2_session_get_stream_effective_local_window_size(h2->session, stream_id);
  if (now < 0 || (uint32_t) now >= window)
    return;
  int error = nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, stream_id,
                                                    (int32_t) window);
  if (error != 0)
    valk__h2_error(h2, error);
}

bool valk_h2_can_send(const valk_h2_t *h2, int32_t stream_id) {
  return !valk__h2_dead(h2) &&
         nghttp2_session_get_stream_remote_window_size(h2->session, stream_id) > 0;
}

bool valk_h2_is_shut(const valk_h2_t *h2, int32_t stream_id) {
  return !valk__h2_dead(h2) &&
         nghttp2_session_get_stream_local_window_size(h2->session, stream_id) == 0;
}

/* ---- its end, and what it knows ---- */

void valk_h2_goaway_notice(valk_h2_t *h2) {
  if (valk__h2_dead(h2) || h2->goaway_noticed || h2->goaway_sent)
    return;
  h2->goaway_noticed = true;
  int error = nghttp2_submit_shutdown_notice(h2->session);
  if (error != 0)
    valk__h2_error(h2, error);
}

void valk_h2_goaway(valk_h2_t *h2, uint32_t code) {
  if (valk__h2_dead(h2) || h2->goaway_sent)
    return;
  h2->goaway_sent = true;
  int error =
      nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE,
                            nghttp2_session_get_last_proc_stream_id(h2->session), code, NULL, 0);
  if (error != 0)
    valk__h2_error(h2, error);
}

bool valk_h2_in_header_block(const valk_h2_t *h2) {
  return h2->head.stream_id != 0;
}

bool valk_h2_settled(const valk_h2_t *h2) {
  return h2->settled;
}

uint32_t valk_h2_open_streams(const valk_h2_t *h2) {
  return h2->open;
}

const valk_h2_counts_t *valk_h2_counts(const valk_h2_t *h2) {
  return &h2->counts;
}

void *valk_h2_stream(const valk_h2_t *h2, int32_t stream_id) {
  const valk__h2_stream_t *stream = valk__h2_find(h2, stream_id);
  return stream != NULL ? stream->owner : NULL;
}
