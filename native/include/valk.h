/* valk: an HTTP/2 server engine. Pools, TLS, HTTP/2 and all buffers live on the engine's own
 * threads.
 *
 * The one public header of the core. The core receives a complete, resolved configuration and
 * derives nothing.
 *
 * Errors: 0 is success. A negative value is one of valk_error_t or, for a failed system call,
 * libuv's negative errno.
 *
 * Threads: "any" functions may be called from any thread; "engine" functions only on the engine
 * thread that owns the request, that is, inside a consumer's callback. A request belongs to one
 * engine thread for its life. Other threads name it by its handle (valk_handle_t), never by its
 * pointer.
 *
 * Who owns what: the system owns threads, pools and servers; a thread owns its connections; a
 * connection owns its streams; a request is shared by its stream and its consumer and is freed when
 * both have ended (on_abort or a finished answer for the one, an answer or valk_request_settle for
 * the other). */
#ifndef VALK_H
#define VALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  VALK_OK = 0,
  VALK_ENOMEM = -5001,   /* no memory, or a page that could not be committed */
  VALK_EINVAL = -5002,   /* an argument breaks the contract */
  VALK_ETLS = -5003,     /* key, certificate or TLS library */
  VALK_ESTOPPED = -5004, /* the system has been stopped */
  VALK_EAGAIN = -5005,   /* full now: try again when told */
  VALK_ESTALE = -5006,   /* the handle's request has ended */
  VALK_ELIMIT = -5007    /* RLIMIT_DATA or the address space is too small for the configuration */
} valk_error_t;

/* A sentence for any error this library returns. */
const char *valk_strerror(int error);

/* A TCP buffer: two of the largest TLS records without compression (specification, section 1), and
 * what it occupies. */
#define VALK_TCP_BUFFER_SIZE 33418u
#define VALK_TCP_BUFFER_STRIDE 36864u

/* ---- configuration: every field set, within the specification's limits (section 1, 5) ---- */

typedef struct {
  uint32_t max_connections;
  uint32_t max_concurrent_streams;
  uint32_t tcp_buffer_pool_size;
  uint32_t arena_pool_size;
  uint32_t queue_capacity;
  uint32_t io_threads; /* 0: none, see valk_system_turn */
  uint32_t max_overflow_arenas;
  uint32_t queue_timeout_ms;
  uint32_t handler_timeout_ms;
  uint32_t handshake_timeout_ms;
  uint32_t idle_timeout_ms;
  uint32_t headers_timeout_ms;
  uint32_t body_timeout_ms;
  uint32_t min_body_rate; /* bytes a second, 0: off */
  uint32_t write_timeout_ms;
  uint32_t max_header_list_size;
  uint64_t arena_size;
  uint64_t max_request_body_size;
  uint64_t connection_heap_size;
} valk_config_t;

typedef struct valk_system valk_system_t;
typedef struct valk_server valk_server_t;
typedef struct valk_request valk_request_t;

/* Names a request from any thread: its engine thread (upper 8 bits of |id|) and place, and which of
 * the place's requests. */
typedef struct {
  uint32_t id;
  uint32_t generation;
} valk_handle_t;

/* ---- what a request brings ---- */

/* The peer of a connection; immutable, counted by valk_peer_ref/unref (any thread). */
typedef struct {
  uint32_t serial; /* tells it from the peers that had its slot before; never 0 */
  char remote_address[46];
  char local_address[46];
  uint16_t remote_port;
  uint16_t local_port;
  const char *tls_version;
  const char *tls_cipher;
  char servername[256]; /* empty: none */
  /* The client's certificate, DER; NULL: none, or it was not asked for. Part of the peer. */
  const uint8_t *certificate;
  size_t certificate_length;
  /* NULL: the client showed a certificate that |ca| vouches for, or was not asked; else why not, as
   * OpenSSL names it: "CERT_HAS_EXPIRED". */
  const char *authorization_error;
} valk_peer_t;

const valk_peer_t *valk_peer_ref(const valk_peer_t *peer);
void valk_peer_unref(const valk_peer_t *peer);

/* A request's head as text, Latin-1, each part ended by '\n' (no part can hold one, RFC 9113
 * section 8.2.1): method \n scheme \n authority \n path \n { name \n value \n } Cookie crumbs are
 * joined by "; " (section 8.2.3); |authority| comes from :authority, else from host. */
typedef struct {
  const char *text;
  uint32_t length;
  uint32_t field_count;   /* regular fields */
  int64_t content_length; /* -1: not given */
  bool expects_continue;  /* expect: 100-continue (RFC 9110 section 10.1.1) */
} valk_head_t;

typedef struct {
  const uint8_t *data;
  size_t length;
} valk_bytes_t;

/* Engine. Its text is valid inside on_request alone: a consumer copies what it needs. */
const valk_head_t *valk_request_head(const valk_request_t *request);
/* Engine. The whole body (buffered mode); empty in stream mode. Valid until the request's memory is
 * given up (see on_abort) or its answer's head was taken. */
valk_bytes_t valk_request_body(const valk_request_t *request);
/* Engine. Trailers as { name \n value \n }; empty when there are none (yet). */
valk_bytes_t valk_request_trailers(const valk_request_t *request);
/* Engine. True when no more body will come: it was whole, or there was none. */
bool valk_request_body_ended(const valk_request_t *request);
/* Engine. True when the body comes by on_body (bodyMode 'stream'). */
bool valk_request_streams(const valk_request_t *request);
/* Engine, stream mode. How many bytes may come beside those that the consumer has: as many as its
 * peer may send now, or has announced. */
uint64_t valk_request_body_room(const valk_request_t *request);
/* Engine. NULL once its stream has ended: the peer is the connection's, and goes with it. A
 * consumer that refs it counts its certificate (up to 32 KiB) as its own from then on: the
 * connection's memory bounds what is charged to it, and that is no more when it is gone. */
const valk_peer_t *valk_request_peer(const valk_request_t *request);
valk_server_t *valk_request_server(const valk_request_t *request);
/* The server's own pointer (valk_server_options_t.data). */
void *valk_server_data(const valk_server_t *server);
valk_handle_t valk_request_handle(const valk_request_t *request);
unsigned valk_request_thread(const valk_request_t *request);
/* The budget slot of the request's connection, for valk_budget_take. */
uint32_t valk_request_slot(const valk_request_t *request);
/* Engine. NULL when the request has ended. */
valk_request_t *valk_system_request(valk_system_t *system, valk_handle_t handle);

/* A pointer of the consumer's own, kept with the request. Engine. */
void valk_request_set_data(valk_request_t *request, void *data);
void *valk_request_data(const valk_request_t *request);

/* ---- the answer ---- */

/* Bytes on their way out, made on any thread by valk_buffer_new (one heap block) or
 * valk_buffer_lend (bytes of somebody else's), given to the engine with the calls below, which free
 * it and give its bytes back to the budget when they are sent or dropped. */
typedef struct valk_buffer {
  struct valk_buffer *next;
  uint8_t *data;
  uint32_t length;              /* bytes in data */
  uint32_t offset;              /* bytes of it already sent */
  uint32_t slot;                /* whose budget it counts against */
  uint32_t charged;             /* bytes taken from that budget */
  void (*release)(void *owner); /* of lent bytes; NULL: data is |own| */
  void *owner;
  uint8_t own[];
} valk_buffer_t;

/* What a buffer takes beside its bytes, the heap's part with it: to be charged too where there may
 * be many of few bytes. */
#define VALK_BUFFER_COST 64u

/* Any. NULL when out of memory. Charged to nobody until |charged| is set by the caller from what
 * valk_budget_take gave. */
valk_buffer_t *valk_buffer_new(uint32_t length);
/* Any. |length| bytes at |data| that stay where they are, and are read by the engine only, until
 * |release| is called with |owner|: once, on any thread. NULL when out of memory; |release| is not
 * called then. Charged to nobody: what lends bounds how much it lends. */
static inline valk_buffer_t *valk_buffer_lend(const uint8_t *data, uint32_t length,
                                              void (*release)(void *owner), void *owner) {
  valk_buffer_t *buffer = valk_buffer_new(0);
  if (buffer != NULL) {
    buffer->data = (uint8_t *) (uintptr_t) data;
    buffer->length = length;
    buffer->release = release;
    buffer->owner = owner;
  }
  return buffer;
}
/* Any. Frees the block, or lets go of what was lent, and gives |charged| back. Not |next|. */
void valk_buffer_free(valk_system_t *system, valk_buffer_t *buffer);

/* How many bytes of bodies the engine holds for a connection is bounded: a budget for each
 * connection slot, three eighths of connectionHeapSize, for answers on their way out and the first
 * part of the windows of streamed uploads. Any. Takes between |least| and |most| bytes; 0 when less
 * than |least| is left. An answer's head and the first VALK_INLINE_MAX bytes of its body, with
 * VALK_BUFFER_COST for each write, may be sent without asking. */
#define VALK_INLINE_MAX 2048u
/* The least that is worth a write of its own, what its buffer takes with it: on_writable tells of
 * no less. */
#define VALK_WRITE_LEAST 8192u
/* The most that one call may write of a body; the next one waits for on_writable. */
#define VALK_WRITE_MAX 131072u
uint32_t valk_budget_take(valk_system_t *system, uint32_t slot, uint32_t least, uint32_t most);
void valk_budget_give(valk_system_t *system, uint32_t slot, uint32_t bytes);

typedef enum {
  VALK_ANSWER_END = 1,    /* the buffers hold the whole body (or there is none) */
  VALK_ANSWER_NO_DATE = 2 /* the handler set a date field of its own */
} valk_answer_flags_t;

/* Engine. Begins the answer: the handler has settled. |buffer| holds |head_length| bytes of fields,
 * { name \n value \n } in lower case without content-length and date (the engine adds them), then
 * body bytes; with VALK_ANSWER_END the buffer in its |next|, if any, is the rest of the body.
 * |content_length| -1: none is sent (a stream of unknown length). Takes |buffer|
 * and what follows it always. The engine suppresses the body of HEAD, 204 and 304. Returns 0;
 * VALK_EINVAL for a head that breaks HTTP (nothing was sent; the engine has answered 500);
 * VALK_ESTALE when the client is gone or the answer had begun (the place is free now). */
int valk_request_respond(valk_request_t *request, uint16_t status, valk_buffer_t *buffer,
                         uint32_t head_length, int64_t content_length, unsigned flags);
/* Engine. More of the body. Takes |buffer| always. 0 or VALK_ESTALE (the stream is gone). After it
 * on_writable is called once the engine can take more. */
int valk_request_write(valk_request_t *request, valk_buffer_t *buffer);
/* Engine. The end of the body, with trailers { name \n value \n } or NULL. Takes |trailers| always.
 */
int valk_request_finish(valk_request_t *request, valk_buffer_t *trailers);
/* Engine. Ends the stream with RST_STREAM(|code|) (an RFC 9113 section 7 code). */
void valk_request_reset(valk_request_t *request, uint32_t code);
/* Engine. The handler has settled without an answer that can be used (after on_abort): frees its
 * place. */
void valk_request_settle(valk_request_t *request);
/* Engine. After on_abort returned false: the consumer has stopped reading the request's memory. */
void valk_request_reclaim(valk_request_t *request);
/* Engine, stream mode. |bytes| of the body were taken by the handler: opens the peer's window
 * again. */
void valk_request_consume(valk_request_t *request, size_t bytes);
/* Engine, stream mode. The handler wants no more of the body: what still comes is dropped and
 * credited to the connection. */
void valk_request_ignore_body(valk_request_t *request);
/* Engine. Asks for on_writable once there is budget and the stream's queue is low (after
 * valk_budget_take gave too little). */
void valk_request_want_writable(valk_request_t *request);

/* ---- who answers ---- */

typedef enum {
  VALK_ABORT_RESET = 1,   /* the client reset the stream */
  VALK_ABORT_CLOSED = 2,  /* the connection is gone */
  VALK_ABORT_TIMEOUT = 3, /* handlerTimeoutMs; the client got 503 or a reset */
  VALK_ABORT_STOPPED = 4, /* the system's stop() passed its deadline */
  VALK_ABORT_LIMIT = 5    /* a limit ended the stream: body too large or too slow, no memory */
} valk_abort_t;

struct valk_pool_stats;

/* Answers requests: a JavaScript environment's bridge, or plain C in tests. All callbacks run on
 * engine threads, several of them at a time when ioThreads > 1. */
typedef struct valk_consumer {
  void *data;
  /* A request for the handler: whole in buffered mode, its head in stream mode. 0: taken;
   * VALK_EAGAIN: the queue is full, the engine keeps it waiting and tries again after
   * valk_system_wake; VALK_ENOMEM: refused with 503. Engine. */
  int (*on_request)(void *data, valk_request_t *request);
  /* Withdraws a request whose handler was not called yet (its wait passed its bound, its client
   * left). True: it is forgotten. False: the handler has been called already. Engine. */
  bool (*on_drop)(void *data, valk_request_t *request);
  /* The stream of a request whose handler was called has ended early. True: the consumer does not
   * read the request's memory and won't any more; false: it will call valk_request_reclaim. Engine.
   */
  bool (*on_abort)(void *data, valk_request_t *request, valk_abort_t reason);
  /* Stream mode: bytes of the body; 0, or VALK_ENOMEM (the stream is reset). on_body_end comes
   * once, after the last. Engine. */
  int (*on_body)(void *data, valk_request_t *request, const uint8_t *bytes, size_t length);
  void (*on_body_end)(void *data, valk_request_t *request);
  /* More of the answer's body can be written. Engine. */
  void (*on_writable)(void *data, valk_request_t *request);
  /* The request ends here: its pointer and handle are dead after this call. Comes exactly once for
   * each on_request that returned 0, unless on_drop returned true for it. Engine. */
  void (*on_end)(void *data, valk_request_t *request);
  /* The end of a turn on |thread|, or of a part of it that had many connections, in which any
   * of the above was called. Engine. */
  void (*on_turn)(void *data, unsigned thread);
  /* After valk_system_wake: take in what other threads left. Engine. */
  void (*on_wake)(void *data, unsigned thread);
  /* Milliseconds (uv_hrtime based) of the consumer's last turn; the health endpoint asks. |poke|
   * true: make it turn. Engine. */
  uint64_t (*last_turn_ms)(void *data, bool poke);
  /* Adds the consumer's queue to |stats|; NULL when it has none. Any. */
  void (*queue_stats)(void *data, struct valk_pool_stats *stats);
} valk_consumer_t;

/* Any. Makes engine thread |thread| call on_wake of every consumer soon; cheap when it is on its
 * way already. */
void valk_system_wake(valk_system_t *system, unsigned thread);

/* ---- system ---- */

/* Any. Starts the threads and pools. |error| gets a sentence that says what to lower. 0,
 * VALK_ENOMEM, VALK_ELIMIT or a system error. */
int valk_system_start(const valk_config_t *config, valk_system_t **system, char *error,
                      size_t error_size);
/* A system without threads of its own (|io_threads| 0) lives on the thread that started it, the one
 * that stands for both "any" and "engine" thread in this header: whoever waits there for something
 * else in the meantime lets nobody be served. The caller turns it whenever the descriptor is
 * readable, and so many milliseconds after its last turn as that has said. Callbacks come from
 * inside of a turn, and of calls that have to wait for something: none of them may call into the
 * system what is not the engine's to call. */
/* Readable when a turn is due; valid until valk_system_free. -1 for a system with threads. */
int valk_system_descriptor(const valk_system_t *system);
/* Takes in what is ready, hands it to the consumers, writes what they have answered. Does not
 * sleep. Milliseconds after which the next turn is due, ready or not: 1 to 250. */
int valk_system_turn(valk_system_t *system);
/* Any. Consumers must be added before a server names them and stay valid until removed. Removing
 * answers or resets what the consumer holds, on every thread, and returns when no callback of it
 * runs or will run. At most 64. */
int valk_system_add_consumer(valk_system_t *system, const valk_consumer_t *consumer);
void valk_system_remove_consumer(valk_system_t *system, const valk_consumer_t *consumer);
/* Any. Stops accepting, sends GOAWAY, lets requests finish until |timeout_ms|, then resets them.
 * |on_stopped| is called once on an engine thread when no connection is left; a second call
 * shortens the deadline. Not blocking. */
void valk_system_stop(valk_system_t *system, uint32_t timeout_ms, void (*on_stopped)(void *data),
                      void *data);
/* Any but an engine thread; outside of a turn. Stops at once if it was not stopped, joins the
 * threads, frees everything. */
void valk_system_free(valk_system_t *system);
const valk_config_t *valk_system_config(const valk_system_t *system);

/* ---- servers ---- */

typedef struct {
  const char *path; /* exactly this :path */
  uint16_t status;
  const char *fields; /* { name \n value \n } without content-length and date */
  size_t fields_length;
  const uint8_t *body;
  size_t body_length;
} valk_route_t;

/* A key and its certificate for some server names. */
typedef struct {
  const char *name; /* lower case; "*." before it: names with exactly one label more */
  const char *key;  /* PEM */
  size_t key_length;
  const char *certificate; /* PEM: leaf first, then intermediates */
  size_t certificate_length;
} valk_certificate_t;

typedef struct {
  const char *host;
  uint16_t port; /* 0: a free one */
  const char *key;
  size_t key_length;
  const char *certificate;
  size_t certificate_length;
  /* Chosen by the client's server name (RFC 6066, section 3): the exact name, else the wildcard,
   * else |key| and |certificate|. */
  const valk_certificate_t *contexts;
  size_t context_count;
  /* Clients are asked for a certificate that one of |ca| (PEM, any number) vouches for. Connections
   * of the health listener are not. |reject_unauthorized|: who has none does not get through the
   * handshake; else valk_peer_t tells. */
  bool request_certificate;
  bool reject_unauthorized;
  const char *ca;
  size_t ca_length;
  bool reuse_port; /* SO_REUSEPORT: other processes may listen on the same port */
  const uint8_t *error_503_body;
  size_t error_503_body_length;
  bool stream_bodies; /* bodyMode: 'stream' */
  bool send_date;
  const valk_route_t *routes;
  size_t route_count;
  const char *live_path; /* NULL: none */
  const char *ready_path;
  bool health_listener; /* health on |health_port|, with 16 connections of its own */
  uint16_t health_port;
  uint32_t js_stall_timeout_ms;
  const valk_consumer_t *consumer;
  void *data;
} valk_server_options_t;

/* Any but an engine thread. Everything in |options| is copied. 0, VALK_ETLS, VALK_ESTOPPED,
 * VALK_ENOMEM or a system error (EADDRINUSE, ...); |error| gets a sentence. */
int valk_server_listen(valk_system_t *system, const valk_server_options_t *options,
                       valk_server_t **server, char *error, size_t error_size);
/* Any but an engine thread. Changes what new connections are served with: of |options| the key, the
 * certificate, |contexts|, and what belongs to client certificates. Connections that are there keep
 * what they have, and tickets that were given out stay good, unless |ca| changed. 0, or with
 * nothing changed VALK_ETLS, VALK_ESTOPPED (it is closing or closed), VALK_ENOMEM; |error| gets a
 * sentence.
 */
int valk_server_set_secure_context(valk_server_t *server, const valk_server_options_t *options,
                                   char *error, size_t error_size);
uint16_t valk_server_port(const valk_server_t *server);
uint16_t valk_server_health_port(const valk_server_t *server);
/* Any. The ready path of |server| (NULL: of all servers of |system|) answers 503 from now on;
 * nothing else changes. What comes before closing, so that a balancer sends no more. */
void valk_server_unready(valk_system_t *system, valk_server_t *server);
/* Any. Stops accepting, after what the listener's queue holds; sends GOAWAY on its connections and
 * lets their requests finish until |timeout_ms|. |on_closed| as in stop. The server's memory lives
 * until valk_system_free. */
void valk_server_close(valk_server_t *server, uint32_t timeout_ms, void (*on_closed)(void *data),
                       void *data);

/* ---- what can be seen (specification, section 7) ---- */

typedef struct valk_pool_stats {
  uint64_t size, in_use, high_water, times_full, waiters;
} valk_pool_stats_t;

#define VALK_HISTOGRAM_SIZE 128
typedef struct {
  uint64_t counts[VALK_HISTOGRAM_SIZE];
  uint64_t sum_us;
} valk_histogram_stats_t;

/* Causes, each a counter. X(field, JavaScript name). */
/* clang-format off */
#define VALK_CLOSE_CAUSES(X) \
  X(peer, "peer") X(error, "error") X(tls, "tls") X(protocol, "protocol") X(no_h2, "noHttp2") \
  X(handshake_timeout, "handshakeTimeout") X(idle_timeout, "idleTimeout") \
  X(headers_timeout, "headersTimeout") X(write_timeout, "writeTimeout") X(flood, "flood") \
  X(memory, "memory") X(evicted, "evicted") X(stopped, "stopped")
#define VALK_REJECT_CAUSES(X) \
  X(queue_timeout, "queueTimeout") X(handler_timeout, "handlerTimeout") \
  X(consumer_gone, "handlerGone") X(draining, "draining") X(memory, "memory")
#define VALK_TOO_LARGE_CAUSES(X) \
  X(content_length, "contentLength") X(body, "body") X(arena, "arena")
#define VALK_RESET_CAUSES(X) \
  X(client, "client") X(handler, "handler") X(refused, "refused") X(body_timeout, "bodyTimeout") \
  X(body_rate, "bodyRate") X(write_timeout, "writeTimeout") X(stopped, "stopped") X(malformed, "malformed") X(other, "other")
/* clang-format on */

#define VALK__FIELD(field, name) uint64_t field;
typedef struct {
  valk_pool_stats_t connections, buffers, arenas, queue;
  uint64_t overflow_arenas;
  struct {
    uint64_t active, accepted, waiting, handshakes, resumed;
    struct {
      VALK_CLOSE_CAUSES(VALK__FIELD)
    } closed;
    uint64_t heap_used, heap_largest;
  } connection;
  struct {
    uint64_t active, waiting, total, dispatched, informational, success, redirect, client_error,
        server_error;
    uint64_t static_routes, timeouts_408, headers_431, bad_400;
    struct {
      VALK_REJECT_CAUSES(VALK__FIELD)
    } rejected_503;
    struct {
      VALK_TOO_LARGE_CAUSES(VALK__FIELD)
    } too_large_413;
    struct {
      VALK_RESET_CAUSES(VALK__FIELD)
    } reset;
  } request;
  uint64_t bytes_in, bytes_out;
  valk_histogram_stats_t waiting, handler, writing;
} valk_stats_t;

/* Any. Takes no lock that the hot path holds for long. */
void valk_system_stats(valk_system_t *system, valk_stats_t *stats);

/* The versions this library was compiled with and runs with: "3.0.19", "1.52.0". Any. */
typedef struct {
  const char *openssl_compiled, *openssl_runtime, *nghttp2_compiled, *nghttp2_runtime, *uv_runtime;
} valk_versions_t;
void valk_versions(valk_versions_t *versions);

#ifdef __cplusplus
}
#endif
#endif
