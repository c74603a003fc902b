/* A request: from the head that HTTP/2 brings to the last byte of its answer: the table of requests
 * and HTTP/2's events. The engine's own answers are in reply.c, what a consumer calls is in
 * answer.c, who is admitted when in admission.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "internal.h"

#define NO_ERROR 0u
#define INTERNAL_ERROR 2u
#define REFUSED_STREAM 7u
#define CANCEL 8u

static valk_counters_t *counters(valk_request_t *request) {
  return &request->thread->counters;
}

/* ---- the table: a place a request, named by thread and index, and a generation ---- */

static bool grow_table(valk_thread_t *thread) {
  if ((thread->chunk_count + 1) * VALK_REQUEST_CHUNK > 1u << 24)
    return false;
  valk_request_t **chunks =
      valk__fault(VALK_FAULT_MALLOC)
          ? NULL
          : realloc(thread->chunks, (thread->chunk_count + 1) * sizeof(*chunks));
  if (chunks == NULL)
    return false;
  thread->chunks = chunks;
  valk_request_t *chunk =
      valk__fault(VALK_FAULT_MALLOC) ? NULL : calloc(VALK_REQUEST_CHUNK, sizeof(*chunk));
  if (chunk == NULL)
    return false;
  chunks[thread->chunk_count] = chunk;
  for (uint32_t i = VALK_REQUEST_CHUNK; i-- > 0;) {
    chunk[i].id = thread->index << 24 | (thread->chunk_count * VALK_REQUEST_CHUNK + i);
    chunk[i].generation = 1;
    chunk[i].thread = thread;
    chunk[i].next_free = thread->free_requests;
    thread->free_requests = &chunk[i];
  }
  thread->chunk_count++;
  return true;
}

static valk_request_t *new_request(valk_thread_t *thread) {
  if (thread->free_requests == NULL && !grow_table(thread))
    return NULL;
  valk_request_t *request = thread->free_requests;
  thread->free_requests = request->next_free;
  uint32_t id = request->id, generation = request->generation;
  memset(request, 0, sizeof(*request));
  request->state = VALK_REQUEST_NEW;
  request->id = id;
  request->generation = generation;
  request->thread = thread;
  valk__list_init(&request->wait);
  valk__list_init(&request->wanting);
  valk__list_init(&request->deadline.link);
  valk__list_init(&request->receiving.link);
  valk__list_init(&request->rate.link);
  valk__list_init(&request->stall.link);
  valk__count(&thread->counters.requests_active);
  return request;
}

static void free_request(valk_request_t *request) {
  valk_thread_t *thread = request->thread;
  valk__uncount(&thread->counters.requests_active);
  request->state = VALK_REQUEST_FREE;
  request->generation++;
  request->next_free = thread->free_requests;
  thread->free_requests = request;
}

void valk__requests_end(valk_thread_t *thread) {
  for (uint32_t i = 0; i < thread->chunk_count * VALK_REQUEST_CHUNK; i++) {
    valk_request_t *request = &thread->chunks[i / VALK_REQUEST_CHUNK][i % VALK_REQUEST_CHUNK];
    if (request->state == VALK_REQUEST_FREE)
      continue;
    request->handler = false;
    valk__request_end(request);
  }
}

void valk__requests_free(valk_thread_t *thread) {
  for (uint32_t i = 0; i < thread->chunk_count; i++)
    free(thread->chunks[i]);
  free(thread->chunks);
}

valk_request_t *valk_system_request(valk_system_t *system, valk_handle_t handle) {
  unsigned index = handle.id >> 24;
  uint32_t place = handle.id & 0xffffff;
  if (index >= system->thread_count)
    return NULL;
  valk_thread_t *thread = &system->threads[index];
  if (place >= thread->chunk_count * VALK_REQUEST_CHUNK)
    return NULL;
  valk_request_t *request = &thread->chunks[place / VALK_REQUEST_CHUNK][place % VALK_REQUEST_CHUNK];
  bool named = request->generation == handle.generation && request->consumer != NULL;
  return named ? request : NULL;
}

/* ---- letting go ---- */

void valk__request_free_waiting(valk_request_t *request) {
  valk_ledger_free(request->waiting_head);
  valk_ledger_free(request->waiting_body);
  valk_ledger_free(request->waiting_trailers);
  request->waiting_head = request->waiting_trailers = NULL;
  request->waiting_body = NULL;
}

void valk__request_free_body(valk_request_t *request) {
  valk_ledger_free(request->own_body);
  request->body = request->own_body = NULL;
  request->body_length = request->body_capacity = 0;
}

void valk__request_stop_receiving(valk_request_t *request) {
  valk__deadline_stop(&request->receiving);
  valk__deadline_stop(&request->rate);
}

void valk__request_note_shut(valk_request_t *request) {
  if (request->shut_since_ms == 0 && valk_h2_is_shut(request->connection->h2, request->stream_id))
    request->shut_since_ms = valk__now_ms(request->thread);
}

/* What the peer could not send is no fault of its own (specification, section 5). */
void valk__request_window_opened(valk_request_t *request) {
  valk_thread_t *thread = request->thread;
  request->shut_ms += valk__now_ms(thread) - request->shut_since_ms;
  request->shut_since_ms = 0;
  if (valk__listed(&request->receiving.link))
    valk__deadline_start(thread, VALK_DEADLINE_BODY, &request->receiving);
}

void valk__request_release_body_place(valk_request_t *request) {
  if (!request->place)
    return;
  request->place = false;
  if (request->connection != NULL) {
    request->connection->body_arenas--;
    valk__admission_connection_eligible(request->connection);
  }
  valk_gate_release(&request->thread->system->bodies);
}

void valk__request_release_place(valk_request_t *request) {
  valk__request_release_body_place(request);
  if (request->orphan) {
    request->orphan = false;
    atomic_fetch_sub(&request->thread->system->orphans, 1);
  }
  request->head.text = NULL;
  valk__request_free_body(request);
  request->trailers = NULL;
  request->trailers_length = 0;
  if (request->arena == NULL)
    return;
  valk_arena_pool_put(&request->thread->system->arenas, request->arena);
  request->arena = NULL;
}

void valk__request_drop_answer(valk_request_t *request) {
  valk_system_t *system = request->thread->system;
  while (request->out_first != NULL) {
    valk_buffer_t *buffer = request->out_first;
    request->out_first = buffer->next;
    valk_buffer_free(system, buffer);
  }
  request->out_last = NULL;
  request->out_bytes = 0;
  request->fixed_length = 0;
  if (request->out_trailers != NULL)
    valk_buffer_free(system, request->out_trailers);
  request->out_trailers = NULL;
}

void valk__request_detach_consumer(valk_request_t *request) {
  const valk_consumer_t *consumer = request->consumer;
  if (consumer == NULL)
    return;
  valk__list_remove(&request->wanting); /* nobody is left to be told */
  consumer->on_end(consumer->data, request);
  request->consumer = NULL;
  request->thread->consumers_called = true;
}

void valk__request_end(valk_request_t *request) {
  if (request->connection != NULL || request->handler)
    return;
  valk__request_detach_consumer(request);
  valk__request_release_place(request);
  valk__request_free_waiting(request);
  valk__request_drop_answer(request);
  free_request(request);
}

/* Tells the consumer, once, that the stream of a request that it works on is over. */
void valk__request_tell(valk_request_t *request, valk_abort_t reason) {
  if (request->consumer == NULL || request->told)
    return;
  request->told = true;
  request->thread->consumers_called = true;
  bool readable = request->handler && request->arena != NULL;
  bool given_up = request->consumer->on_abort(request->consumer->data, request, reason);
  if (!readable)
    return;
  if (given_up) {
    valk__request_free_body(request);
    request->head.text = NULL;
    if (reason == VALK_ABORT_TIMEOUT) {
      valk__request_release_place(request); /* the place is free though the handler runs on */
    } else {
      valk_arena_reset(request->arena);
    }
  } else {
    request->pinned = true;
    request->reclaim_place = reason == VALK_ABORT_TIMEOUT;
  }
}

/* ---- a request begins ---- */

static void *on_request(void *data, int32_t stream_id, const valk_head_t *head, bool end_stream,
                        int problem) {
  valk_connection_t *connection = data;
  valk_thread_t *thread = connection->thread;
  const valk_config_t *config = &thread->system->config;
  valk__count(&thread->counters.requests);
  thread->begun++;
  valk_request_t *request = new_request(thread);
  if (request == NULL) {
    valk__count(&thread->counters.reset.refused);
    return NULL;
  }
  request->connection = connection;
  request->server = connection->server;
  request->stream_id = stream_id;
  request->slot = connection->slot;
  request->head = *head;
  request->ended = end_stream;
  request->is_head = head->length > 5 && memcmp(head->text, "HEAD\n", 5) == 0;
  request->streaming = connection->server->stream_bodies;
  request->arrived_ns = thread->turn_ns;
  connection->streams++;
  if (problem != 0) {
    valk__count(problem == 431 ? &thread->counters.headers_431 : &thread->counters.bad_400);
    valk__request_reply_text(request, (uint16_t) problem,
                             problem == 431 ? "The request's header fields are too large.\n"
                                            : "The request is malformed.\n");
    return request;
  }
  if (valk__server_answer(request, head->text))
    return request;
  if (head->content_length > 0 && (uint64_t) head->content_length > config->max_request_body_size) {
    valk__request_too_large(request, &thread->counters.too_large.content_length);
    return request;
  }
  if (!request->streaming && head->content_length > 0 &&
      (uint64_t) head->content_length + head->length + 64 > config->arena_size) {
    valk__request_too_large(request, &thread->counters.too_large.arena);
    return request;
  }
  request->expects_continue = !end_stream && head->expects_continue;
  if (!valk__connection_may_hold(connection, 0) ||
      valk__admission_enter(request, head->text) != 0) {
    valk__count(&thread->counters.reset.refused);
    connection->streams--;
    request->connection = NULL;
    valk__request_end(request);
    return NULL;
  }
  return request;
}

/* ---- its body ---- */

static int keep_head(valk_request_t *request, valk_arena_t *arena) {
  char *head = valk_arena_alloc(arena, request->head.length + 1);
  if (head == NULL)
    return VALK_ENOMEM;
  memcpy(head, request->head.text, request->head.length);
  head[request->head.length] = '\0';
  request->head.text = head;
  request->head_kept = true;
  return 0;
}

int valk__request_keep_head(valk_request_t *request) {
  int result = request->head_kept ? 0 : keep_head(request, request->arena);
  valk__request_free_waiting(request);
  return result;
}

/* A body that says that it is small gets a block of its own, with the head behind it: the arena's
 * pages lie far from one another, and touching one costs more than the block. False: not this one,
 * or no memory for it. */
static bool keep_in_block(valk_request_t *request) {
  int64_t length = request->head.content_length;
  if (request->streaming || request->ended || request->body_length > 0 || length <= 0 ||
      length + (int64_t) request->head.length >= (int64_t) VALK_WINDOW_WAITING)
    return false;
  uint8_t *block = valk_ledger_malloc(NULL, (size_t) length + request->head.length + 1);
  if (block == NULL)
    return false;
  char *head = (char *) block + length;
  memcpy(head, request->head.text, request->head.length);
  head[request->head.length] = '\0';
  request->head.text = head;
  request->head_kept = true;
  request->body = request->own_body = block;
  request->body_capacity = (size_t) length;
  return true;
}

/* The same in the arena, where a body may grow. */
static int keep_in_arena(valk_request_t *request, valk_arena_t *arena) {
  size_t waiting = request->body_length;
  if (keep_head(request, arena) != 0)
    return VALK_ENOMEM;
  if (request->ended && waiting == 0)
    return 0;
  size_t want = request->head.content_length > 0 && !request->streaming
                    ? (size_t) request->head.content_length
                    : 4096;
  if (want < waiting)
    want = waiting;
  if (request->streaming && want < VALK_WINDOW_WAITING)
    want = VALK_WINDOW_WAITING;
  request->body = valk_arena_alloc(arena, want);
  if (request->body == NULL)
    return VALK_ENOMEM;
  request->body_capacity = want;
  if (waiting > 0)
    memcpy(request->body, request->waiting_body, waiting);
  return 0;
}

int valk__request_admit(valk_request_t *request, valk_arena_t *arena, const char *text) {
  const valk_config_t *config = &request->thread->system->config;
  valk_connection_t *connection = request->connection;
  size_t waiting = request->body_length;
  request->head.text = text;
  if (request->ended && (waiting == 0 || !request->streaming) &&
      request->waiting_trailers == NULL) {
    /* Its consumer most likely takes the head at once, and its body, if any, can stay where it
     * waited, in place of the arena's pages: these are not even touched then. */
    request->arena = arena;
    valk_ledger_disown(request->waiting_body);
    request->body = request->own_body = request->waiting_body;
    request->waiting_body = NULL;
    return 0;
  }
  if (!keep_in_block(request) && keep_in_arena(request, arena) != 0)
    return VALK_ENOMEM;
  if (request->waiting_trailers != NULL) {
    request->trailers = valk_arena_alloc(arena, request->trailers_length);
    if (request->trailers == NULL)
      return VALK_ENOMEM;
    memcpy(request->trailers, request->waiting_trailers, request->trailers_length);
  }
  request->arena = arena;
  valk__request_free_waiting(request);
  if (!request->ended && !request->streaming) {
    /* Its bytes lie in the arena now: the window may be as wide as what may come. */
    uint64_t window = request->head.content_length > 0 ? (uint64_t) request->head.content_length
                                                       : VALK_WINDOW_BUFFERED;
    if (window > config->max_request_body_size)
      window = config->max_request_body_size;
    if (window > VALK_WINDOW_BUFFERED)
      window = VALK_WINDOW_BUFFERED;
    if (waiting > 0)
      valk_h2_consume_stream(connection->h2, request->stream_id, waiting);
    valk_h2_open_window(connection->h2, request->stream_id, (uint32_t) window + 1);
  } else if (!request->ended) {
    if (!valk__upload_open(request))
      return VALK_ELIMIT;
  }
  if (request->expects_continue && valk_h2_continue(connection->h2, request->stream_id) == 0)
    valk__count(&request->thread->counters.status[1]);
  if (!request->ended) {
    valk__deadline_start(request->thread, VALK_DEADLINE_BODY, &request->receiving);
    if (config->min_body_rate > 0)
      valk__deadline_start(request->thread, VALK_DEADLINE_RATE, &request->rate);
    valk__connection_dirty(connection);
  }
  return 0;
}

/* Makes room for |length| more bytes in the arena; NULL: it is full. */
static uint8_t *body_room(valk_request_t *request, size_t length) {
  size_t need = request->body_length + length;
  if (need > request->body_capacity) {
    if (request->own_body != NULL)
      return NULL; /* HTTP/2 lets no more through than was announced */
    size_t capacity = request->body_capacity * 2;
    uint64_t most = request->thread->system->config.max_request_body_size;
    if (capacity > most)
      capacity = (size_t) most;
    if (capacity < need)
      capacity = need;
    uint8_t *body =
        valk_arena_grow(request->arena, request->body, request->body_capacity, capacity);
    if (body == NULL)
      body =
          valk_arena_grow(request->arena, request->body, request->body_capacity, capacity = need);
    if (body == NULL)
      return NULL;
    request->body = body;
    request->body_capacity = capacity;
  }
  return request->body + request->body_length;
}

void valk__request_refuse(valk_request_t *request) {
  valk__admission_leave(request);
  valk__request_release_place(request);
  valk__count(&counters(request)->reset.refused);
  request->ignore_body = request->finished = true;
  valk_h2_reset(request->connection->h2, request->stream_id, REFUSED_STREAM);
  valk__connection_dirty(request->connection);
}

static void on_data(void *data, void *stream, const uint8_t *bytes, size_t length) {
  valk_connection_t *connection = data;
  valk_request_t *request = stream;
  valk_thread_t *thread = connection->thread;
  valk_h2_consume_connection(connection->h2, length);
  if (request->ignore_body)
    return;
  request->received += length;
  request->rate_bytes += length;
  if (request->received > thread->system->config.max_request_body_size) {
    valk__request_too_large(request, &thread->counters.too_large.body);
    return;
  }
  if (valk__listed(&request->receiving.link))
    valk__deadline_start(thread, VALK_DEADLINE_BODY, &request->receiving);
  if (request->state == VALK_REQUEST_WAITING) {
    uint8_t *body =
        valk__connection_may_hold(connection, length)
            ? valk_ledger_realloc(request->waiting_body == NULL ? connection->ledger : NULL,
                                  request->waiting_body, request->body_length + length)
            : NULL;
    if (body == NULL) {
      valk__request_refuse(request);
      return;
    }
    memcpy(body + request->body_length, bytes, length);
    request->waiting_body = body;
    request->body_length += length;
  } else if (request->consumer != NULL) {
    thread->consumers_called = true;
    request->unconsumed += length;
    valk__upload_received(request, length);
    valk__request_note_shut(request);
    if (request->consumer->on_body(request->consumer->data, request, bytes, length) != 0) {
      valk__request_limit(request, 503, "The server is short of memory.\n",
                          &thread->counters.rejected.memory);
    }
  } else {
    uint8_t *room = body_room(request, length);
    if (room == NULL) {
      valk__request_too_large(request, &thread->counters.too_large.arena);
      return;
    }
    memcpy(room, bytes, length);
    request->body_length += length;
    if (!request->streaming)
      valk_h2_consume_stream(connection->h2, request->stream_id, length);
  }
}

static void on_end(void *data, void *stream, valk_bytes_t trailers) {
  valk_connection_t *connection = data;
  valk_request_t *request = stream;
  request->ended = true;
  valk__request_stop_receiving(request);
  valk__upload_release(request);
  if (request->ignore_body)
    return;
  if (request->state == VALK_REQUEST_WAITING) {
    if (trailers.length > 0) {
      if (valk__connection_may_hold(connection, trailers.length))
        request->waiting_trailers = valk_ledger_malloc(connection->ledger, trailers.length);
      if (request->waiting_trailers == NULL) {
        valk__request_refuse(request);
        return;
      }
      memcpy(request->waiting_trailers, trailers.data, trailers.length);
      request->trailers_length = trailers.length;
    }
    valk__admission_body_ended(request);
    return;
  }
  if (request->consumer != NULL) {
    valk__request_release_body_place(request);
    request->trailers = (char *) (uintptr_t) trailers.data; /* for the length of the call */
    request->trailers_length = trailers.length;
    request->consumer->on_body_end(request->consumer->data, request);
    request->trailers = NULL;
    request->trailers_length = 0;
    connection->thread->consumers_called = true;
    return;
  }
  if (trailers.length > 0) {
    request->trailers = valk_arena_alloc(request->arena, trailers.length);
    if (request->trailers == NULL) {
      valk__request_too_large(request, &connection->thread->counters.too_large.arena);
      return;
    }
    memcpy(request->trailers, trailers.data, trailers.length);
    request->trailers_length = trailers.length;
  }
  valk__request_release_body_place(request);
  request->arrived_ns =
      connection->thread->turn_ns; /* from here on it waits for us, not for its client */
  /* In stream mode it stands in the queue already. */
  if (request->state == VALK_REQUEST_RECEIVING)
    valk__request_dispatch(request);
}

/* ---- its end ---- */

static void on_close(void *data, void *stream, uint32_t code, bool by_peer) {
  valk_connection_t *connection = data;
  valk_request_t *request = stream;
  valk_thread_t *thread = connection->thread;
  if (by_peer) {
    valk__count(&thread->counters.reset.client);
  } else if (code != NO_ERROR && !request->finished) {
    valk__count(&thread->counters.reset.other);
  }
  if (request->answered_ns != 0 && code == NO_ERROR) {
    valk_histogram_add(&thread->counters.writing, (thread->turn_ns - request->answered_ns) / 1000);
  }
  valk__admission_leave(request);
  valk__list_remove(&request->wanting);
  valk__deadline_stop(&request->stall);
  valk__request_stop_receiving(request);
  valk__request_release_body_place(request);
  request->ended = true;
  request->unconsumed = 0; /* the consumer drops what its handler has not read */
  valk__upload_release(request);
  if (request->handler && request->consumer != NULL) {
    if (request->consumer->on_drop(request->consumer->data, request)) {
      request->handler = false;
      request->consumer = NULL;
    } else {
      valk__request_tell(request, by_peer ? VALK_ABORT_RESET : VALK_ABORT_CLOSED);
      /* Its place stays taken, so that resets cannot raise the number of running handlers. */
      if (request->arena == NULL && !request->orphan) {
        request->orphan = true;
        atomic_fetch_add(&thread->system->orphans, 1);
      }
      valk__deadline_start(thread, VALK_DEADLINE_HANDLER, &request->deadline);
    }
  } else if (request->consumer != NULL) {
    valk__request_tell(request, by_peer ? VALK_ABORT_RESET : VALK_ABORT_CLOSED);
  }
  request->connection = NULL;
  valk__request_drop_answer(request);
  valk__request_end(request);
  valk__connection_stream_ended(connection);
}

/* ---- the answer's bytes ---- */

static ssize_t on_read(void *data, void *stream, uint8_t *out, size_t room, bool *end,
                       bool *trailers) {
  valk_connection_t *connection = data;
  valk_request_t *request = stream;
  valk_system_t *system = connection->thread->system;
  size_t filled = 0;
  if (request->fixed_length > 0) {
    filled = request->fixed_length < room ? request->fixed_length : room;
    memcpy(out, request->fixed, filled);
    request->fixed += filled;
    request->fixed_length -= filled;
  }
  while (filled < room && request->out_first != NULL) {
    valk_buffer_t *buffer = request->out_first;
    size_t length = buffer->length - buffer->offset;
    if (length > room - filled)
      length = room - filled;
    memcpy(out + filled, buffer->data + buffer->offset, length);
    buffer->offset += (uint32_t) length;
    request->out_bytes -= length;
    filled += length;
    if (buffer->offset < buffer->length)
      break;
    request->out_first = buffer->next;
    if (request->out_first == NULL)
      request->out_last = NULL;
    valk_buffer_free(system, buffer);
  }
  connection->data_bytes += filled;
  if (valk__listed(&request->stall.link))
    valk__request_begin_stall(request);
  bool left = request->fixed_length > 0 || request->out_first != NULL;
  if (left)
    return (ssize_t) filled;
  valk__deadline_stop(&request->stall);
  if (!request->finished)
    return filled > 0 ? (ssize_t) filled : VALK_H2_DEFER;
  *end = true;
  if (request->out_trailers != NULL) {
    valk_buffer_t *fields = request->out_trailers;
    /* Without them the answer would look whole. */
    if (valk_h2_trailers(connection->h2, request->stream_id, (const char *) fields->data,
                         fields->length) != 0)
      return VALK_H2_FAIL;
    *trailers = true;
  }
  return (ssize_t) filled;
}

const valk_h2_events_t valk__request_events = {on_request, on_data, on_end, on_close, on_read};
