/* Who is admitted when (specification, section 4). A request takes an arena before anything is done
 * for it; without one it waits, decoded, in its connection's memory. Connections take turns, and so
 * do the streams of one. Then it takes a place in its consumer's queue. Whoever waits longer than
 * queueTimeoutMs for the server, in whichever of these, gets the 503. */
#include <string.h>

#include "internal.h"

static bool needs_body_place(const valk_request_t *request) {
  return !request->ended;
}

/* A connection stands among those who take turns while it has a waiting request, and for bodies
 * while it is below its share. */
static void stand(valk_connection_t *connection, unsigned kind) {
  valk_thread_t *thread = connection->thread;
  bool able = !valk__list_empty(&connection->waiting[kind]) &&
              (kind == 0 || connection->body_arenas < thread->system->bodies_each);
  bool stands = valk__listed(&connection->turns[kind]);
  if (able && !stands)
    valk__list_append(&thread->turns[kind], &connection->turns[kind]);
  if (!able && stands)
    valk__list_remove(&connection->turns[kind]);
}

void valk__admission_connection_eligible(valk_connection_t *connection) {
  if (valk__list_empty(&connection->waiting[1]))
    return;
  stand(connection, 1);
  /* Nobody else's place has become free, so no grant will come: look at the next turn. */
  valk__thread_signal(connection->thread, VALK_SIGNAL_ARENAS);
}

/* ---- admitting ---- */

/* An arena, and for a body its place. NULL: full, and the thread stands at that gate. */
static valk_arena_t *take_arena(valk_thread_t *thread, bool body) {
  valk_system_t *system = thread->system;
  if (body && !valk_gate_acquire(&system->bodies, thread->index, 0)) {
    thread->body_blocked = true;
    return NULL;
  }
  valk_arena_t *arena = valk_arena_pool_get(&system->arenas, thread->index);
  if (arena == NULL) {
    thread->arena_blocked = true;
    if (body)
      valk_gate_release(&system->bodies);
  }
  return arena;
}

static void waits_no_more(valk_request_t *request) {
  valk_thread_t *thread = request->thread;
  valk__uncount(&thread->counters.requests_waiting);
  atomic_fetch_sub_explicit(&thread->system->requests_waiting, 1, memory_order_relaxed);
  valk__list_remove(&request->wait);
}

/* Gives |arena| to the request, which stands in no list. */
static void admit(valk_request_t *request, valk_arena_t *arena, bool body, const char *text) {
  valk_thread_t *thread = request->thread;
  /* While its body comes it waits for its client, not for us; else the wait that began goes on in
   * the queue. */
  if (body && !request->streaming)
    valk__deadline_stop(&request->deadline);
  request->place = body;
  if (body)
    request->connection->body_arenas++;
  int status = valk__request_admit(request, arena, text);
  if (status != 0) {
    request->arena = arena;
    if (status == VALK_ELIMIT) {
      valk__request_refuse(request); /* its connection's memory is full: no fault of the system's */
    } else {
      /* Its pages could not be committed: a full pool (specification, section 6). */
      valk__admission_reject(request, &thread->counters.rejected.memory);
    }
    return;
  }
  if (body && !request->streaming) {
    request->state = VALK_REQUEST_RECEIVING;
    return;
  }
  valk__request_dispatch(request);
}

int valk__admission_enter(valk_request_t *request, const char *text) {
  valk_thread_t *thread = request->thread;
  valk_connection_t *connection = request->connection;
  unsigned kind = needs_body_place(request) ? 1 : 0;
  bool blocked = thread->arena_blocked || !valk__list_empty(&thread->turns[kind]) ||
                 (kind == 1 &&
                  (thread->body_blocked || connection->body_arenas >= thread->system->bodies_each));
  valk_arena_t *arena = blocked ? NULL : take_arena(thread, kind == 1);
  if (arena != NULL) {
    admit(request, arena, kind == 1, text);
    return 0;
  }
  if (valk__connection_may_hold(connection, request->head.length))
    request->waiting_head = valk_ledger_malloc(connection->ledger, request->head.length);
  if (request->waiting_head == NULL)
    return VALK_ENOMEM;
  memcpy(request->waiting_head, text, request->head.length);
  request->head.text = request->waiting_head;
  request->state = VALK_REQUEST_WAITING;
  valk__count(&thread->counters.requests_waiting);
  atomic_fetch_add_explicit(&thread->system->requests_waiting, 1, memory_order_relaxed);
  valk__list_append(&connection->waiting[kind], &request->wait);
  valk__deadline_start(thread, VALK_DEADLINE_QUEUE, &request->deadline);
  stand(connection, kind);
  return 0;
}

void valk__admission_leave(valk_request_t *request) {
  valk_thread_t *thread = request->thread;
  valk__deadline_stop(&request->deadline);
  if (request->state == VALK_REQUEST_WAITING) {
    waits_no_more(request);
    request->state = VALK_REQUEST_NEW;
    stand(request->connection, 0);
    stand(request->connection, 1);
    if (valk__list_empty(&thread->turns[0]) && valk__list_empty(&thread->turns[1])) {
      valk__thread_signal(thread, VALK_SIGNAL_ARENAS); /* to give unused grants on */
    }
  } else if (request->state == VALK_REQUEST_BLOCKED) {
    waits_no_more(request);
    request->state = VALK_REQUEST_NEW;
  }
}

void valk__admission_body_ended(valk_request_t *request) {
  valk_connection_t *connection = request->connection;
  valk__list_remove(&request->wait);
  valk__list_append(&connection->waiting[0], &request->wait);
  stand(connection, 1);
  stand(connection, 0);
  /* It may take an arena that the gate of bodies kept it from. */
  if (!request->thread->arena_blocked)
    valk__thread_signal(request->thread, VALK_SIGNAL_ARENAS);
}

/* How many requests without bodies a connection may have admitted in its turn. Answers that are
 * made together leave in one record and one system call, which one a turn would make many. It is
 * more than one only while whoever is next has come just now: to have a turn early matters to those
 * who wait for long. */
static unsigned turn_length(valk_thread_t *thread) {
  enum { MOST = 64, PATIENCE_NS = 50 * 1000 * 1000 };
  if (valk__list_empty(&thread->turns[0]))
    return MOST;
  valk_connection_t *next = VALK_CONTAINER(thread->turns[0].next, valk_connection_t, turns[0]);
  valk_request_t *first = VALK_CONTAINER(next->waiting[0].next, valk_request_t, wait);
  return thread->turn_ns - first->arrived_ns < PATIENCE_NS ? MOST : 1;
}

/* One turn of a connection, which begins with |arena|. */
static void take_turn(valk_connection_t *connection, unsigned kind, valk_arena_t *arena) {
  valk_thread_t *thread = connection->thread;
  valk__list_remove(&connection->turns[kind]); /* to the end of the line */
  unsigned left = kind == 0 ? turn_length(thread) : 1;
  do {
    valk_request_t *request = VALK_CONTAINER(connection->waiting[kind].next, valk_request_t, wait);
    waits_no_more(request);
    request->state = VALK_REQUEST_NEW;
    admit(request, arena, kind == 1, request->waiting_head);
  } while (--left > 0 && !valk__list_empty(&connection->waiting[kind]) &&
           (arena = take_arena(thread, false)) != NULL);
  stand(connection, 0);
  stand(connection, 1);
}

void valk__admission_run(valk_thread_t *thread) {
  valk_system_t *system = thread->system;
  for (;;) {
    bool able[2] = {!valk__list_empty(&thread->turns[0]),
                    !valk__list_empty(&thread->turns[1]) && !thread->body_blocked};
    if (!able[0] && !able[1])
      break;
    unsigned kind = able[thread->turn] ? thread->turn : 1 - thread->turn;
    valk_arena_t *arena = take_arena(thread, kind == 1);
    if (arena == NULL) {
      if (thread->arena_blocked)
        break;
      continue; /* bodies are at their bound, the others are not */
    }
    thread->turn = 1 - kind;
    take_turn(VALK_CONTAINER(thread->turns[kind].next, valk_connection_t, turns[kind]), kind,
              arena);
  }
  if (valk__list_empty(&thread->turns[0]) && valk__list_empty(&thread->turns[1])) {
    valk_arena_pool_settle(&system->arenas, thread->index);
  }
  if (valk__list_empty(&thread->turns[1])) {
    valk_gate_settle(&system->bodies, thread->index, 0);
    thread->body_blocked = false;
  }
}

/* ---- the consumer's queue ---- */

/* Stream mode, after the consumer took the head: gives it what came of the body before, out of
 * |arena|, which the request keeps only while its handler reads no more than that. Otherwise what
 * follows goes through windows. */
static void pass_body(valk_request_t *request, valk_arena_t *arena, const uint8_t *body,
                      size_t length) {
  valk_thread_t *thread = request->thread;
  const valk_consumer_t *consumer = request->consumer;
  int result = 0;
  if (length > 0 && consumer != NULL && !request->ignore_body) {
    request->unconsumed += length;
    result = consumer->on_body(consumer->data, request, body, length);
  }
  bool told = body == NULL && request->trailers == NULL; /* by the request itself */
  if (result == 0 && !told && request->ended && request->consumer != NULL &&
      !request->ignore_body) {
    consumer->on_body_end(consumer->data, request);
  }
  bool crowded = atomic_load(&thread->system->orphans) >= thread->system->bodies.capacity;
  if (request->handler && (request->ended || crowded)) {
    request->arena = arena;
    request->body_length = 0;
  } else {
    valk__request_release_body_place(request);
    request->head.text = NULL;
    request->body = NULL;
    request->body_length = request->body_capacity = 0;
    valk_arena_pool_put(&thread->system->arenas, arena);
  }
  if (result != 0) {
    valk__request_limit(request, 503, "The server is short of memory.\n",
                        &thread->counters.rejected.memory);
  }
}

/* Hands a request to its consumer. False: the queue is full. */
static bool offer(valk_request_t *request) {
  valk_thread_t *thread = request->thread;
  const valk_consumer_t *consumer = request->server->consumer;
  if (atomic_load_explicit(&request->server->consumer_gone, memory_order_relaxed)) {
    request->state = VALK_REQUEST_NEW;
    valk__admission_reject(request, &thread->counters.rejected.consumer_gone);
    return true;
  }
  int result = valk__connection_peer(request->connection) == NULL ? VALK_ENOMEM : 0;
  /* In stream mode the consumer may answer at once, which gives the arena back with the body in it.
   */
  valk_arena_t *arena = request->streaming ? request->arena : NULL;
  const uint8_t *body = request->body;
  size_t length = request->body_length;
  if (result == 0) {
    if (arena != NULL)
      request->arena = NULL;
    request->consumer = consumer;
    request->handler = true;
    request->state = VALK_REQUEST_QUEUED;
    request->dispatched_ns = thread->turn_ns;
    if (!valk__listed(&request->deadline.link)) {
      valk__deadline_start(thread, VALK_DEADLINE_QUEUE, &request->deadline);
    }
    result = consumer->on_request(consumer->data, request);
  }
  if (result == 0) {
    thread->consumers_called = true;
    request->head.text = NULL; /* it was good for the length of the call */
    valk__request_free_waiting(request);
    valk__count(&thread->counters.dispatched);
    valk_histogram_add(&thread->counters.waiting, (thread->turn_ns - request->arrived_ns) / 1000);
    if (arena != NULL)
      pass_body(request, arena, body, length);
    return true;
  }
  if (arena != NULL)
    request->arena = arena;
  request->consumer = NULL;
  request->handler = false;
  request->state = VALK_REQUEST_BLOCKED;
  if (result == VALK_EAGAIN)
    return false;
  request->state = VALK_REQUEST_NEW;
  valk__admission_reject(request, &thread->counters.rejected.memory);
  return true;
}

void valk__request_dispatch(valk_request_t *request) {
  valk_thread_t *thread = request->thread;
  if (valk__list_empty(&thread->queue_blocked) && offer(request))
    return;
  if (valk__request_keep_head(request) != 0) {
    request->state = VALK_REQUEST_NEW;
    valk__admission_reject(request, &thread->counters.rejected.memory);
    return;
  }
  request->state = VALK_REQUEST_BLOCKED;
  valk__list_append(&thread->queue_blocked, &request->wait);
  valk__count(&thread->counters.requests_waiting);
  atomic_fetch_add_explicit(&thread->system->requests_waiting, 1, memory_order_relaxed);
  if (!valk__listed(&request->deadline.link))
    valk__deadline_start(thread, VALK_DEADLINE_QUEUE, &request->deadline);
}

void valk__admission_run_queue(valk_thread_t *thread) {
  while (!valk__list_empty(&thread->queue_blocked)) {
    valk_request_t *request = VALK_CONTAINER(thread->queue_blocked.next, valk_request_t, wait);
    valk__list_remove(&request->wait);
    if (!offer(request)) {
      /* Back to the front. */
      request->wait.prev = &thread->queue_blocked;
      request->wait.next = thread->queue_blocked.next;
      thread->queue_blocked.next->prev = &request->wait;
      thread->queue_blocked.next = &request->wait;
      return;
    }
    valk__uncount(&thread->counters.requests_waiting);
    atomic_fetch_sub_explicit(&thread->system->requests_waiting, 1, memory_order_relaxed);
  }
}

/* ---- the 503 ---- */

/* Seconds until the queue as it stands has been worked off at the pace of late, with jitter so that
 * clients do not come back together; 1 to 30 (specification, section 4). */
static unsigned retry_after_s(valk_thread_t *thread) {
  uint64_t now = valk__now_ms(thread);
  uint64_t elapsed = now - thread->pace_since_ms;
  if (elapsed >= 500) {
    double rate = (double) thread->pace_count * 1000.0 / (double) elapsed;
    thread->pace = thread->pace == 0 ? rate : 0.5 * thread->pace + 0.5 * rate;
    thread->pace_since_ms = now;
    thread->pace_count = 0;
  }
  double queued =
      (double) atomic_load_explicit(&thread->counters.requests_active, memory_order_relaxed);
  double wait_s = thread->pace > 0 ? queued / thread->pace : 1;
  double jitter = 0.75 + (valk__thread_random(thread) & 0xff) / 512.0;
  double seconds = wait_s * jitter + (valk__thread_random(thread) & 1);
  if (seconds < 1)
    return 1;
  return seconds > 30 ? 30 : (unsigned) (seconds + 0.5);
}

void valk__admission_reject(valk_request_t *request, valk_counter_t *cause) {
  valk_thread_t *thread = request->thread;
  valk_server_t *server = request->server;
  valk__count(cause);
  atomic_store_explicit(&thread->system->overloaded_ms, thread->turn_ns / 1000000,
                        memory_order_relaxed);
  valk__thread_refused(request->connection);
  valk__admission_leave(request);
  valk__request_free_waiting(request);
  valk__request_release_place(request);
  static const char begin[] = "content-type\ntext/plain; charset=utf-8\nretry-after\n";
  char fields[sizeof(begin) + 2];
  size_t length = sizeof(begin) - 1;
  unsigned seconds = retry_after_s(thread);
  memcpy(fields, begin, length);
  if (seconds >= 10)
    fields[length++] = (char) ('0' + seconds / 10);
  fields[length++] = (char) ('0' + seconds % 10);
  fields[length++] = '\n';
  valk__request_reply(request, 503, fields, length, server->error_503_body,
                      server->error_503_body_length);
}

static void queue_expired(valk_deadline_t *deadline) {
  valk_request_t *request = VALK_CONTAINER(deadline, valk_request_t, deadline);
  valk_thread_t *thread = request->thread;
  if (request->state == VALK_REQUEST_QUEUED) {
    if (!request->consumer->on_drop(request->consumer->data, request)) {
      /* Its handler runs: from here on handlerTimeoutMs counts. */
      valk__deadline_start(thread, VALK_DEADLINE_HANDLER, &request->deadline);
      return;
    }
    thread->consumers_called = true;
    request->handler = false;
    request->consumer = NULL;
  }
  valk__admission_reject(request, &thread->counters.rejected.queue_timeout);
}

static void handler_expired(valk_deadline_t *deadline) {
  valk_request_t *request = VALK_CONTAINER(deadline, valk_request_t, deadline);
  valk_thread_t *thread = request->thread;
  if (request->connection == NULL) {
    /* Its client has left long ago; now its place is free too. */
    if (request->pinned) {
      request->reclaim_place = true;
    } else {
      valk__request_release_place(request);
    }
    return;
  }
  valk__request_tell(request, VALK_ABORT_TIMEOUT);
  valk__count(&thread->counters.rejected.handler_timeout);
  static const char fields[] = "content-type\ntext/plain; charset=utf-8\n";
  valk__request_reply(request, 503, fields, sizeof(fields) - 1, request->server->error_503_body,
                      request->server->error_503_body_length);
}

void valk__admission_deadlines(valk_thread_t *thread) {
  thread->deadlines[VALK_DEADLINE_QUEUE].expired = queue_expired;
  thread->deadlines[VALK_DEADLINE_HANDLER].expired = handler_expired;
}
