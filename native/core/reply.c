/* The engine's own answers, and the limits that end a stream with one. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define NO_ERROR 0u
#define INTERNAL_ERROR 2u
#define REFUSED_STREAM 7u
#define CANCEL 8u

static valk_counters_t *counters(valk_request_t *request) {
  return &request->thread->counters;
}

/* The answer is whole as far as we are concerned; of a request body that still comes nothing is
 * wanted. */
void valk__request_finished(valk_request_t *request) {
  request->finished = true;
  valk__list_remove(&request->wanting);
  if (!request->ended && request->connection != NULL) {
    request->ignore_body = true;
    valk__request_stop_receiving(request);
    valk__request_release_body_place(request);
    valk_h2_reset(request->connection->h2, request->stream_id, NO_ERROR);
  }
}

static bool bodiless(const valk_request_t *request, uint16_t status) {
  return request->is_head || status == 204 || status == 304;
}

void valk__request_count_status(valk_request_t *request, uint16_t status) {
  request->status = status;
  request->answered_ns = request->thread->turn_ns;
  if (status < 600)
    valk__count(&counters(request)->status[status / 100]);
}

static void reply(valk_request_t *request, uint16_t status, const char *fields,
                  size_t fields_length, int64_t content_length, bool body) {
  valk_connection_t *connection = request->connection;
  request->state = VALK_REQUEST_ANSWERED;
  const char *date = request->server->send_date ? valk__thread_date(request->thread) : NULL;
  int result = valk_h2_respond(connection->h2, request->stream_id, status, fields, fields_length,
                               date, content_length, body && !bodiless(request, status));
  if (result != 0) {
    /* Not even this fits the connection's memory. The client may try again only if no handler saw
     * the request. */
    valk__request_drop_answer(request);
    valk__count(&counters(request)->reset.refused);
    valk_h2_reset(connection->h2, request->stream_id,
                  request->claimed ? INTERNAL_ERROR : REFUSED_STREAM);
    request->finished = request->ignore_body = true;
  } else {
    valk__request_count_status(request, status);
    valk__request_finished(request);
  }
  valk__connection_dirty(connection);
}

void valk__request_reply(valk_request_t *request, uint16_t status, const char *fields,
                         size_t fields_length, const uint8_t *body, size_t body_length) {
  request->fixed = body;
  request->fixed_length = bodiless(request, status) ? 0 : body_length;
  int64_t length = status == 204 || status == 304 ? -1 : (int64_t) body_length;
  reply(request, status, fields, fields_length, length, body_length > 0);
  if (request->fixed_length > 0)
    valk__request_begin_stall(request);
}

void valk__request_reply_buffer(valk_request_t *request, uint16_t status, const char *fields,
                                size_t fields_length, valk_buffer_t *body) {
  int64_t length = body->length;
  if (bodiless(request, status)) {
    valk_buffer_free(request->thread->system, body);
  } else {
    request->out_first = request->out_last = body;
    request->out_bytes = body->length;
  }
  reply(request, status, fields, fields_length, length, length > 0);
  if (request->out_first != NULL)
    valk__request_begin_stall(request);
}

void valk__request_reply_text(valk_request_t *request, uint16_t status, const char *body) {
  static const char fields[] = "content-type\ntext/plain; charset=utf-8\n";
  valk__request_reply(request, status, fields, sizeof(fields) - 1, (const uint8_t *) body,
                      strlen(body));
}

/* A limit ends the stream: an answer where none has begun, else a reset (specification, section 5).
 */
void valk__request_limit(valk_request_t *request, uint16_t status, const char *body,
                         valk_counter_t *cause) {
  valk__count(cause);
  valk__admission_leave(request);
  bool begun = request->state == VALK_REQUEST_ANSWERED;
  if (request->consumer != NULL) {
    if (request->handler && request->consumer->on_drop(request->consumer->data, request)) {
      request->handler = false;
      request->consumer = NULL;
    } else {
      request->claimed = true;
      valk__request_tell(request, VALK_ABORT_LIMIT);
      if (!request->handler)
        valk__request_detach_consumer(request);
    }
  }
  if (!request->handler)
    valk__request_release_place(request);
  if (begun) {
    valk__request_drop_answer(request);
    request->finished = request->ignore_body = true;
    valk__request_stop_receiving(request);
    valk_h2_reset(request->connection->h2, request->stream_id, CANCEL);
    valk__connection_dirty(request->connection);
  } else {
    valk__request_reply_text(request, status, body);
  }
}

void valk__request_too_large(valk_request_t *request, valk_counter_t *cause) {
  valk__request_limit(request, 413, "The request body is too large.\n", cause);
}

/* ---- limits of time ---- */

static void body_expired(valk_deadline_t *deadline) {
  valk_request_t *request = VALK_CONTAINER(deadline, valk_request_t, receiving);
  valk_counters_t *counts = counters(request);
  if (request->unconsumed > 0) {
    /* The handler is slow to take it, so the peer's window may be shut: that is no fault of the
     * peer's. */
    valk__deadline_start(request->thread, VALK_DEADLINE_BODY, &request->receiving);
    return;
  }
  if (request->state != VALK_REQUEST_ANSWERED)
    valk__count(&counts->timeouts_408);
  valk__request_limit(request, 408, "The request body took too long.\n",
                      &counts->reset.body_timeout);
}

static void rate_expired(valk_deadline_t *deadline) {
  valk_request_t *request = VALK_CONTAINER(deadline, valk_request_t, rate);
  valk_thread_t *thread = request->thread;
  /* The time in which its window was shut is not the peer's (specification, section 5). */
  uint64_t period = thread->deadlines[VALK_DEADLINE_RATE].duration_ms;
  uint64_t open = period > request->shut_ms ? period - request->shut_ms : 0;
  uint64_t least = (uint64_t) thread->system->config.min_body_rate * open / 1000;
  bool slow = request->rate_bytes < least && request->unconsumed == 0;
  request->rate_bytes = request->shut_ms = 0;
  if (request->shut_since_ms != 0)
    request->shut_since_ms = valk__now_ms(thread);
  valk__deadline_start(thread, VALK_DEADLINE_RATE, &request->rate);
  if (!slow)
    return;
  if (request->state != VALK_REQUEST_ANSWERED)
    valk__count(&thread->counters.timeouts_408);
  valk__request_limit(request, 408, "The request body came too slowly.\n",
                      &thread->counters.reset.body_rate);
}

void valk__request_begin_stall(valk_request_t *request) {
  request->stall_mark = request->connection->data_bytes;
  valk__deadline_start(request->thread, VALK_DEADLINE_STALL, &request->stall);
}

/* Bytes that a connection takes of others' answers, for one of its answers to wait on. */
#define STALL_LEAST 16384u

static void stall_expired(valk_deadline_t *deadline) {
  valk_request_t *request = VALK_CONTAINER(deadline, valk_request_t, stall);
  valk_connection_t *connection = request->connection;
  bool takes = connection->data_bytes - request->stall_mark >= STALL_LEAST;
  if (takes && valk_h2_can_send(connection->h2, request->stream_id)) {
    /* It is others of its connection that have their turn first (RFC 9218, section 10). */
    valk__request_begin_stall(request);
    return;
  }
  valk__count(&counters(request)->reset.write_timeout);
  request->finished = request->ignore_body = true;
  valk__request_drop_answer(request);
  valk__list_remove(&request->wanting);
  valk__request_tell(request, VALK_ABORT_LIMIT);
  /* A handler that runs on keeps its place, and settles with its consumer. */
  if (!request->handler)
    valk__request_detach_consumer(request);
  valk_h2_reset(request->connection->h2, request->stream_id, CANCEL);
  valk__connection_dirty(request->connection);
}

void valk__requests_remove_consumer(valk_thread_t *thread, const valk_consumer_t *consumer) {
  static const char text[] = "The server has no handler any more.\n";
  for (uint32_t i = 0; i < thread->chunk_count * VALK_REQUEST_CHUNK; i++) {
    valk_request_t *request = &thread->chunks[i / VALK_REQUEST_CHUNK][i % VALK_REQUEST_CHUNK];
    if (request->state == VALK_REQUEST_FREE || request->consumer != consumer)
      continue;
    if (request->handler) {
      request->handler = false;
      valk__deadline_stop(&request->deadline);
      valk__request_release_place(request);
    }
    valk__request_detach_consumer(request);
    if (request->connection == NULL) {
      valk__request_end(request);
    } else if (request->state == VALK_REQUEST_QUEUED) {
      valk__count(&thread->counters.rejected.consumer_gone);
      request->claimed = true;
      valk__request_reply_text(request, 503, text);
    } else if (!request->finished) {
      valk__request_drop_answer(request);
      request->finished = request->ignore_body = true;
      valk__request_stop_receiving(request);
      valk_h2_reset(request->connection->h2, request->stream_id, INTERNAL_ERROR);
      valk__connection_dirty(request->connection);
    }
  }
}

void valk__request_deadlines(valk_thread_t *thread) {
  thread->deadlines[VALK_DEADLINE_BODY].expired = body_expired;
  thread->deadlines[VALK_DEADLINE_RATE].expired = rate_expired;
  thread->deadlines[VALK_DEADLINE_STALL].expired = stall_expired;
}
