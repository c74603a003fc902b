/* What bridge.c (engine to JavaScript) and bridge_out.c (JavaScript to engine) share.
 *
 * Locks, none taken while another is held:
 *   ring_lock    the rings; engine threads
 *   lock         events, bodies and pins of all exchanges; engine threads and JavaScript
 *   inbox->lock  operations of the exchanges of one engine thread; that thread and JavaScript */
#ifndef VALK_BRIDGE_INTERNAL_H
#define VALK_BRIDGE_INTERNAL_H

#include <stdatomic.h>
#include <uv.h>

#include "../core/fault.h"
#include "bridge.h"

#define VALK_BRIDGE_CHUNK 256u
/* RFC 9113, section 7. */
#define VALK_INTERNAL_ERROR 2u

/* Operations: what JavaScript wants done with a request; several may be waiting at once. */
enum {
  VALK_OP_RECLAIM = 1,
  VALK_OP_CONSUME = 2,
  VALK_OP_IGNORE_BODY = 4,
  VALK_OP_RESPOND = 8,
  VALK_OP_WRITE = 16,
  VALK_OP_WANT_WRITABLE = 32,
  VALK_OP_FINISH = 64,
  VALK_OP_RESET = 128,
  VALK_OP_SETTLE = 256,
  VALK_OP_RELEASE = 512 /* JavaScript has let go */
};

typedef struct {
  uint32_t bits;
  uint32_t head_length;
  int64_t content_length;
  valk_buffer_t *answer;
  valk_buffer_t *write_first, *write_last;
  valk_buffer_t *trailers;
  size_t consumed;
  uint32_t code;
  uint16_t status;
  uint16_t flags;
} valk_ops_t;

/* What came of a streamed body and was not read yet. */
typedef struct valk_chunk {
  struct valk_chunk *next;
  size_t length, capacity;
  uint8_t data[];
} valk_chunk_t;

typedef struct valk_exchange valk_exchange_t;

struct valk_exchange {
  /* Immutable while the exchange is open. */
  uint32_t index;
  atomic_uint generation; /* counts up when the exchange is freed */
  unsigned thread;
  uint32_t slot;
  uint32_t position; /* of its record */

  /* Set before its record is published. JavaScript reads it without a lock until READ has passed
   * that record; only after that is it dropped, under bridge->lock, as soon as the stream has ended
   * early: a handler may outlive its connection, and then the memory of it is charged to nobody. */
  const valk_peer_t *peer;

  /* Engine thread. */
  valk_request_t *request; /* NULL: the engine has let go */
  valk_exchange_t *next_free;
  bool released; /* JavaScript has let go */
  bool running;  /* its operations are being carried out: do not free it */

  /* JavaScript. Set by terminal records, reset before the record is published. */
  atomic_bool closed;
  bool answered; /* the head of its answer is on its way: the request's memory is the engine's again
                  */

  /* Under bridge->lock. */
  uint32_t events;
  valk_exchange_t *event_prev, *event_next; /* in the list while |events| is not 0 */
  const uint8_t *body;
  size_t body_length;
  bool pinned;
  bool reclaim; /* the engine wants the memory as soon as it is not pinned */
  bool body_ended;
  bool cut_off; /* its stream ended before the body, or before all of it was read */
  valk_chunk_t *first, *last;
  size_t offset; /* bytes of |first| that were read */
  size_t readable;
  uint8_t *trailers;
  size_t trailers_length;

  /* Under inbox->lock. */
  valk_ops_t ops;
  valk_exchange_t *next_inbox; /* in the list while |ops.bits| is not 0 */
};

typedef struct {
  /* Under |lock|: exchanges with operations. */
  uv_mutex_t lock;
  valk_exchange_t *first, *last;
  /* The engine thread's own. */
  valk_exchange_t *free;
  bool news; /* something to tell JavaScript at the end of this turn */
  atomic_uint open;
  /* Under ring_lock. */
  bool waits; /* for room in the rings */
  /* JavaScript's own. */
  bool touched; /* to be woken at the end of this flush */
} valk_inbox_t;

struct valk_bridge {
  valk_consumer_t consumer;
  valk_system_t *system;
  valk_bridge_options_t options;
  unsigned thread_count;
  valk_inbox_t *inboxes;

  uv_mutex_t table_lock;
  _Atomic(valk_exchange_t *) *chunks;
  uint32_t chunk_count, chunk_most;

  uv_mutex_t ring_lock;
  uint32_t write;     /* records written, published or not */
  uint32_t text_next; /* where the next head may begin */
  uint32_t high_water;
  uint64_t times_full;

  uv_mutex_t lock;
  valk_exchange_t *event_first, *event_last;

  /* JavaScript's own: what was lent for records that have not been flushed yet, oldest first. */
  valk_buffer_t *lent_first, *lent_last;

  atomic_uint_fast64_t last_turn_ms;
};

/* The engine's clock (see last_turn_ms of valk_consumer_t). */
static inline uint64_t valk__bridge_clock_ms(void) {
  return uv_hrtime() / 1000000 + valk__fault_ahead_ms();
}

/* Words shared with JavaScript, which uses Atomics on them: sequentially consistent. */
static inline int32_t valk__word(const valk_bridge_t *bridge, int word) {
  return __atomic_load_n(&bridge->options.control[word], __ATOMIC_SEQ_CST);
}
static inline void valk__set_word(valk_bridge_t *bridge, int word, int32_t value) {
  __atomic_store_n(&bridge->options.control[word], value, __ATOMIC_SEQ_CST);
}

static inline int32_t *valk__record(const valk_bridge_t *bridge, uint32_t position) {
  return bridge->options.records +
         (size_t) (position & (bridge->options.record_count - 1)) * VALK_RECORD_WORDS;
}

/* Whether JavaScript has read all that the exchange's record brings. What it has not lies within
 * the queue's capacity from READ on; indices wrap, and so may those of a handler that runs for
 * hours, which then counts as not passed for as long as it takes to go through one queue. */
static inline bool valk__exchange_passed(const valk_bridge_t *bridge,
                                         const valk_exchange_t *exchange) {
  uint32_t read = (uint32_t) valk__word(bridge, VALK_BRIDGE_READ);
  return exchange->position - read >= bridge->options.queue_capacity;
}

/* Engine, |exchange|'s thread. Frees it if both sides have let go. */
void valk__exchange_end(valk_bridge_t *bridge, valk_exchange_t *exchange);
/* Engine. */
void valk__bridge_event(valk_bridge_t *bridge, valk_exchange_t *exchange, uint32_t bits);
/* The same, under bridge->lock and of one that JavaScript has not let go of. */
void valk__bridge_add_event(valk_bridge_t *bridge, valk_exchange_t *exchange, uint32_t bits);
/* Engine. Adds to what JavaScript may read, and tells it. |room|: as valk_request_body_room says. 0
 * or VALK_ENOMEM, after which a part may have been added. */
int valk__chunks_add(valk_bridge_t *bridge, valk_exchange_t *exchange, const uint8_t *bytes,
                     size_t length, uint64_t room);
/* Under bridge->lock, or where nobody else has the exchange. */
void valk__chunks_free(valk_exchange_t *exchange);
/* JS. NULL when it has ended or JavaScript has let go of it. */
valk_exchange_t *valk__bridge_find(valk_bridge_t *bridge, uint32_t index, uint32_t generation);
/* JS. Lets go of all that was lent and not flushed. */
void valk__bridge_drop_lent(valk_bridge_t *bridge);
void valk__ops_deinit(valk_bridge_t *bridge, valk_ops_t *ops);

/* Engine: on_wake. */
void valk__bridge_run(void *data, unsigned thread);
/* JS. Adds operations; consumed bytes, if any, in |ops|. Takes the buffers. */
void valk__bridge_post(valk_bridge_t *bridge, valk_exchange_t *exchange, const valk_ops_t *ops);

#endif
