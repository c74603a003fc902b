/* What a consumer calls: the accessors of a request, the answer and its budget. */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "internal.h"

#define LOW_WATER (VALK_WRITE_MAX / 2)

/* ---- the request as its consumer sees it ---- */

const valk_head_t *valk_request_head(const valk_request_t *request) {
  return &request->head;
}

valk_bytes_t valk_request_body(const valk_request_t *request) {
  return (valk_bytes_t){request->body, request->body == NULL ? 0 : request->body_length};
}

valk_bytes_t valk_request_trailers(const valk_request_t *request) {
  return (valk_bytes_t){(const uint8_t *) request->trailers,
                        request->trailers == NULL ? 0 : request->trailers_length};
}

bool valk_request_body_ended(const valk_request_t *request) {
  return request->ended;
}
bool valk_request_streams(const valk_request_t *request) {
  return request->streaming;
}
valk_server_t *valk_request_server(const valk_request_t *request) {
  return request->server;
}
void *valk_server_data(const valk_server_t *server) {
  return server->data;
}
valk_handle_t valk_request_handle(const valk_request_t *request) {
  return (valk_handle_t){request->id, request->generation};
}
unsigned valk_request_thread(const valk_request_t *request) {
  return request->thread->index;
}
uint32_t valk_request_slot(const valk_request_t *request) {
  return request->slot;
}
void valk_request_set_data(valk_request_t *request, void *data) {
  request->data = data;
}
void *valk_request_data(const valk_request_t *request) {
  return request->data;
}

/* ---- the peer: made once a connection, shared by all that ask ---- */

typedef struct {
  valk_peer_t peer;
  atomic_uint references;
  uint8_t certificate[]; /* charged to its connection, which few outlive: see the bridge */
} counted_peer_t;

const valk_peer_t *valk_peer_ref(const valk_peer_t *peer) {
  atomic_fetch_add_explicit(&((counted_peer_t *) (uintptr_t) peer)->references, 1,
                            memory_order_relaxed);
  return peer;
}

void valk_peer_unref(const valk_peer_t *peer) {
  counted_peer_t *counted = (counted_peer_t *) (uintptr_t) peer;
  if (atomic_fetch_sub_explicit(&counted->references, 1, memory_order_acq_rel) == 1)
    free(counted);
}

static uint16_t name_of(const struct sockaddr_storage *address, char *name, size_t size) {
  name[0] = '\0';
  if (address->ss_family == AF_INET) {
    const struct sockaddr_in *ip4 = (const struct sockaddr_in *) address;
    uv_ip4_name(ip4, name, size);
    return ntohs(ip4->sin_port);
  }
  if (address->ss_family == AF_INET6) {
    const struct sockaddr_in6 *ip6 = (const struct sockaddr_in6 *) address;
    uv_ip6_name(ip6, name, size);
    return ntohs(ip6->sin6_port);
  }
  return 0;
}

static valk_peer_t *make_peer(valk_connection_t *connection) {
  size_t certificate = valk_tls_peer_certificate(connection->tls, NULL, 0);
  if (certificate > 0 && !valk_ledger_charge(connection->ledger, certificate))
    return NULL;
  counted_peer_t *counted =
      valk__fault(VALK_FAULT_MALLOC) ? NULL : calloc(1, sizeof(*counted) + certificate);
  if (counted == NULL) {
    valk_ledger_credit(connection->ledger, certificate);
    return NULL;
  }
  if (certificate > 0) {
    counted->peer.certificate_length =
        valk_tls_peer_certificate(connection->tls, counted->certificate, certificate);
    counted->peer.certificate = counted->certificate;
  }
  counted->peer.authorization_error = valk_tls_authorization_error(connection->tls);
  atomic_init(&counted->references, 1);
  valk_peer_t *peer = &counted->peer;
  do {
    peer->serial = atomic_fetch_add(&connection->thread->system->peers, 1) + 1;
  } while (peer->serial == 0);
  struct sockaddr_storage local;
  socklen_t length = sizeof(local);
  memset(&local, 0, sizeof(local));
  peer->remote_port =
      name_of(&connection->remote, peer->remote_address, sizeof(peer->remote_address));
  if (!valk__fault(VALK_FAULT_OPTION) &&
      getsockname(connection->fd, (struct sockaddr *) &local, &length) == 0) {
    peer->local_port = name_of(&local, peer->local_address, sizeof(peer->local_address));
  }
  peer->tls_version = valk_tls_version(connection->tls);
  peer->tls_cipher = valk_tls_cipher(connection->tls);
  const char *servername = valk_tls_servername(connection->tls);
  if (servername != NULL) {
    size_t size = strlen(servername);
    if (size >= sizeof(peer->servername))
      size = sizeof(peer->servername) - 1;
    memcpy(peer->servername, servername, size);
  }
  return peer;
}

const valk_peer_t *valk__connection_peer(valk_connection_t *connection) {
  if (connection->peer == NULL)
    connection->peer = make_peer(connection);
  return connection->peer;
}

void valk__connection_peer_free(valk_connection_t *connection) {
  if (connection->peer == NULL)
    return;
  valk_ledger_credit(connection->ledger, connection->peer->certificate_length);
  valk_peer_unref(connection->peer);
}

const valk_peer_t *valk_request_peer(const valk_request_t *request) {
  return request->connection == NULL ? NULL : request->connection->peer;
}

/* ---- buffers and budgets ---- */

valk_buffer_t *valk_buffer_new(uint32_t length) {
  if (valk__fault(VALK_FAULT_MALLOC))
    return NULL;
  valk_buffer_t *buffer = malloc(sizeof(*buffer) + length);
  if (buffer == NULL)
    return NULL;
  *buffer = (valk_buffer_t){.data = buffer->own, .length = length};
  return buffer;
}

void valk_buffer_free(valk_system_t *system, valk_buffer_t *buffer) {
  if (buffer->charged > 0)
    valk_budget_give(system, buffer->slot, buffer->charged);
  if (buffer->release != NULL)
    buffer->release(buffer->owner);
  free(buffer);
}

static void free_answer(valk_system_t *system, valk_buffer_t *buffer) {
  if (buffer->next != NULL)
    valk_buffer_free(system, buffer->next);
  valk_buffer_free(system, buffer);
}

uint32_t valk_budget_take(valk_system_t *system, uint32_t slot, uint32_t least, uint32_t most) {
  atomic_int_least64_t *budget = &system->budgets[slot];
  int64_t left = atomic_load_explicit(budget, memory_order_relaxed);
  for (;;) {
    int64_t take = left < (int64_t) most ? left : (int64_t) most;
    if (take < (int64_t) least || take <= 0)
      return 0;
    if (atomic_compare_exchange_weak_explicit(budget, &left, left - take, memory_order_relaxed,
                                              memory_order_relaxed)) {
      return (uint32_t) take;
    }
  }
}

void valk_budget_give(valk_system_t *system, uint32_t slot, uint32_t bytes) {
  atomic_fetch_add_explicit(&system->budgets[slot], bytes, memory_order_relaxed);
}

/* ---- the answer ---- */

static void push(valk_request_t *request, valk_buffer_t *buffer) {
  buffer->next = NULL;
  if (request->out_last != NULL) {
    request->out_last->next = buffer;
  } else {
    request->out_first = buffer;
  }
  request->out_last = buffer;
  request->out_bytes += buffer->length - buffer->offset;
  if (!valk__listed(&request->stall.link)) {
    valk__request_begin_stall(request);
  }
}

/* HTTP/2 has taken the head over: |buffer| with the body alone where a large head would stay with
 * it.
 */
static valk_buffer_t *without_head(valk_buffer_t *buffer, uint32_t head_length) {
  buffer->offset = head_length;
  if (head_length < VALK_INLINE_MAX)
    return buffer;
  buffer->length -= head_length;
  buffer->offset = 0;
  memmove(buffer->data, buffer->data + head_length, buffer->length);
  valk_buffer_t *smaller =
      valk__fault(VALK_FAULT_MALLOC) ? NULL : realloc(buffer, sizeof(*buffer) + buffer->length);
  if (smaller == NULL)
    return buffer;
  smaller->data = smaller->own;
  return smaller;
}

/* The handler has settled: its place is free. */
static void settled(valk_request_t *request) {
  if (!request->handler)
    return;
  valk_thread_t *thread = request->thread;
  request->handler = false;
  request->claimed = true;
  valk__deadline_stop(&request->deadline);
  valk__request_release_place(request);
  thread->pace_count++;
  valk_histogram_add(&thread->counters.handler, (thread->turn_ns - request->dispatched_ns) / 1000);
}

int valk_request_respond(valk_request_t *request, uint16_t status, valk_buffer_t *buffer,
                         uint32_t head_length, int64_t content_length, unsigned flags) {
  valk_thread_t *thread = request->thread;
  bool first = request->handler && request->state == VALK_REQUEST_QUEUED;
  settled(request);
  if (request->connection == NULL || !first) {
    free_answer(thread->system, buffer);
    if (!first && request->connection != NULL && request->finished)
      valk__request_detach_consumer(request);
    valk__request_end(request);
    return VALK_ESTALE;
  }
  valk_connection_t *connection = request->connection;
  bool whole = (flags & VALK_ANSWER_END) != 0;
  valk_buffer_t *rest = buffer->next;
  uint64_t body_length = (uint64_t) buffer->length - head_length + (rest ? rest->length : 0);
  bool bodiless = request->is_head || status == 204 || status == 304;
  if (whole && content_length < 0 && status != 204 && status != 304)
    content_length = (int64_t) body_length;
  bool body = !bodiless && !(whole && body_length == 0);
  const char *date = request->server->send_date && !(flags & VALK_ANSWER_NO_DATE)
                         ? valk__thread_date(thread)
                         : NULL;
  int result =
      valk_h2_respond(connection->h2, request->stream_id, status, (const char *) buffer->data,
                      head_length, date, content_length, body);
  valk__connection_dirty(connection);
  if (result != 0) {
    free_answer(thread->system, buffer);
    static const char text[] = "Internal Server Error\n";
    valk__request_reply(request, 500, NULL, 0, (const uint8_t *) text, sizeof(text) - 1);
    valk__request_detach_consumer(request);
    return result == VALK_EINVAL ? VALK_EINVAL : VALK_ESTALE;
  }
  request->state = VALK_REQUEST_ANSWERED;
  valk__request_count_status(request, status);
  if (!body) {
    free_answer(thread->system, buffer);
  } else {
    if (buffer->length > head_length) {
      push(request, without_head(buffer, head_length));
    } else {
      valk_buffer_free(thread->system, buffer);
    }
    if (rest != NULL)
      push(request, rest);
  }
  if (whole || !body) {
    valk__request_finished(request);
    valk__request_detach_consumer(request);
  }
  return 0;
}

int valk_request_write(valk_request_t *request, valk_buffer_t *buffer) {
  if (request->connection == NULL || request->finished || request->state != VALK_REQUEST_ANSWERED) {
    valk_buffer_free(request->thread->system, buffer);
    return VALK_ESTALE;
  }
  push(request, buffer);
  valk_request_want_writable(request);
  valk_h2_resume(request->connection->h2, request->stream_id);
  valk__connection_dirty(request->connection);
  return 0;
}

int valk_request_finish(valk_request_t *request, valk_buffer_t *trailers) {
  if (request->connection == NULL || request->finished || request->state != VALK_REQUEST_ANSWERED) {
    if (trailers != NULL)
      valk_buffer_free(request->thread->system, trailers);
    valk_request_settle(request);
    return VALK_ESTALE;
  }
  request->out_trailers = trailers;
  valk_h2_resume(request->connection->h2, request->stream_id);
  valk__connection_dirty(request->connection);
  valk__request_finished(request);
  valk__request_detach_consumer(request);
  return 0;
}

void valk_request_reset(valk_request_t *request, uint32_t code) {
  settled(request);
  if (request->connection != NULL && !request->finished) {
    valk__count(&request->thread->counters.reset.handler);
    request->state = VALK_REQUEST_ANSWERED;
    request->finished = request->ignore_body = true;
    valk__list_remove(&request->wanting);
    valk__request_release_body_place(request);
    valk_h2_reset(request->connection->h2, request->stream_id, code);
    valk__connection_dirty(request->connection);
  }
  if (request->connection != NULL)
    valk__request_detach_consumer(request);
  valk__request_end(request);
}

void valk_request_settle(valk_request_t *request) {
  if (request->connection != NULL && !request->finished) {
    valk_request_reset(request, 2); /* a handler that gives no answer at all: INTERNAL_ERROR */
    return;
  }
  settled(request);
  if (request->connection != NULL)
    valk__request_detach_consumer(request);
  valk__request_end(request);
}

void valk_request_reclaim(valk_request_t *request) {
  if (request->arena == NULL || !request->pinned)
    return;
  request->pinned = false;
  if (request->reclaim_place) {
    valk__request_release_place(request);
  } else {
    valk__request_free_body(request);
    request->head.text = NULL;
    valk_arena_reset(request->arena);
  }
}

void valk_request_consume(valk_request_t *request, size_t bytes) {
  request->unconsumed -= bytes < request->unconsumed ? bytes : request->unconsumed;
  valk__upload_release(request);
  if (request->connection == NULL || request->ended || request->ignore_body)
    return;
  valk_h2_t *h2 = request->connection->h2;
  valk__request_note_shut(request); /* the acknowledgement of our SETTINGS may have shut it too */
  valk__upload_consumed(request, bytes);
  valk_h2_consume_stream(h2, request->stream_id, bytes);
  if (request->shut_since_ms != 0 && !valk_h2_is_shut(h2, request->stream_id))
    valk__request_window_opened(request);
  valk__connection_dirty(request->connection);
}

void valk_request_ignore_body(valk_request_t *request) {
  if (request->connection == NULL || request->ended || request->ignore_body)
    return;
  request->ignore_body = true;
  valk__request_stop_receiving(request); /* what comes still nobody waits for */
  valk__request_release_body_place(request);
}

void valk_request_want_writable(valk_request_t *request) {
  if (request->connection == NULL || request->finished || valk__listed(&request->wanting))
    return;
  valk__list_append(&request->connection->wanting, &request->wanting);
  valk__connection_dirty(request->connection);
}

void valk__connection_serve_wanting(valk_connection_t *connection) {
  valk_link_t *link = connection->wanting.next;
  while (link != &connection->wanting) {
    valk_link_t *next = link->next;
    valk_request_t *request = VALK_CONTAINER(link, valk_request_t, wanting);
    int64_t budget = atomic_load_explicit(&connection->thread->system->budgets[connection->slot],
                                          memory_order_relaxed);
    if (budget < (int64_t) VALK_WRITE_LEAST)
      break;
    if (request->out_bytes <= LOW_WATER) {
      valk__list_remove(&request->wanting);
      connection->thread->consumers_called = true;
      request->consumer->on_writable(request->consumer->data, request);
    }
    link = next;
  }
}
