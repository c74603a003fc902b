/* What JavaScript reads of a request beside its head: its body, trailers, and who sent it. */
#include "bridge_internal.h"

#include <stdlib.h>
#include <string.h>

/* A body up to this is copied under the lock: pinning it would cost more. */
#define COPY_LOCKED_MAX 4096u

int valk_bridge_body(valk_bridge_t *bridge, uint32_t index, uint32_t generation, uint8_t *bytes,
                     size_t length) {
  valk_exchange_t *exchange = valk__bridge_find(bridge, index, generation);
  if (exchange == NULL || exchange->answered) {
    return VALK_ESTALE;
  }
  uv_mutex_lock(&bridge->lock);
  const uint8_t *body = exchange->body;
  if (length > exchange->body_length) {
    body = NULL;
  }
  bool pin = body != NULL && length > COPY_LOCKED_MAX;
  exchange->pinned = pin;
  if (body != NULL && !pin) {
    memcpy(bytes, body, length);
  }
  uv_mutex_unlock(&bridge->lock);
  if (!pin) {
    return body == NULL ? VALK_ESTALE : 0;
  }
  memcpy(bytes, body, length);
  uv_mutex_lock(&bridge->lock);
  exchange->pinned = false;
  bool reclaim = exchange->reclaim;
  exchange->reclaim = false;
  uv_mutex_unlock(&bridge->lock);
  if (reclaim) {
    valk__bridge_post(bridge, exchange, &(valk_ops_t){.bits = VALK_OP_RECLAIM});
    valk_system_wake(bridge->system, exchange->thread);
  }
  return 0;
}

/* ---- in stream mode: chunks, added to on one side and taken from on the other ---- */

/* A peer chooses how few bytes it sends in a frame: small ones share a chunk. No larger than what
 * brings that in: of chunks of 64 KiB the heap gives pages back again and again. */
#define CHUNK_LEAST 4096u

static size_t least(size_t one, uint64_t other) {
  return one < other ? one : (size_t) other;
}

int valk__chunks_add(valk_bridge_t *bridge, valk_exchange_t *exchange, const uint8_t *bytes,
                     size_t length, uint64_t room) {
  uv_mutex_lock(&bridge->lock);
  if (exchange->last != NULL) {
    size_t part = least(length, exchange->last->capacity - exchange->last->length);
    memcpy(exchange->last->data + exchange->last->length, bytes, part);
    exchange->last->length += part;
    exchange->readable += part;
    bytes += part;
    length -= part;
  }
  if (length == 0) {
    valk__bridge_add_event(bridge, exchange, VALK_EVENT_BODY);
  }
  uv_mutex_unlock(&bridge->lock);
  if (length == 0) {
    return 0;
  }
  /* No larger than what may come: what is held is what was counted for the window, and chunks'
   * headers. */
  size_t capacity = least(CHUNK_LEAST, length + room);
  if (capacity < length) {
    capacity = length;
  }
  valk_chunk_t *chunk = valk__fault(VALK_FAULT_MALLOC) ? NULL : malloc(sizeof(*chunk) + capacity);
  if (chunk == NULL) {
    return VALK_ENOMEM;
  }
  chunk->next = NULL;
  chunk->length = length;
  chunk->capacity = capacity;
  memcpy(chunk->data, bytes, length);
  uv_mutex_lock(&bridge->lock);
  exchange->readable += length;
  *(exchange->last != NULL ? &exchange->last->next : &exchange->first) = chunk;
  exchange->last = chunk;
  valk__bridge_add_event(bridge, exchange, VALK_EVENT_BODY);
  uv_mutex_unlock(&bridge->lock);
  return 0;
}

/* Under bridge->lock: the first chunk is no longer the exchange's. */
static valk_chunk_t *unlink_first(valk_exchange_t *exchange) {
  valk_chunk_t *chunk = exchange->first;
  exchange->first = chunk->next;
  if (exchange->first == NULL) {
    exchange->last = NULL;
  }
  exchange->offset = 0;
  return chunk;
}

void valk__chunks_free(valk_exchange_t *exchange) {
  while (exchange->first != NULL) {
    free(unlink_first(exchange));
  }
  exchange->readable = 0;
}

int64_t valk_bridge_readable(valk_bridge_t *bridge, uint32_t index, uint32_t generation) {
  valk_exchange_t *exchange = valk__bridge_find(bridge, index, generation);
  if (exchange == NULL) {
    return VALK_ESTALE;
  }
  uv_mutex_lock(&bridge->lock);
  int64_t readable = exchange->readable > 0 || !exchange->body_ended ? (int64_t) exchange->readable
                                                                     : VALK_BRIDGE_ENDED;
  if (exchange->cut_off)
    readable = VALK_ESTALE; /* also before JavaScript is told: it must not look whole */
  uv_mutex_unlock(&bridge->lock);
  return readable < VALK_READ_MAX ? readable : VALK_READ_MAX;
}

static void consume(valk_bridge_t *bridge, valk_exchange_t *exchange, size_t length) {
  valk__bridge_post(bridge, exchange, &(valk_ops_t){.bits = VALK_OP_CONSUME, .consumed = length});
  valk_system_wake(bridge->system, exchange->thread);
}

int valk_bridge_read(valk_bridge_t *bridge, uint32_t index, uint32_t generation, uint8_t *bytes,
                     size_t length) {
  valk_exchange_t *exchange = valk__bridge_find(bridge, index, generation);
  if (exchange == NULL) {
    return VALK_ESTALE;
  }
  size_t left = length;
  valk_chunk_t *used = NULL;
  uv_mutex_lock(&bridge->lock);
  /* The engine may have emptied it since it was asked how much there is. */
  bool gone = exchange->readable < length;
  while (!gone && left > 0) {
    valk_chunk_t *chunk = exchange->first;
    size_t part = least(left, chunk->length - exchange->offset);
    memcpy(bytes, chunk->data + exchange->offset, part);
    bytes += part;
    left -= part;
    exchange->offset += part;
    exchange->readable -= part;
    if (exchange->offset == chunk->length) {
      unlink_first(exchange);
      chunk->next = used;
      used = chunk;
    }
  }
  uv_mutex_unlock(&bridge->lock);
  while (used != NULL) {
    valk_chunk_t *next = used->next;
    free(used);
    used = next;
  }
  if (gone) {
    return VALK_ESTALE;
  }
  consume(bridge, exchange, length);
  return 0;
}

/* ---- trailers, and who sent it ---- */

const valk_peer_t *valk_bridge_peer(valk_bridge_t *bridge, uint32_t index, uint32_t generation) {
  valk_exchange_t *exchange = valk__bridge_find(bridge, index, generation);
  return exchange == NULL || valk__exchange_passed(bridge, exchange) ? NULL : exchange->peer;
}

char *valk_bridge_take_trailers(valk_bridge_t *bridge, uint32_t index, uint32_t generation,
                                size_t *length) {
  valk_exchange_t *exchange = valk__bridge_find(bridge, index, generation);
  *length = 0;
  if (exchange == NULL) {
    return NULL;
  }
  uv_mutex_lock(&bridge->lock);
  char *trailers = (char *) exchange->trailers;
  *length = exchange->trailers_length;
  exchange->trailers = NULL;
  exchange->trailers_length = 0;
  uv_mutex_unlock(&bridge->lock);
  return trailers;
}
