/* The upper half of the core: what system, thread, listener, server, connection, admission and
 * request share. tls, h2, slab, arena, gate and ledger know nothing of it.
 *
 * Whose each is:
 *
 * - system: any thread's, until valk_system_free; its pools, gates and budgets lock for themselves.
 * - thread: its own, but for the mailbox (under its lock), |signals| and the counters
 *   (atomic).
 * - server: immutable after listen, but for the listeners, which are thread 0's, and
 * |tls|, which its lock guards.
 * - connection: its thread's. It ends in two steps: valk__connection_close marks it, frees TLS,
 *   HTTP/2 and its buffers and closes the socket; the memory and the place go before its thread
 *   sleeps again, when no event can name it any more.
 * - request: its thread's. Freed when its stream has ended and its handler has settled. */
#ifndef VALK_CORE_INTERNAL_H
#define VALK_CORE_INTERNAL_H

#include <stdatomic.h>
#include <uv.h>

#include "../include/valk.h"
#include "arena.h"
#include "fault.h"
#include "gate.h"
#include "h2.h"
#include "histogram.h"
#include "ledger.h"
#include "list.h"
#include "poller.h"
#include "slab.h"
#include "spare.h"
#include "tls.h"
#include "yield.h"

#define VALK_MAX_THREADS 256u
#define VALK_MAX_CONSUMERS 64u
#define VALK_HEALTH_CONNECTIONS 16u
#define VALK_MAX_HEADER_FIELDS 128u

/* A stream's window before its request is admitted, and the least it has after: a waiting body lies
 * in its connection's memory, which has 8 KiB a stream (specification, section 4). */
#define VALK_WINDOW_WAITING 8192u
/* Buffered bodies lie in their arena, so the window is a matter of round trips only. */
#define VALK_WINDOW_BUFFERED (1u << 20)
#define VALK_WINDOW_CONNECTION (16u << 20)
/* The widest that a streamed upload's window becomes. */
#define VALK_WINDOW_STREAMED (512u << 10)

/* Who takes TCP buffers: writing goes first, and keeps a reserve. */
#define VALK_LEVEL_WRITE 0
#define VALK_LEVEL_READ 1

/* ---- deadlines: a list a kind, all of one duration, oldest first, so that starting, stopping and
 * finding are O(1) ---- */

typedef struct {
  valk_link_t link;
  uint64_t since_ms;
} valk_deadline_t;

typedef struct valk_deadlines {
  valk_link_t list;
  uint64_t duration_ms;
  void (*expired)(valk_deadline_t *deadline); /* the deadline has left the list */
} valk_deadlines_t;

enum {
  VALK_DEADLINE_HANDSHAKE,
  VALK_DEADLINE_IDLE,
  VALK_DEADLINE_HEADERS,
  VALK_DEADLINE_WRITE,
  VALK_DEADLINE_LINGER,
  VALK_DEADLINE_QUEUE,
  VALK_DEADLINE_HANDLER,
  VALK_DEADLINE_BODY,
  VALK_DEADLINE_RATE,
  VALK_DEADLINE_STALL,
  VALK_DEADLINE_GATHER,
  VALK_DEADLINE_KINDS
};

/* ---- counters: one writer (the thread), any reader ---- */

typedef atomic_uint_fast64_t valk_counter_t;

#define VALK__COUNTER(field, name) valk_counter_t field;
typedef struct {
  valk_counter_t active, accepted, handshakes, resumed, bytes_in, bytes_out;
  struct {
    VALK_CLOSE_CAUSES(VALK__COUNTER)
  } closed;
  valk_counter_t heap_used, heap_largest;
  valk_counter_t buffer_waiters; /* connections in a thread's lists of those */
  valk_counter_t requests_active, requests_waiting, requests, dispatched;
  valk_counter_t status[6]; /* by class, 0 unused */
  valk_counter_t static_routes, timeouts_408, headers_431, bad_400;
  struct {
    VALK_REJECT_CAUSES(VALK__COUNTER)
  } rejected;
  struct {
    VALK_TOO_LARGE_CAUSES(VALK__COUNTER)
  } too_large;
  struct {
    VALK_RESET_CAUSES(VALK__COUNTER)
  } reset;
  valk_histogram_t waiting, handler, writing;
} valk_counters_t;

static inline void valk__count_add(valk_counter_t *counter, uint64_t n) {
  atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                        memory_order_relaxed);
}
static inline void valk__count(valk_counter_t *counter) {
  valk__count_add(counter, 1);
}
static inline void valk__uncount(valk_counter_t *counter) {
  valk__count_add(counter, (uint64_t) -1);
}

/* ---- thread ---- */

typedef struct valk_thread valk_thread_t;
typedef struct valk_connection valk_connection_t;
typedef struct valk_listener valk_listener_t;

/* Signals that any thread may raise; taken at the next turn. */
enum {
  VALK_SIGNAL_BUFFERS = 1u << 0, /* a TCP buffer was granted */
  VALK_SIGNAL_ARENAS = 1u << 1,  /* an arena or a place for a body was granted */
  VALK_SIGNAL_ACCEPT = 1u << 2,  /* a place for a connection was granted */
  VALK_SIGNAL_MAIL = 1u << 3,    /* something is in the mailbox */
  VALK_SIGNAL_WAKE = 1u << 4,    /* consumers: on_wake */
  VALK_SIGNAL_EVICT = 1u << 5    /* connections are at their bound and one waits: make room */
};

/* A letter to a thread; owned by the receiver. */
typedef struct valk_mail {
  struct valk_mail *next;
  void (*open)(valk_thread_t *thread, struct valk_mail *mail);
} valk_mail_t;

#define VALK_REQUEST_CHUNK 64u
#define VALK_OUT_TURN                                                                              \
  8u /* TCP buffers one connection may fill in one turn, so that others get theirs */

struct valk_thread {
  valk_system_t *system;
  unsigned index;
  uv_thread_t handle;
  valk_poller_t poller;
  uint64_t now_ms;           /* of this turn */
  uint64_t timer_at_ms;      /* when deadlines are looked at next */
  uint64_t patient_until_ms; /* connections whose requests were refused do not end the sleep */
  atomic_bool asleep;        /* a signal has to wake us; else we see it before we sleep */
  bool exiting, ended;
  bool draining; /* a server is closing */
  bool again;    /* work is left: do not sleep */
  atomic_uint signals;
  uv_mutex_t mail_lock;
  valk_mail_t *mail_first, *mail_last;
  valk_mail_t exit_mail;

  valk_link_t connections;
  valk_link_t dirty;          /* connections to flush at the end of this turn */
  valk_link_t buffer_readers; /* connections that wait for a TCP buffer, to read */
  valk_link_t buffer_writers; /* ... to write */
  atomic_uint assigned;       /* connections, those on their way here included */

  valk_link_t
      turns[2]; /* connections with waiting requests: [0] without, [1] with a body still to come */
  bool arena_blocked;        /* we stand at the arenas' gate */
  bool body_blocked;         /* ... at the gate of bodies */
  unsigned turn;             /* whose turn it is: 0 or 1 */
  valk_link_t queue_blocked; /* requests whose consumer's queue is full, oldest first */
  bool consumers_called;     /* on_turn is due */
  unsigned visits, begun;    /* since the last pass: connections read, requests begun */
  valk__yield_t yield;       /* after a pass in the middle of a turn */

  valk_deadlines_t deadlines[VALK_DEADLINE_KINDS];

  valk_request_t **chunks;
  uint32_t chunk_count;
  valk_request_t *free_requests;

  uint64_t turn_ns; /* uv_hrtime of the event at hand */
  uint64_t date_s;  /* the quarter second that |date| says */
  char date[32];
  uint64_t pace_since_ms, pace_count; /* answers since; |pace| a second, smoothed */
  double pace;
  uint32_t random;
  uint64_t housekeeping_ms;

  valk_spares_t spares;
  valk_counters_t counters;
  uint8_t plain[VALK_TLS_PLAIN_SPACE]; /* decrypted, on the way to HTTP/2 */
  uint8_t frames[VALK_TLS_PLAIN_MAX];  /* frames, on the way into a record */
};

/* ---- system ---- */

struct valk_system {
  valk_config_t config;
  valk_slab_t buffers;
  valk_arena_pool_t arenas;
  valk_gate_t bodies;   /* requests whose body is still coming: at most 3/4 of the arenas */
  uint32_t bodies_each; /* ... of one connection */
  valk_gate_t connections;
  uv_mutex_t slot_lock;
  uint32_t *free_slots;
  uint32_t free_slot_count;
  /* Bytes left, a slot; then one that health connections share, and the uploads' pool. */
  atomic_int_least64_t *budgets;
  int64_t budget; /* what a slot begins with */

  valk_thread_t *threads;
  unsigned thread_count; /* a hosted one is one too */
  bool hosted;           /* no thread, but a part of its host's: see valk_system_turn */
  atomic_bool stopping;
  atomic_uint open_servers;       /* plus one until it is stopping */
  void (*on_stopped)(void *data); /* under |lock| */
  void *on_stopped_data;
  bool stopped;   /* under |lock| */
  uv_sem_t ended; /* posted when the last server has closed after a stop */
  valk_mail_t stopped_mail;

  uv_mutex_t lock; /* servers, consumers */
  valk_server_t *servers;
  _Atomic(const valk_consumer_t *) consumers[VALK_MAX_CONSUMERS];
  atomic_uint_fast64_t overloaded_ms; /* when the last 503 for overload was given */
  uint64_t pressed_ms;             /* when connections were last asked to make room; thread 0's */
  atomic_uint_fast64_t beat_ms;    /* when the engine last looked after health */
  atomic_uint_fast64_t resumed_ms; /* when it went on after it had stood still */
  atomic_uint_fast64_t requests_waiting; /* of all threads */
  atomic_uint peers;                     /* that were made: the next one's serial */
  atomic_uint orphans;                   /* handlers that run without stream and without arena */
};

#define VALK_SLOT_UPLOADS(system) ((system)->config.max_connections + 1)

/* ---- server ---- */

struct valk_listener {
  valk_poll_t poll;
  valk_server_t *server;
  valk_link_t link; /* thread 0's paused listeners */
  int fd;
  uint16_t port;
  bool health;
  bool open_for_health; /* of |health|: the server has such a listener */
  bool open;            /* begun with and not closed */
  bool paused;          /* not polled: no place, or the system is out of descriptors */
};

typedef struct {
  char *path;
  size_t path_length;
  char *fields;
  size_t fields_length;
  uint8_t *body;
  size_t body_length;
  uint16_t status;
} valk_static_t;

struct valk_server {
  valk_system_t *system;
  valk_server_t *next;
  uv_mutex_t tls_lock;
  valk_tls_context_t *tls; /* for new connections */
  valk_listener_t listener;
  valk_listener_t health;
  valk_gate_t health_gate;
  valk_static_t *routes; /* sorted by path */
  size_t route_count;
  uint8_t *error_503_body;
  size_t error_503_body_length;
  char *live_path, *ready_path;
  uint32_t js_stall_timeout_ms;
  atomic_uint_fast64_t asked_ms; /* when the consumer was woken to know that it lives */
  bool stream_bodies, send_date;
  const valk_consumer_t *consumer;
  void *data;
  atomic_bool closing;
  atomic_uint_fast64_t deadline_ns; /* of the close, by uv_hrtime */
  atomic_uint active;               /* connections, listeners, and letters on their way */
  void (*on_closed)(void *data);    /* under the system's lock */
  void *on_closed_data;
  bool closed;     /* under the system's lock */
  bool gate_ready; /* health_gate and tls_lock are initialised */
  atomic_bool unready;
  atomic_bool consumer_gone;
  struct valk_server_mail {
    valk_mail_t mail;
    valk_server_t *server;
  } * drain_mails, *end_mails; /* one a thread */
};

/* ---- connection ---- */

struct valk_connection {
  valk_link_t link; /* thread->connections */
  valk_link_t dirty;
  valk_link_t read_wait, write_wait;
  valk_link_t turns[2];
  valk_link_t waiting[2]; /* requests that wait for an arena */
  valk_link_t wanting;    /* requests whose consumers wait to write more */
  valk_deadline_t phase;  /* handshake, headers, idle or linger */
  valk_deadline_t writing;
  int phase_kind; /* of VALK_DEADLINE_*, -1: none */
  valk_thread_t *thread;
  valk_server_t *server;
  valk_poll_t poll;
  int fd;
  uint32_t slot;
  uint32_t body_arenas; /* of its requests whose body is still coming */
  uint32_t streams;
  valk_tls_t *tls;
  valk_h2_t *h2;
  valk_ledger_t *ledger;
  size_t resting; /* charged as the read at hand began, or the one in which the header block at hand
                     began, and what has come to wait since: without what decoding takes for a
                     moment */
  valk_peer_t *peer;
  uint8_t *in; /* a TCP buffer with bytes that TLS has not taken, for want of room to write */
  uint32_t in_length, in_used;
  uint8_t *out; /* a TCP buffer with bytes that the socket has not taken */
  uint32_t out_length, out_sent;
  uint8_t *held; /* frames that TLS could not take yet (see valk_tls_write); rare */
  uint32_t held_length;
  unsigned depth;        /* inside TLS and HTTP/2: a close waits until it is out again */
  valk_counter_t *cause; /* why it closes: counted once */
  bool health;
  bool handshaken;
  bool closing;   /* its handle is being closed */
  bool close_now; /* valk__connection_close was called from inside TLS or HTTP/2 */
  bool finishing; /* nothing more is read: flush, close_notify, then linger */
  bool read_all;  /* the peer's FIN has come, and all before it was read */
  bool notified, lingering, shut;
  uint8_t drain_step; /* 0: none, 1: first GOAWAY, 2: second */
  uint64_t drain_ms;
  uint32_t rekeys_excused; /* of TLS: key updates and attempts to renegotiate */
  uint64_t rekeys_ms;
  uint64_t malformed; /* of HTTP/2's count, what stats() has */
  struct sockaddr_storage remote;
  /* Of the uploads that the read at hand brought bytes of, and whose length is known: their
   * windows, and what they have still to send. */
  uint64_t data_bytes; /* of answers' bodies, handed to TLS */
  uint32_t reading;    /* which read that is */
  uint64_t upload_windows, upload_rest;
  valk_deadline_t gathering; /* while |low_water| is above 1 */
  int low_water;             /* bytes below which the socket does not tell of what has come */
};

/* ---- request ---- */

typedef enum {
  VALK_REQUEST_FREE,
  VALK_REQUEST_NEW,
  VALK_REQUEST_WAITING,   /* for an arena, in its connection's list */
  VALK_REQUEST_RECEIVING, /* its body, into its arena */
  VALK_REQUEST_BLOCKED,   /* for a place in its consumer's queue */
  VALK_REQUEST_QUEUED,    /* at its consumer; claimed or not, the consumer knows */
  VALK_REQUEST_ANSWERED   /* an answer has begun */
} valk_request_state_t;

struct valk_request {
  valk_request_state_t state;
  uint32_t id, generation;
  valk_thread_t *thread;
  valk_connection_t *connection; /* NULL: the stream has ended */
  valk_server_t *server;
  const valk_consumer_t *consumer; /* set from dispatch to on_end */
  void *data;
  int32_t stream_id;
  uint32_t slot;
  valk_head_t head;
  bool head_kept;     /* |head.text| lies in the arena */
  char *waiting_head; /* in the connection's memory, until admitted */
  uint8_t *waiting_body;
  uint8_t *body;     /* in the arena, or |own_body| */
  uint8_t *own_body; /* a small body's block, in place of the arena's pages */
  size_t body_length, body_capacity;
  char *trailers;
  size_t trailers_length;
  valk_arena_t *arena;
  valk_link_t wait;          /* waiting[], queue_blocked */
  valk_deadline_t deadline;  /* queue, then handler */
  valk_deadline_t receiving; /* body */
  valk_deadline_t rate;
  valk_deadline_t stall; /* the peer takes nothing of what it asked for */
  uint64_t stall_mark;   /* its connection's |data_bytes| as that began */
  valk_link_t wanting;
  char *waiting_trailers;
  uint64_t rate_bytes;    /* received since the last look */
  uint64_t shut_ms;       /* since then: how long its window was shut */
  uint64_t shut_since_ms; /* 0: it is open */
  uint64_t received;
  uint64_t unconsumed;        /* stream mode: given to the consumer and not taken by the handler */
  uint32_t own_window;        /* of its window, taken from the connection's budget */
  uint32_t pool_window;       /* ... from the pool of uploads */
  bool window_charged;        /* ... and the first bytes from its ledger */
  uint64_t used_since_growth; /* by the handler, since its window grew */
  uint32_t reading;           /* of its connection: the read that brought its last bytes */
  uint64_t arrived_ns, dispatched_ns, answered_ns;
  valk_buffer_t *out_first, *out_last;
  size_t out_bytes;
  const uint8_t *fixed; /* a body of the engine's own (static, 503): not copied */
  size_t fixed_length;
  valk_buffer_t *out_trailers;
  uint16_t status;
  bool handler; /* called, and not settled */
  bool place;   /* holds a place among bodies */
  bool ended;   /* the request's body */
  bool ignore_body;
  bool is_head;
  bool streaming;     /* bodyMode 'stream' */
  bool finished;      /* the answer's body: nothing is added any more */
  bool told;          /* on_abort was called */
  bool pinned;        /* ... and the consumer still reads the arena */
  bool reclaim_place; /* ... and gives its place up then */
  bool claimed;       /* its handler has been called, as far as we know */
  bool orphan;        /* counted in the system's orphans */
  bool expects_continue;
  valk_request_t *next_free;
};

/* ---- thread.c ---- */

int valk__thread_start(valk_system_t *system, unsigned index);
/* The end of a thread: stop each when it is drained, join each, and only then deinit each, since
 * until then any thread may signal any other. */
void valk__thread_stop(valk_thread_t *thread);
/* A turn of a hosted one, before which it sleeps for |timeout_ms| at most. As valk_system_turn. */
int valk__thread_turn(valk_thread_t *thread, int timeout_ms);
void valk__thread_join(valk_thread_t *thread);
void valk__thread_deinit(valk_thread_t *thread);
void valk__thread_signal(valk_thread_t *thread, unsigned signals);
/* The last thing that a connection's poll callback does: every so many connections what a turn ends
 * with is done, while they are in the caches. Any connection of the thread may be closed then, and
 * libuv names none that is. */
void valk__thread_visited(valk_thread_t *thread);
/* A request of the connection was refused for want of room or time. */
void valk__thread_refused(valk_connection_t *connection);
void valk__thread_post(valk_thread_t *thread, valk_mail_t *mail);
void valk__deadline_start(valk_thread_t *thread, int kind, valk_deadline_t *deadline);
void valk__deadline_stop(valk_deadline_t *deadline);
/* Acts upon those that have passed, in a turn no more than so many of a kind: in overload thousands
 * of requests wait out their time together, and whoever comes new should not stand behind the
 * answers of all. */
#define VALK_EXPIRED_A_TURN 64u
void valk__deadlines_run(valk_thread_t *thread);
/* When to run them next, UINT64_MAX without any: at once where some have passed, otherwise a 32nd
 * of its time after the first has passed, and at most so many milliseconds. The answers of requests
 * that are refused together leave together, and so come the requests that follow. */
#define VALK_LATE_MS 32u
uint64_t valk__deadlines_next(const valk_thread_t *thread);
const char *valk__thread_date(valk_thread_t *thread);
uint32_t valk__thread_random(valk_thread_t *thread);
/* All that the upper half knows of time: the turn's, and the clock itself. */
static inline uint64_t valk__now_ms(const valk_thread_t *thread) {
  return thread->now_ms + valk__fault_ahead_ms();
}
static inline uint64_t valk__clock_ns(void) {
  return uv_hrtime() + valk__fault_ahead_ms() * 1000000;
}

/* ---- listener.c ---- */

int valk__listener_bind(valk_listener_t *listener, const char *host, uint16_t port, bool reuse_port,
                        char *error, size_t error_size);
/* Begins to accept. An error of libuv's: the socket is closed and the server's reference gone. */
int valk__listener_start(valk_thread_t *thread, valk_listener_t *listener);
/* Accepts what has come already, as far as there are places, then closes. */
void valk__listener_stop(valk_thread_t *thread, valk_listener_t *listener);
void valk__listeners_resume(valk_thread_t *thread);
uint64_t valk__listener_waiting(const valk_listener_t *listener);
/* Once a quarter second while connections are at their bound: makes room when one waits in the
 * backlog. */
void valk__listeners_press(valk_thread_t *thread);

/* ---- connection.c ---- */

void valk__connection_open(valk_thread_t *thread, valk_server_t *server, int fd, uint32_t slot,
                           bool health, const struct sockaddr_storage *remote);
void valk__connection_flush(valk_connection_t *connection);
void valk__connection_dirty(valk_connection_t *connection);
/* Ends it now. |cause|: the counter that says why. */
void valk__connection_close(valk_connection_t *connection, valk_counter_t *cause);
/* Nothing more is to be read: flush, close_notify, FIN, linger. */
void valk__connection_finish(valk_connection_t *connection, valk_counter_t *cause);
/* Leaves TLS and HTTP/2; a close asked for inside happens now. True when the connection is closing.
 */
bool valk__connection_leave(valk_connection_t *connection);
/* Gives |length| bytes of the thread's |plain| to HTTP/2. */
void valk__connection_feed_h2(valk_connection_t *connection, size_t length);
/* |kind|: the one deadline of the connection's own that runs, -1 for none. */
void valk__connection_set_phase(valk_connection_t *connection, int kind);
void valk__connection_put_buffer(valk_connection_t *connection, uint8_t **buffer);

/* Into one of the thread's lists of connections that wait for a TCP buffer, and out of it again;
 * not in one already, but perhaps in none. */
void valk__buffer_wait(valk_thread_t *thread, valk_link_t *list, valk_link_t *wait);
void valk__buffer_stop_waiting(valk_thread_t *thread, valk_link_t *wait);

/* ---- connection_write.c ---- */

/* Writes what there is to say, and says goodbye when nothing more is to come. False when the
 * connection is closing. */
bool valk__connection_write(valk_connection_t *connection);
/* A TCP buffer to write into; false: the connection waits for one. */
bool valk__connection_need_out(valk_connection_t *connection);
/* Sends what is in the buffer. False when the socket takes no more now, or the connection is
 * closing. */
bool valk__connection_send_out(valk_connection_t *connection);

/* ---- drain.c ---- */

/* GOAWAY; closes when its streams have ended. */
void valk__connection_drain(valk_connection_t *connection, valk_counter_t *cause);
/* Takes and forgets what a peer that has our last words still sends; closes at its end. */
void valk__connection_linger(valk_connection_t *connection);
/* Whether |size| bytes more of what waits fit below the soft mark of the connection's memory
 * (specification, section 6); they count as held then. */
bool valk__connection_may_hold(valk_connection_t *connection, size_t size);
/* Charges |size| bytes that lie elsewhere, up to the soft mark. */
bool valk__connection_charge(valk_connection_t *connection, size_t size);
/* After a read: asks a connection to leave that holds too much though its new requests are refused.
 */
void valk__connection_check_memory(valk_connection_t *connection);
/* Ends a connection whose peer changes keys again and again. */
void valk__connection_check_rekeys(valk_connection_t *connection);
void valk__connection_count_malformed(valk_connection_t *connection);
/* Asks the connection that is idle longest, or else the oldest handshake over a second old, to
 * leave. */
void valk__connections_evict(valk_thread_t *thread);
void valk__connection_stream_ended(valk_connection_t *connection);
const valk_peer_t *valk__connection_peer(valk_connection_t *connection);
void valk__connection_peer_free(valk_connection_t *connection);
void valk__connection_serve_wanting(valk_connection_t *connection);
void valk__connections_serve_buffers(valk_thread_t *thread);
/* A connection's place is free again: the thread's share, the slot, the server's count. */
void valk__connection_place_free(valk_thread_t *thread, valk_server_t *server, uint32_t slot,
                                 bool health);
void valk__connection_deadlines(valk_thread_t *thread);
/* Each heartbeat while a server is closing: the next step of each of its connections: GOAWAY, the
 * second GOAWAY, the end at the deadline. |server| NULL: of all that close. */
void valk__connections_drain(valk_thread_t *thread, valk_server_t *server);

/* ---- request.c ---- */

extern const valk_h2_events_t valk__request_events;
/* ---- reply.c: the engine's own answers ---- */

/* |body| stays the caller's (a route's, a literal's); |buffer| becomes
 * the request's. */
void valk__request_reply(valk_request_t *request, uint16_t status, const char *fields,
                         size_t fields_length, const uint8_t *body, size_t body_length);
void valk__request_reply_buffer(valk_request_t *request, uint16_t status, const char *fields,
                                size_t fields_length, valk_buffer_t *body);
void valk__request_limit(valk_request_t *request, uint16_t status, const char *body,
                         valk_counter_t *cause);
void valk__request_reply_text(valk_request_t *request, uint16_t status, const char *body);
void valk__request_too_large(valk_request_t *request, valk_counter_t *cause);
void valk__request_drop_answer(valk_request_t *request);
void valk__request_stop_receiving(valk_request_t *request);
/* Its peer may not send, and may again: the body's deadlines leave out the time between. */
void valk__request_note_shut(valk_request_t *request);
void valk__request_window_opened(valk_request_t *request);
/* Its peer has something to take from now on. */
void valk__request_begin_stall(valk_request_t *request);
void valk__request_count_status(valk_request_t *request, uint16_t status);
void valk__request_finished(valk_request_t *request);
void valk__request_tell(valk_request_t *request, valk_abort_t reason);
void valk__request_detach_consumer(valk_request_t *request);
void valk__request_release_body_place(valk_request_t *request);
void valk__request_release_place(valk_request_t *request);
/* Frees it if its stream has ended and its handler has settled. */
void valk__request_end(valk_request_t *request);
/* A consumer goes: answers or resets what it holds on this thread. */
void valk__requests_remove_consumer(valk_thread_t *thread, const valk_consumer_t *consumer);
/* The thread has ended: ends the requests whose handlers run on. */
void valk__requests_end(valk_thread_t *thread);
void valk__requests_free(valk_thread_t *thread);
void valk__request_deadlines(valk_thread_t *thread);
void valk__request_dispatch(valk_request_t *request);
/* The head moves into the arena, where it lasts. 0 or VALK_ENOMEM. */
int valk__request_keep_head(valk_request_t *request);
void valk__request_free_waiting(valk_request_t *request);
/* The body alone is given up; the arena is emptied by the caller. */
void valk__request_free_body(valk_request_t *request);
/* REFUSED_STREAM: its connection's memory is full, and no handler has seen it. */
void valk__request_refuse(valk_request_t *request);
/* 0: it lies in the arena now; but for the head of one without a body, which valk__request_dispatch
 * must take at once (valk__request_keep_head). VALK_ENOMEM: no pages; VALK_ELIMIT: its connection
 * has no memory left for the window of its upload. */
int valk__request_admit(valk_request_t *request, valk_arena_t *arena, const char *text);

/* ---- upload.c ---- */

/* Opens the window of an admitted upload. False: its connection has no memory left for it. */
bool valk__upload_open(valk_request_t *request);
/* |length| bytes more are at the consumer. */
void valk__upload_received(valk_request_t *request, size_t length);
/* The handler has read |bytes| of it: its window may grow. */
void valk__upload_consumed(valk_request_t *request, size_t bytes);
/* When it has ended and its handler has read it, others may have its window. */
void valk__upload_release(valk_request_t *request);
/* Around all that is read of a connection at a time, |received| bytes: lets the next bytes of large
 * uploads come together before the thread is woken. */
void valk__uploads_begin_read(valk_connection_t *connection);
void valk__uploads_end_read(valk_connection_t *connection, size_t received);
void valk__upload_deadlines(valk_thread_t *thread);

/* ---- admission.c ---- */

/* A new request: admitted now, or made to wait. 0, or VALK_ENOMEM: refuse it. */
int valk__admission_enter(valk_request_t *request, const char *text);
/* It no longer waits: answered, reset. */
void valk__admission_leave(valk_request_t *request);
/* The body of a waiting request is whole: it needs no place among bodies. */
void valk__admission_body_ended(valk_request_t *request);
/* Admits whom the free arenas allow. */
/* A place among the bodies of |connection| has become free. */
void valk__admission_connection_eligible(valk_connection_t *connection);
void valk__admission_run(valk_thread_t *thread);
void valk__admission_run_queue(valk_thread_t *thread);
void valk__admission_reject(valk_request_t *request, valk_counter_t *cause);
void valk__admission_deadlines(valk_thread_t *thread);

/* ---- server.c, health.c ---- */

/* Answers a static route or a health path; false: it is for the handler. */
bool valk__server_answer(valk_request_t *request, const char *text);
bool valk__health_answer(valk_request_t *request, const char *path, size_t length);
void valk__health_poke(valk_thread_t *thread);
void valk__server_free(valk_server_t *server);
/* The TLS of a new connection, which keeps the certificate that it began with. 0 or VALK_ENOMEM. */
int valk__server_tls_new(valk_server_t *server, bool health, valk_tls_t **tls);
void valk__server_unref(
    valk_server_t *server); /* a connection, listener or letter of it has ended */
/* Ends its connections at once, whatever they do. */
void valk__server_end(valk_server_t *server);

/* ---- system.c ---- */

void valk__system_server_closed(valk_system_t *system);
/* Waits until an engine thread has posted |done|; a hosted one takes its turns here. */
void valk__system_await(valk_system_t *system, uv_sem_t *done);

#endif
