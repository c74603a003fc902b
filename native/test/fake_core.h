/*
 * A core without sockets, TLS and HTTP/2, for the tests of the bridge: requests are made by the
 * test, and what the bridge does with them is written down. Included by one file of a program,
 * since it defines functions of valk.h: the linker then takes none of them from the engine. A fake
 * request belongs to one thread of the test, as a real one belongs to an engine thread.
 */
#ifndef VALK_TEST_FAKE_CORE_H
#define VALK_TEST_FAKE_CORE_H

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/fault.h"
#include "test.h"
#include "valk.h"

#define FAKE_THREADS 8
#define FAKE_TEXT 256
#define FAKE_CERTIFICATE 64

struct valk_server {
  void *data;
};

struct valk_system {
  valk_config_t config;
  const valk_consumer_t *consumer;
  atomic_int wakes[FAKE_THREADS];
  atomic_long budget;
  void (*on_wake)(void *data, unsigned thread);
  void *data;
};

typedef struct {
  valk_peer_t peer;
  atomic_uint references;
  uint8_t certificate[FAKE_CERTIFICATE];
} fake_peer_t;

struct valk_request {
  valk_system_t *system;
  valk_server_t *server;
  fake_peer_t *peer;
  unsigned thread;
  uint32_t slot;
  char text[FAKE_TEXT];
  valk_head_t head;
  uint8_t *body;
  size_t body_length;
  const char *trailers;
  bool body_ended;
  uint64_t body_room;
  bool streams;
  void *data;

  bool taken; /* on_request gave 0, and neither on_drop true nor on_end came since */
  bool gone;  /* its stream has ended: on_abort was called */
  bool bad;   /* respond gives VALK_EINVAL */

  /* What the bridge did. */
  int answers, writes, finishes, resets, settles, ends, reclaims, ignored, wants;
  uint16_t status;
  unsigned flags;
  int64_t content_length;
  char fields[FAKE_TEXT];
  uint8_t *sent;
  size_t sent_length;
  char sent_trailers[FAKE_TEXT];
  uint32_t code;
  size_t consumed;
};

/* ---- valk.h ---- */

const valk_config_t *valk_system_config(const valk_system_t *system) {
  return &system->config;
}

int valk_system_add_consumer(valk_system_t *system, const valk_consumer_t *consumer) {
  system->consumer = consumer;
  return 0;
}

/* The test ends its requests before. */
void valk_system_remove_consumer(valk_system_t *system, const valk_consumer_t *consumer) {
  ASSERT_PTR_EQ(system->consumer, consumer);
  system->consumer = NULL;
}

void valk_system_wake(valk_system_t *system, unsigned thread) {
  atomic_fetch_add(&system->wakes[thread], 1);
  if (system->on_wake != NULL) {
    system->on_wake(system->data, thread);
  }
}

const valk_head_t *valk_request_head(const valk_request_t *request) {
  return &request->head;
}
valk_bytes_t valk_request_body(const valk_request_t *request) {
  return (valk_bytes_t){request->body, request->body_length};
}
valk_bytes_t valk_request_trailers(const valk_request_t *request) {
  return (valk_bytes_t){(const uint8_t *) request->trailers,
                        request->trailers ? strlen(request->trailers) : 0};
}
uint64_t valk_request_body_room(const valk_request_t *request) {
  return request->body_room;
}
bool valk_request_body_ended(const valk_request_t *request) {
  return request->body_ended;
}
const valk_peer_t *valk_request_peer(const valk_request_t *request) {
  return &request->peer->peer;
}
valk_server_t *valk_request_server(const valk_request_t *request) {
  return request->server;
}
void *valk_server_data(const valk_server_t *server) {
  return server->data;
}
unsigned valk_request_thread(const valk_request_t *request) {
  return request->thread;
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

const valk_peer_t *valk_peer_ref(const valk_peer_t *peer) {
  atomic_fetch_add(&((fake_peer_t *) (uintptr_t) peer)->references, 1);
  return peer;
}
void valk_peer_unref(const valk_peer_t *peer) {
  if (atomic_fetch_sub(&((fake_peer_t *) (uintptr_t) peer)->references, 1) == 1) {
    free((void *) (uintptr_t) peer);
  }
}

valk_buffer_t *valk_buffer_new(uint32_t length) {
  valk_buffer_t *buffer =
      valk__fault(VALK_FAULT_MALLOC) ? NULL : calloc(1, sizeof(*buffer) + length);
  if (buffer == NULL) {
    return NULL;
  }
  buffer->data = buffer->own;
  buffer->length = length;
  return buffer;
}
void valk_buffer_free(valk_system_t *system, valk_buffer_t *buffer) {
  valk_budget_give(system, buffer->slot, buffer->charged);
  if (buffer->release != NULL) {
    buffer->release(buffer->owner);
  }
  free(buffer);
}
uint32_t valk_budget_take(valk_system_t *system, uint32_t slot, uint32_t least, uint32_t most) {
  (void) slot;
  long left = atomic_load(&system->budget);
  for (;;) {
    long take = left < (long) most ? left : (long) most;
    if (take < (long) least || take <= 0) {
      return 0;
    }
    if (atomic_compare_exchange_weak(&system->budget, &left, left - take)) {
      return (uint32_t) take;
    }
  }
}
void valk_budget_give(valk_system_t *system, uint32_t slot, uint32_t bytes) {
  (void) slot;
  atomic_fetch_add(&system->budget, bytes);
}

static void fake_end(valk_request_t *request) {
  if (!request->taken) {
    return;
  }
  request->taken = false;
  request->ends++;
  request->system->consumer->on_end(request->system->consumer->data, request);
}

static void fake_send(valk_request_t *request, valk_buffer_t *buffer, uint32_t offset) {
  size_t length = buffer->length - offset;
  request->sent = realloc(request->sent, request->sent_length + length + 1);
  memcpy(request->sent + request->sent_length, buffer->data + offset, length);
  request->sent_length += length;
  valk_buffer_free(request->system, buffer);
}

int valk_request_respond(valk_request_t *request, uint16_t status, valk_buffer_t *buffer,
                         uint32_t head_length, int64_t content_length, unsigned flags) {
  ASSERT(request->taken);
  valk_buffer_t *rest = buffer->next;
  if (request->gone || request->bad || request->answers > 0) {
    valk_buffer_free(request->system, buffer);
    if (rest != NULL) {
      valk_buffer_free(request->system, rest);
    }
    fake_end(request);
    return request->bad ? VALK_EINVAL : VALK_ESTALE;
  }
  ASSERT_LT(head_length, sizeof(request->fields));
  request->answers++;
  request->status = status;
  request->content_length = content_length;
  request->flags = flags;
  memcpy(request->fields, buffer->data, head_length);
  request->fields[head_length] = '\0';
  fake_send(request, buffer, head_length);
  if (rest != NULL) {
    fake_send(request, rest, 0);
  }
  if ((flags & VALK_ANSWER_END) != 0) {
    fake_end(request);
  }
  return 0;
}

int valk_request_write(valk_request_t *request, valk_buffer_t *buffer) {
  ASSERT(request->taken);
  if (request->gone || request->answers == 0) {
    valk_buffer_free(request->system, buffer);
    return VALK_ESTALE;
  }
  request->writes++;
  fake_send(request, buffer, 0);
  return 0;
}

int valk_request_finish(valk_request_t *request, valk_buffer_t *trailers) {
  ASSERT(request->taken);
  request->finishes++;
  if (trailers != NULL) {
    memcpy(request->sent_trailers, trailers->data, trailers->length);
    request->sent_trailers[trailers->length] = '\0';
    valk_buffer_free(request->system, trailers);
  }
  fake_end(request);
  return request->gone ? VALK_ESTALE : 0;
}

void valk_request_reset(valk_request_t *request, uint32_t code) {
  ASSERT(request->taken);
  request->resets++;
  request->code = code;
  fake_end(request);
}
void valk_request_settle(valk_request_t *request) {
  ASSERT(request->taken);
  request->settles++;
  fake_end(request);
}
void valk_request_reclaim(valk_request_t *request) {
  request->reclaims++;
}
void valk_request_consume(valk_request_t *request, size_t bytes) {
  request->consumed += bytes;
}
void valk_request_ignore_body(valk_request_t *request) {
  request->ignored++;
}
void valk_request_want_writable(valk_request_t *request) {
  request->wants++;
}

/* ---- what tests call ---- */

static inline void fake_system_init(valk_system_t *system, uint32_t queue_capacity,
                                    uint32_t threads) {
  memset(system, 0, sizeof(*system));
  system->config.max_connections = 8;
  system->config.max_concurrent_streams = 64;
  system->config.queue_capacity = queue_capacity;
  system->config.io_threads = threads;
  atomic_store(&system->budget, 1 << 20);
}

static inline fake_peer_t *fake_peer(const char *address) {
  fake_peer_t *peer = calloc(1, sizeof(*peer));
  atomic_store(&peer->references, 1);
  static atomic_uint serials;
  peer->peer.serial = atomic_fetch_add(&serials, 1) + 1;
  snprintf(peer->peer.remote_address, sizeof(peer->peer.remote_address), "%s", address);
  memset(peer->certificate, (int) peer->peer.serial, sizeof(peer->certificate));
  peer->peer.certificate = peer->certificate;
  peer->peer.certificate_length = sizeof(peer->certificate);
  return peer;
}

/* A request without a body; |text| is its head. */
static inline void fake_request_init(valk_request_t *request, valk_system_t *system,
                                     valk_server_t *server, fake_peer_t *peer, const char *text) {
  memset(request, 0, sizeof(*request));
  request->system = system;
  request->server = server;
  request->peer = peer;
  request->body_ended = true;
  snprintf(request->text, sizeof(request->text), "%s", text);
  request->head = (valk_head_t){
      .text = request->text, .length = (uint32_t) strlen(request->text), .content_length = -1};
}

static inline void fake_request_deinit(valk_request_t *request) {
  free(request->sent);
  request->sent = NULL;
}

static inline int fake_offer(valk_request_t *request) {
  request->taken = true;
  int result = request->system->consumer->on_request(request->system->consumer->data, request);
  if (result != 0) {
    request->taken = false;
  }
  return result;
}

static inline bool fake_drop(valk_request_t *request) {
  bool dropped = request->system->consumer->on_drop(request->system->consumer->data, request);
  if (dropped) {
    request->taken = false;
  }
  return dropped;
}

static inline bool fake_abort(valk_request_t *request, valk_abort_t reason) {
  request->gone = true;
  return request->system->consumer->on_abort(request->system->consumer->data, request, reason);
}

static inline int fake_body(valk_request_t *request, const void *bytes, size_t length) {
  return request->system->consumer->on_body(request->system->consumer->data, request, bytes,
                                            length);
}

static inline void fake_turn(valk_system_t *system, unsigned thread) {
  system->consumer->on_turn(system->consumer->data, thread);
}

static inline void fake_wake(valk_system_t *system, unsigned thread) {
  system->consumer->on_wake(system->consumer->data, thread);
}

#endif
