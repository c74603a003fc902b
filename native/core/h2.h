/* HTTP/2 as a machine: plaintext bytes in, request events out; answers in, bytes out. Over nghttp2;
 * no sockets, no uv, no TLS. All HTTP/2 limits live here (specification, section 5). RFC 9113, RFC
 * 7541, RFC 9218.
 *
 * One valk_h2_t belongs to one connection and its thread. Events are called from inside
 * valk_h2_receive and valk_h2_send; from inside them every function here may be called but these
 * two and valk_h2_free. The heads and bytes that events bring are valid until they return. Windows
 * are opened by the owner only (valk_h2_consume_*): what is received and not consumed is bounded by
 * them. Before the client has acknowledged our SETTINGS, a stream's window is the protocol's 65,535
 * (RFC 9113 section 6.9.2), whatever |stream_window| says. */
#ifndef VALK_CORE_H2_H
#define VALK_CORE_H2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../include/valk.h"
#include "ledger.h"

typedef struct valk_h2 valk_h2_t;

/* Not to be taken for body bytes: see on_read. */
#define VALK_H2_DEFER (-1)
#define VALK_H2_FAIL (-2)

/* The longest DATA payload we send: with its 9-byte frame header it fits one TLS record (design:
 * Records). */
#define VALK_H2_DATA_MAX 16375u

typedef struct {
  uint32_t max_concurrent_streams;
  uint32_t max_header_list_size; /* sent in SETTINGS; a list above it is answered 431 */
  uint32_t max_header_fields;    /* above it: 431 */
  uint32_t stream_window;        /* SETTINGS_INITIAL_WINDOW_SIZE */
  uint32_t connection_window;
  uint32_t reset_budget; /* streams reset by the client or that it makes us reset, before it is a
                            flood */
  uint32_t reset_refill; /* a second */
} valk_h2_options_t;

/* Why a connection cannot go on. The final GOAWAY has been queued: send what valk_h2_send gives,
 * then close. */
typedef enum {
  VALK_H2_OK = 0,
  VALK_H2_PROTOCOL = 1, /* a connection error of RFC 9113 */
  VALK_H2_FLOOD = 2,    /* ENHANCE_YOUR_CALM */
  VALK_H2_MEMORY = 3,   /* an allocation of nghttp2's or ours failed; nothing more can be sent, and
                           valk_h2_send says VALK_ENOMEM */
  VALK_H2_PREFACE = 4   /* not HTTP/2 at all: nothing was queued */
} valk_h2_result_t;

typedef struct {
  /* A complete head. |problem|: 0; 400 (an authority or path that does not parse, see below), 431
   * (too many or too large fields; |head| then holds what came before). Returns the owner's pointer
   * for the stream, or NULL: it is reset with REFUSED_STREAM and no other event comes for it.
   * Malformed requests in the sense of RFC 9113 section 8.1.1 never come here: they are reset with
   * PROTOCOL_ERROR. */
  void *(*on_request)(void *data, int32_t stream_id, const valk_head_t *head, bool end_stream,
                      int problem);
  /* Bytes of the body; to be given back with both valk_h2_consume_*, now or later, also when the
   * stream has closed in the meantime (the connection's half). After valk_h2_reset none come: what
   * still arrives is dropped and given back inside. */
  void (*on_data)(void *data, void *stream, const uint8_t *bytes, size_t length);
  /* The end of the request's body. |trailers|: { name \n value \n }, empty when none. Not called
   * for a head with end_stream. */
  void (*on_end)(void *data, void *stream, valk_bytes_t trailers);
  /* The stream is closed, in whatever way; its pointer is not used again. |code| is NO_ERROR for a
   * clean end; |by_peer|: the client reset it. REFUSED_STREAM without a reset: it came after the
   * last stream that our GOAWAY names. */
  void (*on_close)(void *data, void *stream, uint32_t code, bool by_peer);
  /* Gives up to |room| bytes of the answer's body into |out|: the count; *|end| when these are the
   * last (*|trailers| too when trailers follow: valk_h2_trailers is called from inside this event
   * or before). The end is best told with the last bytes: alone it waits for the peer's window.
   * VALK_H2_DEFER: none yet (valk_h2_resume later). VALK_H2_FAIL: the stream is reset with
   * INTERNAL_ERROR. */
  ssize_t (*on_read)(void *data, void *stream, uint8_t *out, size_t room, bool *end,
                     bool *trailers);
} valk_h2_events_t;

/* Counters, by one thread. */
typedef struct {
  uint64_t malformed; /* reset for an error of theirs before they were requests */
  uint64_t resets_by_peer;
  uint64_t refused; /* streams reset because on_request gave NULL */
} valk_h2_counts_t;

/* |events| must outlive the session. Queues our SETTINGS and the connection's window. 0 or
 * VALK_ENOMEM. */
int valk_h2_new(const valk_h2_options_t *options, const valk_h2_events_t *events, void *data,
                valk_ledger_t *ledger, valk_h2_t **h2);
/* Calls on_close for each open stream first. */
void valk_h2_free(valk_h2_t *h2);

/* Takes bytes of the peer. |now_ms| is a monotonic clock for the budgets. After anything but OK no
 * more may be given. */
valk_h2_result_t valk_h2_receive(valk_h2_t *h2, const uint8_t *bytes, size_t length,
                                 uint64_t now_ms);
/* Fills |out| with up to |room| bytes of frames, cutting them where |room| ends; the count, 0:
 * nothing to send now, VALK_ENOMEM. */
ssize_t valk_h2_send(valk_h2_t *h2, uint8_t *out, size_t room);
/* True also after VALK_H2_MEMORY, so that the owner asks and is told. */
bool valk_h2_wants_write(const valk_h2_t *h2);
/* False when the session is over in both ways (after GOAWAY with no stream left): flush and close.
 */
bool valk_h2_alive(const valk_h2_t *h2);

/* Answers a stream. |fields|: { name \n value \n }, checked again here. |date|: 29 bytes or NULL;
 * |content_length| -1: none, and 204 never has one. |body|: on_read will be asked; else HEADERS
 * ends the stream. A content-length and fields that belong to a connection are left out of
 * |fields|, which hold up to 1000 in 64 KiB. 0, VALK_EINVAL (nothing queued; also for a second
 * answer), VALK_ENOMEM (nothing queued, the session goes on), VALK_ESTALE (the stream is gone). */
int valk_h2_respond(valk_h2_t *h2, int32_t stream_id, uint16_t status, const char *fields,
                    size_t fields_length, const char *date, int64_t content_length, bool body);
/* 100 Continue. Results as valk_h2_respond. */
int valk_h2_continue(valk_h2_t *h2, int32_t stream_id);
/* Once, after valk_h2_respond with a body. Sent when on_read ends with |trailers|. Results as
 * valk_h2_respond; VALK_EINVAL when no field is left of them. */
int valk_h2_trailers(valk_h2_t *h2, int32_t stream_id, const char *fields, size_t fields_length);
/* on_read was deferred and can go on. */
void valk_h2_resume(valk_h2_t *h2, int32_t stream_id);
/* RST_STREAM. With NO_ERROR, once the answer has begun, it waits for the answer's end and is left
 * out when the request has ended by then: the client need not send the rest (RFC 9113 section 8.1).
 * No event but on_close comes any more, and on_read until that end. */
void valk_h2_reset(valk_h2_t *h2, int32_t stream_id, uint32_t code);
/* Bytes of DATA (as on_data counted them; padding is consumed inside) were used: opens the window
 * of the stream, or of the connection. */
void valk_h2_consume_stream(valk_h2_t *h2, int32_t stream_id, size_t bytes);
void valk_h2_consume_connection(valk_h2_t *h2, size_t bytes);
/* Sets a stream's receive window (may only grow; holds whether or not our SETTINGS are known yet).
 */
void valk_h2_open_window(valk_h2_t *h2, int32_t stream_id, uint32_t window);

/* GOAWAY in two steps: first with the highest stream id, then (a round trip later) with the last
 * one taken; 0 < |code| skips the first step's wait. Streams up to it finish; each step once. */
void valk_h2_goaway_notice(valk_h2_t *h2);
void valk_h2_goaway(valk_h2_t *h2, uint32_t code);

/* True while a header block has begun and not ended. */
bool valk_h2_in_header_block(const valk_h2_t *h2);
/* True once the client's SETTINGS came. */
bool valk_h2_settled(const valk_h2_t *h2);
/* Streams that are open. */
uint32_t valk_h2_open_streams(const valk_h2_t *h2);
/* True when the stream's own window lets it send, whatever the connection's does. */
bool valk_h2_can_send(const valk_h2_t *h2, int32_t stream_id);
/* True when the window that the stream was given lets its peer send nothing. */
bool valk_h2_is_shut(const valk_h2_t *h2, int32_t stream_id);
const valk_h2_counts_t *valk_h2_counts(const valk_h2_t *h2);
/* The stream's pointer as on_request gave it; NULL when it is gone. */
void *valk_h2_stream(const valk_h2_t *h2, int32_t stream_id);

#endif
