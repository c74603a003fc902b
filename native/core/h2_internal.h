/* What h2.c, h2_head.c, h2_answer.c and h2_limits.c share. */
#ifndef VALK_CORE_H2_INTERNAL_H
#define VALK_CORE_H2_INTERNAL_H

#include <nghttp2/nghttp2.h>

#include "h2.h"

/* CONTINUATION frames of one header block (specification, section 5). */
#define VALK__H2_CONTINUATIONS_MAX 8u
/* A decoded field list above this, or above twice the configured limit where that is more, ends the
 * connection: below it the fields are dropped and the request is answered 431. */
#define VALK__H2_LIST_MAX 65536u
/* PING and SETTINGS that wait for their acknowledgement to be read by the peer. */
#define VALK__H2_ACKS_MAX 256u

/* A bucket of tokens, in thousandths, so that a refill a second is exact at a millisecond's
 * resolution. */
typedef struct {
  uint64_t tokens, capacity;
  uint64_t refill; /* tokens a second: thousandths a millisecond */
  uint64_t at_ms;
} valk__bucket_t;

typedef struct {
  valk__bucket_t resets;
  valk__bucket_t control;
  uint32_t owed;  /* control frames that what we sent and took may cause, on top of |control| */
  int32_t newest; /* the highest stream that HEADERS came for */
  bool passed;    /* while sending: the next receive says so */
} valk__h2_limits_t;

/* A stream from its on_request to its on_close: what nghttp2 does not keep. */
typedef struct valk__h2_stream {
  void *owner;    /* NULL while on_request runs, and when it refused */
  char *trailers; /* given before the body's end; a block of the ledger */
  struct valk__h2_stream *next_free;
  int32_t id; /* 0: a free place */
  uint32_t trailers_length;
  uint32_t delivered; /* given by on_data, not consumed */
  uint32_t window;    /* the most that was asked for by valk_h2_open_window */
  bool ended : 1;     /* the request */
  bool answered : 1;  /* valk_h2_respond was called ... */
  bool has_body : 1;  /* ... and on_read is asked */
  bool sent_end : 1;  /* our END_STREAM */
  bool resetting : 1; /* RST_STREAM is queued by us: no event but on_close comes any more */
  bool reset_after_end : 1;
  bool reset_by_peer : 1;
  bool trailers_queued : 1;
} valk__h2_stream_t;

#define VALK__H2_FRAME_HEADER 9u
/* Less room than this is not worth a DATA frame of its own. */
#define VALK__H2_DATA_LEAST 1024u

#define VALK__H2_CHUNK 16u
typedef struct valk__h2_chunk {
  struct valk__h2_chunk *next;
  valk__h2_stream_t streams[VALK__H2_CHUNK];
} valk__h2_chunk_t;

enum { VALK__METHOD, VALK__SCHEME, VALK__AUTHORITY, VALK__PATH, VALK__PSEUDO_COUNT };

/* The header block that is being received; there is never more than one (RFC 9113 section 4.3). Its
 * text lies in a buffer of the thread's while one call of valk_h2_receive brings the whole of it,
 * else in a block of the ledger. */
typedef struct {
  int32_t stream_id; /* 0: none */
  bool trailers;
  bool begun;    /* the pseudo-fields are written: they may come in any order, the text has one */
  bool overflow; /* a limit was passed: what follows is decoded and dropped */
  uint8_t continuations;
  bool spilled; /* |text| is a block of the ledger */
  char *text;
  uint32_t length, capacity;
  uint64_t list_size; /* RFC 9113 section 6.5.2 */
  uint32_t lines;     /* fields as they came; crumbs of one cookie count once */
  uint32_t fields;
  int64_t content_length;
  bool expects_continue;
  nghttp2_rcbuf *pseudo[VALK__PSEUDO_COUNT];
  uint32_t at[VALK__PSEUDO_COUNT], size[VALK__PSEUDO_COUNT]; /* where they lie in |text| */
  uint32_t host_at, host_size;                               /* 0: no host field */
  uint32_t cookie_end; /* where the next crumb goes; 0: no cookie */
} valk__h2_head_t;

struct valk_h2 {
  nghttp2_session *session;
  const valk_h2_events_t *events;
  void *data;
  valk_ledger_t *ledger;
  valk_h2_options_t options;
  valk_h2_result_t result;
  bool freeing;
  bool starved;      /* nghttp2 was refused memory: what it makes of that is not always NOMEM */
  void *retired;     /* what nghttp2 has freed since then */
  bool settled;      /* the client's SETTINGS came */
  bool acknowledged; /* ... and its acknowledgement of ours */
  bool goaway_noticed, goaway_sent;
  uint64_t delivered; /* by on_data, not consumed from the connection's window */
  uint8_t *out;       /* of the valk_h2_send that runs ... */
  size_t out_room, out_filled;
  const uint8_t *pending; /* the rest of the frame that nghttp2 gave last */
  size_t pending_length;
  uint32_t open;
  valk__h2_chunk_t *chunks;
  valk__h2_stream_t *free_streams;
  valk__h2_stream_t *found;   /* the one that was looked for last; NULL: closed since */
  valk__h2_stream_t *reading; /* whose on_read runs */
  valk__h2_head_t head;
  valk__h2_limits_t limits;
  valk_h2_counts_t counts;
};

/* ---- h2.c ---- */

/* True when nghttp2 must not be called any more. */
static inline bool valk__h2_dead(const valk_h2_t *h2) {
  return h2->freeing || h2->result == VALK_H2_MEMORY || h2->result == VALK_H2_PREFACE;
}
/* Remembers the first thing that went wrong. Returns what a callback of nghttp2 must return to stop
 * it. */
int valk__h2_stop(valk_h2_t *h2, valk_h2_result_t result);
/* nghttp2's |error| as one of ours; a lack of memory ends the session. */
int valk__h2_error(valk_h2_t *h2, int error);
valk__h2_stream_t *valk__h2_find(const valk_h2_t *h2, int32_t stream_id);
/* NULL when out of memory. */
valk__h2_stream_t *valk__h2_add(valk_h2_t *h2, int32_t stream_id);
void valk__h2_reset_now(valk_h2_t *h2, int32_t stream_id, uint32_t code);

/* ---- h2_head.c: each returns 0 or what nghttp2's callback must return ---- */

int valk__h2_head_begin(valk_h2_t *h2, int32_t stream_id, bool trailers);
int valk__h2_head_field(valk_h2_t *h2, nghttp2_rcbuf *name, nghttp2_rcbuf *value);
/* The block is complete: on_request or on_end. */
int valk__h2_head_end(valk_h2_t *h2, bool end_stream);
void valk__h2_head_drop(valk_h2_t *h2);
/* The end of a call of valk_h2_receive: an unfinished text moves to memory of its own. False: none
 * left. */
bool valk__h2_head_keep(valk_h2_t *h2);

/* False when no URL parser would take it: RFC 3986 section 3.2 less userinfo, host code points as
 * WHATWG has them. */
bool valk__h2_authority_valid(const char *text, size_t length);
/* True for a path with or without a query; |options|: '*' is one too. */
bool valk__h2_path_valid(const char *text, size_t length, bool options);

/* ---- h2_answer.c ---- */

/* nghttp2's callbacks: the most that the next DATA frame may have, and the header of one whose
 * payload lies in |out| already. */
ssize_t valk__h2_data_length(nghttp2_session *session, uint8_t type, int32_t stream_id,
                             int32_t connection_window, int32_t stream_window,
                             uint32_t max_frame_size, void *user_data);
int valk__h2_data_send(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header,
                       size_t length, nghttp2_data_source *source, void *user_data);

/* Queues the fields of trailers that were given before the body's end. */
int valk__h2_send_trailers(valk_h2_t *h2, valk__h2_stream_t *stream);

/* ---- h2_limits.c ---- */

void valk__h2_limits_init(valk_h2_t *h2);
void valk__h2_limits_refill(valk_h2_t *h2, uint64_t now_ms);
/* A frame has begun to arrive. False: it is a flood. */
bool valk__h2_limits_frame(valk_h2_t *h2, const nghttp2_frame_hd *hd);
/* A DATA frame was padding alone. False: it is a flood. */
bool valk__h2_limits_padding(valk_h2_t *h2);
/* A request was taken, a frame was sent: what an honest client may answer them with is allowed. */
void valk__h2_limits_request(valk_h2_t *h2);
void valk__h2_limits_sent(valk_h2_t *h2, const nghttp2_frame *frame);
/* The client made us reset a stream; sets |passed| when that was one too many. */
void valk__h2_limits_reset(valk_h2_t *h2);

#endif
