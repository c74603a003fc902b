/* The system: pools and threads, from start to free. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "fault.h"
#include "internal.h"

_Static_assert(VALK_TCP_BUFFER_SIZE == 2 * VALK_TLS_RECORD_MAX, "two of the largest records");
_Static_assert(VALK_TCP_BUFFER_STRIDE >= VALK_TCP_BUFFER_SIZE, "a buffer fits its pages");
_Static_assert(VALK_HISTOGRAM_SIZE == VALK_HISTOGRAM_BUCKETS, "one size of histogram");

static void signal_buffers(void *data, uint32_t thread) {
  valk__thread_signal(&((valk_system_t *) data)->threads[thread], VALK_SIGNAL_BUFFERS);
}
static void signal_arenas(void *data, uint32_t thread) {
  valk__thread_signal(&((valk_system_t *) data)->threads[thread], VALK_SIGNAL_ARENAS);
}
static void signal_accept(void *data, uint32_t thread) {
  valk__thread_signal(&((valk_system_t *) data)->threads[thread], VALK_SIGNAL_ACCEPT);
}

static uint32_t at_least_one(uint32_t n) {
  return n > 0 ? n : 1;
}

/* What of the pools has been made, so that a start that fails midway takes down just that. */
typedef enum {
  MADE_NOTHING,
  MADE_BUFFERS,
  MADE_ARENAS,
  MADE_BODIES,
  MADE_CONNECTIONS,
  MADE_LOCKS
} made_t;

static void unmake(valk_system_t *system, made_t made) {
  switch (made) {
  case MADE_LOCKS:
    uv_sem_destroy(&system->ended);
    uv_mutex_destroy(&system->lock);
    uv_mutex_destroy(&system->slot_lock);
    /* fall through */
  case MADE_CONNECTIONS:
    valk_gate_deinit(&system->connections); /* fall through */
  case MADE_BODIES:
    valk_gate_deinit(&system->bodies); /* fall through */
  case MADE_ARENAS:
    valk_arena_pool_deinit(&system->arenas); /* fall through */
  case MADE_BUFFERS:
    valk_slab_deinit(&system->buffers); /* fall through */
  case MADE_NOTHING:
    break;
  }
  free(system->free_slots);
  free(system->budgets);
  free(system->threads);
  free(system);
}

static int fail(int status, char *error, size_t error_size, const char *what) {
  struct rlimit limit;
  if (status != VALK_ENOMEM) {
    snprintf(error, error_size, "%s: %s", what, valk_strerror(status));
  } else if (getrlimit(RLIMIT_DATA, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    snprintf(error, error_size,
             "%s do not fit into RLIMIT_DATA of %llu bytes: lower maxConnections, "
             "tcpBufferPoolSize or arenaPoolSize, or raise "
             "the limit (ulimit -d)",
             what, (unsigned long long) limit.rlim_cur);
    return VALK_ELIMIT;
  } else {
    snprintf(error, error_size,
             "%s do not fit into memory or address space: lower maxConnections, arenaPoolSize or "
             "arenaSize",
             what);
  }
  return status;
}

static int make_locks(valk_system_t *system) {
  int status = valk__fault(VALK_FAULT_LOCK) ? -errno : uv_mutex_init(&system->lock);
  if (status != 0)
    return status;
  status = valk__fault(VALK_FAULT_LOCK) ? -errno : uv_mutex_init(&system->slot_lock);
  if (status == 0) {
    status = valk__fault(VALK_FAULT_LOCK) ? -errno : uv_sem_init(&system->ended, 0);
    if (status == 0)
      return 0;
    uv_mutex_destroy(&system->slot_lock);
  }
  uv_mutex_destroy(&system->lock);
  return status;
}

static int make_pools(valk_system_t *system, made_t *made, char *error, size_t error_size) {
  const valk_config_t *config = &system->config;
  uint32_t threads = config->io_threads;
  /* Writing's reserve: reading stops while that few are left, so that answers still go out. */
  uint32_t reserve = config->tcp_buffer_pool_size / 8;
  if (reserve > threads * 2)
    reserve = threads * 2;
  int status = valk_slab_init(&system->buffers, VALK_TCP_BUFFER_SIZE, config->tcp_buffer_pool_size,
                              reserve, threads, signal_buffers, system);
  if (status != 0)
    return fail(status, error, error_size, "the TCP buffers");
  *made = MADE_BUFFERS;
  status =
      valk_arena_pool_init(&system->arenas, config->arena_pool_size, config->max_overflow_arenas,
                           config->arena_size, threads, signal_arenas, system);
  if (status != 0)
    return fail(status, error, error_size, "the arenas");
  *made = MADE_ARENAS;
  system->bodies_each = at_least_one(config->arena_pool_size / 4);
  status = valk_gate_init(&system->bodies, at_least_one(config->arena_pool_size * 3 / 4), 0,
                          threads, signal_arenas, system);
  if (status != 0)
    return fail(status, error, error_size, "the gates");
  *made = MADE_BODIES;
  status = valk_gate_init(&system->connections, config->max_connections, 0, threads, signal_accept,
                          system);
  if (status != 0)
    return fail(status, error, error_size, "the gates");
  *made = MADE_CONNECTIONS;
  if (!valk__fault(VALK_FAULT_MALLOC))
    system->free_slots = calloc(config->max_connections, sizeof(*system->free_slots));
  if (!valk__fault(VALK_FAULT_MALLOC))
    system->budgets = calloc((size_t) config->max_connections + 2, sizeof(*system->budgets));
  if (system->free_slots == NULL || system->budgets == NULL)
    return fail(VALK_ENOMEM, error, error_size, "the tables");
  /* Half of a connection's heap again: three quarters of it for itself, the rest for the pool. */
  int64_t eighth = (int64_t) (config->connection_heap_size / 8);
  system->budget = 3 * eighth;
  for (uint32_t i = 0; i <= config->max_connections; i++)
    atomic_init(&system->budgets[i], system->budget);
  atomic_init(&system->budgets[VALK_SLOT_UPLOADS(system)], eighth * config->max_connections);
  for (uint32_t i = 0; i < config->max_connections; i++)
    system->free_slots[i] = config->max_connections - 1 - i;
  system->free_slot_count = config->max_connections;
  status = make_locks(system);
  if (status != 0)
    return fail(status, error, error_size, "the locks");
  *made = MADE_LOCKS;
  return 0;
}

static void end_threads(valk_system_t *system, unsigned count) {
  for (unsigned i = 0; i < count; i++)
    valk__thread_stop(&system->threads[i]);
  for (unsigned i = 0; i < count; i++)
    valk__thread_join(&system->threads[i]);
  for (unsigned i = 0; i < count; i++)
    valk__requests_end(&system->threads[i]);
  for (unsigned i = 0; i < count; i++)
    valk__thread_deinit(&system->threads[i]);
}

int valk_system_start(const valk_config_t *config, valk_system_t **result, char *error,
                      size_t error_size) {
  if (config->io_threads > VALK_MAX_THREADS || config->max_connections < 1 ||
      config->tcp_buffer_pool_size < 1 || config->arena_pool_size < 1 ||
      config->queue_capacity < 1 || config->arena_size < VALK_ARENA_RESIDENT) {
    snprintf(error, error_size, "the configuration is not resolved");
    return VALK_EINVAL;
  }
  valk_system_t *system = valk__fault(VALK_FAULT_MALLOC) ? NULL : calloc(1, sizeof(*system));
  if (system == NULL)
    return fail(VALK_ENOMEM, error, error_size, "the tables");
  system->config = *config;
  system->hosted = config->io_threads == 0;
  system->config.io_threads = system->thread_count = at_least_one(config->io_threads);
  made_t made = MADE_NOTHING;
  system->threads = valk__fault(VALK_FAULT_MALLOC)
                        ? NULL
                        : calloc(system->thread_count, sizeof(*system->threads));
  int status = system->threads == NULL ? fail(VALK_ENOMEM, error, error_size, "the threads")
                                       : make_pools(system, &made, error, error_size);
  if (status != 0) {
    unmake(system, made);
    return status;
  }
  atomic_store(&system->open_servers, 1);
  for (unsigned i = 0; i < system->thread_count; i++) {
    status = valk__thread_start(system, i);
    if (status == 0)
      continue;
    snprintf(error, error_size, "engine thread %u: %s", i, valk_strerror(status));
    end_threads(system, i);
    unmake(system, made);
    return status;
  }
  *result = system;
  return 0;
}

int valk_system_descriptor(const valk_system_t *system) {
  return system->hosted ? system->threads[0].poller.epoll : -1;
}

int valk_system_turn(valk_system_t *system) {
  return valk__thread_turn(&system->threads[0], 0);
}

void valk__system_await(valk_system_t *system, uv_sem_t *done) {
  if (!system->hosted) {
    uv_sem_wait(done);
    return;
  }
  for (int next_ms = 0; uv_sem_trywait(done) != 0;)
    next_ms = valk__thread_turn(&system->threads[0], next_ms);
  /* The host knows the last of its own turns alone. */
  valk__poller_wake(&system->threads[0].poller);
}

const valk_config_t *valk_system_config(const valk_system_t *system) {
  return &system->config;
}

/* ---- consumers ---- */

int valk_system_add_consumer(valk_system_t *system, const valk_consumer_t *consumer) {
  int status = VALK_EAGAIN;
  uv_mutex_lock(&system->lock);
  for (unsigned i = 0; i < VALK_MAX_CONSUMERS && status != 0; i++) {
    if (atomic_load(&system->consumers[i]) != NULL)
      continue;
    atomic_store(&system->consumers[i], consumer);
    status = 0;
  }
  uv_mutex_unlock(&system->lock);
  return status;
}

typedef struct {
  valk_mail_t mail;
  const valk_consumer_t *consumer;
  uv_sem_t *done;
} remove_mail_t;

static void open_remove(valk_thread_t *thread, valk_mail_t *mail) {
  remove_mail_t *letter = (remove_mail_t *) mail;
  valk__requests_remove_consumer(thread, letter->consumer);
  uv_sem_post(letter->done);
}

void valk_system_remove_consumer(valk_system_t *system, const valk_consumer_t *consumer) {
  uv_sem_t done;
  remove_mail_t letters[VALK_MAX_THREADS];
  uv_mutex_lock(&system->lock);
  for (valk_server_t *server = system->servers; server != NULL; server = server->next) {
    if (server->consumer == consumer)
      atomic_store(&server->consumer_gone, true);
  }
  uv_mutex_unlock(&system->lock);
  if (uv_sem_init(&done, 0) != 0)
    abort();
  for (unsigned i = 0; i < system->thread_count; i++) {
    letters[i] =
        (remove_mail_t){.mail = {.open = open_remove}, .consumer = consumer, .done = &done};
    valk__thread_post(&system->threads[i], &letters[i].mail);
  }
  for (unsigned i = 0; i < system->thread_count; i++)
    valk__system_await(system, &done);
  uv_mutex_lock(&system->lock);
  for (unsigned i = 0; i < VALK_MAX_CONSUMERS; i++) {
    if (atomic_load(&system->consumers[i]) == consumer)
      atomic_store(&system->consumers[i], NULL);
  }
  uv_mutex_unlock(&system->lock);
  /* A turn that had read the table before may still be calling on_turn: one more letter a thread
   * flushes it out. */
  for (unsigned i = 0; i < system->thread_count; i++) {
    letters[i] =
        (remove_mail_t){.mail = {.open = open_remove}, .consumer = consumer, .done = &done};
    valk__thread_post(&system->threads[i], &letters[i].mail);
  }
  for (unsigned i = 0; i < system->thread_count; i++)
    valk__system_await(system, &done);
  uv_sem_destroy(&done);
}

/* ---- the end ---- */

static void open_stopped(valk_thread_t *thread, valk_mail_t *mail) {
  (void) thread;
  valk_system_t *system = VALK_CONTAINER(mail, valk_system_t, stopped_mail);
  uv_mutex_lock(&system->lock);
  void (*on_stopped)(void *data) = system->on_stopped;
  void *data = system->on_stopped_data;
  system->on_stopped = NULL;
  system->stopped = true;
  uv_mutex_unlock(&system->lock);
  if (on_stopped != NULL)
    on_stopped(data);
  uv_sem_post(&system->ended);
}

void valk__system_server_closed(valk_system_t *system) {
  if (atomic_fetch_sub(&system->open_servers, 1) != 1)
    return;
  system->stopped_mail.open = open_stopped;
  valk__thread_post(&system->threads[0], &system->stopped_mail);
}

/* Closes each server; |end|: at once. New ones cannot come any more. */
static void close_servers(valk_system_t *system, uint32_t timeout_ms, bool end) {
  uv_mutex_lock(&system->lock);
  valk_server_t *server = system->servers; /* the list only grows at its head, and no longer */
  uv_mutex_unlock(&system->lock);
  for (; server != NULL; server = server->next) {
    if (end) {
      valk__server_end(server);
    } else {
      valk_server_close(server, timeout_ms, NULL, NULL);
    }
  }
}

void valk_system_stop(valk_system_t *system, uint32_t timeout_ms, void (*on_stopped)(void *data),
                      void *data) {
  uv_mutex_lock(&system->lock);
  bool stopped = system->stopped;
  if (!stopped && on_stopped != NULL) {
    system->on_stopped = on_stopped;
    system->on_stopped_data = data;
  }
  bool first = !atomic_exchange(&system->stopping, true);
  uv_mutex_unlock(&system->lock);
  if (stopped && on_stopped != NULL)
    on_stopped(data);
  close_servers(system, timeout_ms, false);
  if (first)
    valk__system_server_closed(system);
}

void valk_system_free(valk_system_t *system) {
  valk_system_stop(system, 0, NULL, NULL);
  close_servers(system, 0, true);
  valk__system_await(system, &system->ended);
  end_threads(system, system->thread_count);
  while (system->servers != NULL) {
    valk_server_t *server = system->servers;
    system->servers = server->next;
    valk__server_free(server);
  }
  unmake(system, MADE_LOCKS);
}
