/* The bridge: one JavaScript environment's way to and from the engine threads of one system. Plain
 * C: it knows no Node, so that a C thread can stand in for JavaScript in tests.
 *
 * Engine to JavaScript: requests go through a ring of records and a ring of text in memory that
 * JavaScript allocates and reads by itself; everything else (bodies, aborts, room to write) is an
 * event of an exchange. JavaScript to engine: records in a plain buffer of JavaScript's own, taken
 * by valk_bridge_flush.
 *
 * An exchange is one request and its answer, named by (index, generation) on JavaScript's thread
 * and by its valk_request_t on the engine thread that owns it. It is freed, on that thread, when
 * both sides have let go: the engine by on_end or a successful on_drop, JavaScript by a terminal
 * record (see below). No allocation is made for an event or an operation: each exchange stands at
 * most once in the list of either, so both are bounded by the requests there are.
 *
 * "JS" functions are called on JavaScript's thread alone, "any" on any thread. */
#ifndef VALK_BRIDGE_H
#define VALK_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "valk.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- memory shared with JavaScript; every word is an int32, and those below are only touched
 * atomically ---- */

/* Control words. What different threads write lies on different cache lines. Indices count up for
 * ever and wrap at 2^32. */
enum {
  VALK_BRIDGE_WRITE = 0,    /* records published; the engine's */
  VALK_BRIDGE_READ = 16,    /* records taken; JavaScript's. Moving on frees a record and its text */
  VALK_BRIDGE_AWAKE = 32,   /* 1: JavaScript takes its turn, or has been told to */
  VALK_BRIDGE_EVENTS = 33,  /* 1: valk_bridge_events has something */
  VALK_BRIDGE_BLOCKED = 34, /* 1: an engine thread waits for room in the rings ... */
  VALK_BRIDGE_UNBLOCK_AT = 35, /* ... and wants valk_bridge_unblock once READ has come this far */
  VALK_BRIDGE_CONTROL_WORDS = 48
};

/* A record of the ring: sixteen words. Only the state is atomic; the others are published by
 * VALK_BRIDGE_WRITE. JavaScript takes a record by changing its state from QUEUED to CLAIMED, and
 * skips it when that fails: until then the engine may drop it. */
enum {
  VALK_RECORD_STATE = 0,
  VALK_RECORD_INDEX = 1,
  VALK_RECORD_GENERATION = 2,
  VALK_RECORD_TEXT = 3, /* the head as in valk_head_t: where it begins in the ring of text, at a
                           multiple of four ... */
  VALK_RECORD_TEXT_LENGTH = 4, /* ... and its bytes; it never wraps, and zeros fill its last word */
  VALK_RECORD_FLAGS = 5,
  VALK_RECORD_SERVER = 6,      /* see valk_bridge_server_data */
  VALK_RECORD_BODY_LENGTH = 7, /* buffered mode */
  VALK_RECORD_SLOT =
      8, /* the connection's place, and which of the place's connections it is: ... */
  VALK_RECORD_PEER = 9, /* ... JavaScript asks for a peer once a connection */
  VALK_RECORD_WORDS = 16
};

enum { VALK_RECORD_FREE, VALK_RECORD_QUEUED, VALK_RECORD_CLAIMED, VALK_RECORD_DROPPED };

enum {
  VALK_REQUEST_HAS_BODY = 1, /* it has a body, or one may still come */
  VALK_REQUEST_STREAMS = 2,  /* the body comes by events, see valk_bridge_read */
  VALK_REQUEST_IS_HEAD = 4,
  VALK_REQUEST_HAS_TRAILERS = 8
};

/* Events, for valk_bridge_events: three words each, index, generation, bits. */
enum {
  VALK_EVENT_ABORT = 1, /* the stream ended early; the cause (valk_abort_t) is in bits 8 to 15 */
  VALK_EVENT_BODY = 2,  /* valk_bridge_read has something new: bytes or the end */
  VALK_EVENT_TRAILERS = 4,
  VALK_EVENT_WRITABLE = 8,
  VALK_EVENT_END = 16, /* the engine has let go of the request: let go too */
  VALK_EVENT_WORDS = 3
};

/* ---- the buffer of answers: JavaScript's own, not shared ---- */

/* Its first words: bytes used, these included (JavaScript writes it, a flush resets it); and
 * whether a flush is sure to follow (the caller of JavaScript's turn writes it). Then records, each
 * beginning at a multiple of four: */
enum { VALK_OUT_USED = 0, VALK_OUT_IN_TURN = 1, VALK_OUT_START = 16 /* bytes */ };
enum {
  VALK_OUT_KIND = 0, /* kind | flags << 8 (valk_answer_flags_t, VALK_OUT_LENT) | status << 16 */
  VALK_OUT_INDEX = 1,
  VALK_OUT_GENERATION = 2,
  VALK_OUT_HEAD_LENGTH = 3, /* bytes of fields or trailers after the record; RESET: the code */
  VALK_OUT_BODY_LENGTH = 4, /* bytes of body after them */
  VALK_OUT_LENGTH_LOW = 5,  /* content-length, 64 bits; -1: none */
  VALK_OUT_LENGTH_HIGH = 6,
  VALK_OUT_WORDS = 7
};
/* With VALK_ANSWER_END: the body goes on with what valk_bridge_lend took, the oldest. */
#define VALK_OUT_LENT 128u
/* Kinds. Terminal ones, after which JavaScript has let go of the exchange: RESPOND with
 * VALK_ANSWER_END, FINISH, RESET, SETTLE. The body bytes of an exchange's RESPOND and WRITE records
 * are at most VALK_INLINE_MAX in all; more goes by valk_bridge_lend or valk_bridge_write. */
enum {
  VALK_OUT_RESPOND = 1,
  VALK_OUT_WRITE = 2,
  VALK_OUT_FINISH = 3,
  VALK_OUT_RESET = 4,
  VALK_OUT_SETTLE = 5,
  VALK_OUT_IGNORE_BODY = 6
};

typedef struct valk_bridge valk_bridge_t;

typedef struct {
  int32_t *control; /* VALK_BRIDGE_CONTROL_WORDS, zero */
  int32_t *records; /* |record_count| * VALK_RECORD_WORDS, zero; a power of two, at least
                       |queue_capacity| */
  uint32_t record_count;
  uint32_t queue_capacity; /* records in use at a time */
  uint8_t *text; /* aligned to four; a request whose head has more than half of it is refused */
  uint32_t text_size;
  uint8_t *out; /* aligned to four, VALK_OUT_USED set to VALK_OUT_START */
  uint32_t out_size;
  void (*wake)(
      void *data); /* any thread: makes JavaScript take a turn, soon and once for several calls */
  void *data;
} valk_bridge_options_t;

/* JS. Adds a consumer to |system|. Everything that |options| points to must live until
 * valk_bridge_free. 0, VALK_ENOMEM, or what valk_system_add_consumer returns. */
int valk_bridge_new(valk_system_t *system, const valk_bridge_options_t *options,
                    valk_bridge_t **bridge);
/* JS. Removes the consumer, answers or resets what it holds, frees everything. Before
 * valk_system_free. */
void valk_bridge_free(valk_bridge_t *bridge);
/* For valk_server_options_t: the consumer, and the data of the server that JavaScript knows as
 * |id|. Any. */
const valk_consumer_t *valk_bridge_consumer(const valk_bridge_t *bridge);
void *valk_bridge_server_data(uint32_t id, bool streams);

/* ---- JavaScript's turn ---- */

/* JS. The turn begins; what comes in from here on does not wake. */
void valk_bridge_begin(valk_bridge_t *bridge);
/* JS. The turn has ended. False: something has come in meanwhile, so another must follow without a
 * wake-up. */
bool valk_bridge_sleep(valk_bridge_t *bridge);
/* JS. After moving READ past UNBLOCK_AT with BLOCKED set: engine threads that wait for room try
 * again. */
void valk_bridge_unblock(valk_bridge_t *bridge);
/* JS. Fills in up to |most| events; the count. */
uint32_t valk_bridge_events(valk_bridge_t *bridge, int32_t *events, uint32_t most);
/* JS. Takes all records out of the buffer of answers. 0, or VALK_EINVAL for a malformed one, or a
 * second answer (it and what follows is lost). */
int valk_bridge_flush(valk_bridge_t *bridge);

/* ---- an exchange; JS; VALK_ESTALE once it has ended or JavaScript has let go of it ---- */

/* Buffered mode: copies |length| bytes of the body. VALK_ESTALE too when the engine has given its
 * memory to another request. */
int valk_bridge_body(valk_bridge_t *bridge, uint32_t index, uint32_t generation, uint8_t *bytes,
                     size_t length);
/* Stream mode: how many bytes can be taken now, VALK_READ_MAX of them at most. 0: none,
 * VALK_EVENT_BODY will come. VALK_BRIDGE_ENDED: none any more.
 *
 * Larger pieces would be fewer, but malloc hands blocks of over 128 KiB back to the kernel as
 * JavaScript lets go of them, and each page that it gets anew costs more than copying it. */
#define VALK_BRIDGE_ENDED (-1)
#define VALK_READ_MAX 65536
int64_t valk_bridge_readable(valk_bridge_t *bridge, uint32_t index, uint32_t generation);
/* Takes |length| bytes, no more than are readable, and opens the peer's window by as much. */
int valk_bridge_read(valk_bridge_t *bridge, uint32_t index, uint32_t generation, uint8_t *bytes,
                     size_t length);
/* More of an answer's body, up to VALK_WRITE_MAX: copies what the connection's budget allows and
 * returns how much that was. 0: nothing now, VALK_EVENT_WRITABLE will come. VALK_ENOMEM: out of
 * memory. What is in the buffer of answers must be flushed before. */
int64_t valk_bridge_write(valk_bridge_t *bridge, uint32_t index, uint32_t generation,
                          const uint8_t *bytes, size_t length);
/* JS. Bytes for the body of the next RESPOND record with VALK_OUT_LENT, see valk_buffer_lend. 0, or
 * VALK_ENOMEM: |owner| is the caller's still. */
int valk_bridge_lend(valk_bridge_t *bridge, const uint8_t *bytes, uint32_t length,
                     void (*release)(void *owner), void *owner);
/* To be asked between the claim and the step of READ past the exchange's record, and valid until
 * that step; NULL after it. So a handler that is called knows its client, even one that has left
 * since, and none keeps a certificate in the engine's memory beyond its connection. */
const valk_peer_t *valk_bridge_peer(valk_bridge_t *bridge, uint32_t index, uint32_t generation);
/* The trailers, which the caller frees: they are charged to nobody, so that the engine keeps none
 * for a handler that runs on. NULL when there are none (yet), or they were taken before. */
char *valk_bridge_take_trailers(valk_bridge_t *bridge, uint32_t index, uint32_t generation,
                                size_t *length);
/* Any. Exchanges that have not ended, for tests. */
uint32_t valk_bridge_open(const valk_bridge_t *bridge);

#ifdef __cplusplus
}
#endif
#endif
