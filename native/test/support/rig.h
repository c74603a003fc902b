/* A server for tests: a system, a certificate, and a consumer in C whose answers depend on the
 * path.
 *
 *   /hello          200 "Hello, world!\n" at once
 *   /echo           200 with the request's body (either body mode)
 *   /big/<bytes>    200 with that many bytes of the pattern, written as the engine takes them
 *   /lent/<bytes>   200 with that many bytes of the pattern, lent: |released| counts
 *   /hold           held until rig_release; counts as called when |claims| is set
 *   /trailers       200 "body" with a trailer x-trailer: end
 *   /bad            an answer that breaks HTTP
 *   /never          the handler never settles (until the rig ends)
 *   anything else   404 */
#ifndef VALK_TEST_RIG_H
#define VALK_TEST_RIG_H

#include <stdatomic.h>
#include <uv.h>

#include "../../include/valk.h"
#include "client.h"

#define RIG_THREADS 4
#define RIG_HELD 20000

typedef struct rig_held {
  valk_handle_t handle;
  bool used;
} rig_held_t;

typedef struct {
  valk_config_t config;
  valk_system_t *system;
  valk_server_t *server;
  valk_consumer_t consumer;
  uint16_t port;
  uv_mutex_t lock;
  rig_held_t held[RIG_HELD];
  unsigned held_count;
  atomic_bool claims;              /* held requests count as called: on_drop says no */
  atomic_bool full;                /* on_request says VALK_EAGAIN */
  atomic_bool no_memory;           /* on_request says VALK_ENOMEM */
  atomic_bool keep_pinned;         /* on_abort says false; rig_unpin */
  atomic_uint_least64_t body_room; /* at the last piece of a body */
  atomic_uint requests, drops, aborts, ends, turns, body_bytes, released;
  atomic_bool releasing;
  atomic_bool unpin;
  atomic_ullong last_turn;  /* 0: now, always */
  atomic_bool answers_poke; /* by a turn */
  atomic_bool keeps_body;   /* of the one request that is held: rig_consume */
  atomic_uint kept_bytes;
  uv_thread_t host; /* of a system without threads */
  uv_sem_t started, done;
  int word; /* an eventfd: there is a task */
  void (*task)(void *argument);
  void *task_argument;
} rig_t;

/* Systems without threads of their own from now on, where a test has not said how many. */
extern bool rig_is_hosted;

/* The specification's defaults. */
valk_config_t rig_config(void);
/* Starts with |config|; options may be changed by |prepare|. Asserts success. */
void rig_start(rig_t *rig, const valk_config_t *config,
               void (*prepare)(valk_server_options_t *options));
/* The same for a start that may fail: its status, and then nothing of it is left. */
int rig_try_start(rig_t *rig, const valk_config_t *config,
                  void (*prepare)(valk_server_options_t *options), char *error, size_t error_size);
/* Calls |task| where it may wait for engine threads: on the host of a system without. */
void rig_call(rig_t *rig, void (*task)(void *argument), void *argument);
/* Answers all that is held, now and later. */
void rig_release(rig_t *rig);
/* Waits until |count| requests are held; false after 10 s. */
bool rig_wait_held(rig_t *rig, unsigned count);
/* Takes what was kept, and all that follows. */
void rig_consume(rig_t *rig);
unsigned rig_held_now(rig_t *rig);
void rig_stop(rig_t *rig); /* graceful, 10 s, then free; asserts that all pools are empty */
void rig_end(rig_t *rig);  /* at once */
/* The statistics; asserts that no pool's high-water mark passed its size. */
valk_stats_t rig_stats(rig_t *rig);
/* Bytes that the windows of uploads may have beside what their connections have for themselves. */
int64_t rig_pool(const rig_t *rig);
/* Polls until |condition|, at most 10 s. */
#define RIG_UNTIL(condition)                                                                       \
  do {                                                                                             \
    uint64_t rig_until = client_clock_ms() + 10000;                                                \
    while (!(condition) && client_clock_ms() < rig_until)                                          \
      uv_sleep(2);                                                                                 \
    ASSERT(condition);                                                                             \
  } while (0)
/* Asserts that a new connection is accepted and answered. */
void rig_is_well(rig_t *rig);
const char *rig_key(void);
const char *rig_certificate(void);

#endif
