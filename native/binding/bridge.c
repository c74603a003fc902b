/* Engine to JavaScript: exchanges, the rings, events; the bridge's life. */
#include "bridge_internal.h"

#include <stdlib.h>
#include <string.h>

#include "../core/fault.h"

/* ---- exchanges: chunks that stay until the bridge is freed, so that any index may be looked at
 * from any thread ---- */

static valk_exchange_t *exchange_at(const valk_bridge_t *bridge, uint32_t index) {
  uint32_t chunk = index / VALK_BRIDGE_CHUNK;
  if (chunk >= bridge->chunk_most) {
    return NULL;
  }
  valk_exchange_t *exchanges = atomic_load_explicit(&bridge->chunks[chunk], memory_order_acquire);
  return exchanges == NULL ? NULL : &exchanges[index % VALK_BRIDGE_CHUNK];
}

static void push_free(valk_inbox_t *inbox, valk_exchange_t *exchange) {
  exchange->next_free = inbox->free;
  inbox->free = exchange;
}

static bool grow(valk_bridge_t *bridge, unsigned thread) {
  valk_exchange_t *exchanges =
      valk__fault(VALK_FAULT_MALLOC) ? NULL : calloc(VALK_BRIDGE_CHUNK, sizeof(*exchanges));
  if (exchanges == NULL) {
    return false;
  }
  uv_mutex_lock(&bridge->table_lock);
  uint32_t chunk = bridge->chunk_count;
  if (chunk < bridge->chunk_most) {
    for (uint32_t i = VALK_BRIDGE_CHUNK; i-- > 0;) {
      exchanges[i].index = chunk * VALK_BRIDGE_CHUNK + i;
      exchanges[i].thread = thread;
      atomic_init(&exchanges[i].generation, 1);
      atomic_init(&exchanges[i].closed, true);
      push_free(&bridge->inboxes[thread], &exchanges[i]);
    }
    atomic_store_explicit(&bridge->chunks[chunk], exchanges, memory_order_release);
    bridge->chunk_count++;
    exchanges = NULL;
  }
  uv_mutex_unlock(&bridge->table_lock);
  bool grown = exchanges == NULL;
  free(exchanges);
  return grown;
}

valk_exchange_t *valk__bridge_find(valk_bridge_t *bridge, uint32_t index, uint32_t generation) {
  valk_exchange_t *exchange = exchange_at(bridge, index);
  if (exchange == NULL ||
      atomic_load_explicit(&exchange->generation, memory_order_acquire) != generation ||
      atomic_load_explicit(&exchange->closed, memory_order_acquire)) {
    return NULL;
  }
  return exchange;
}

static void unlink_event(valk_bridge_t *bridge, valk_exchange_t *exchange) {
  valk_exchange_t *prev = exchange->event_prev;
  valk_exchange_t *next = exchange->event_next;
  *(prev != NULL ? &prev->event_next : &bridge->event_first) = next;
  *(next != NULL ? &next->event_prev : &bridge->event_last) = prev;
  exchange->event_prev = exchange->event_next = NULL;
  exchange->events = 0;
}

/* Nobody refers to it any more. */
static void free_exchange(valk_bridge_t *bridge, valk_exchange_t *exchange) {
  valk_inbox_t *inbox = &bridge->inboxes[exchange->thread];
  uv_mutex_lock(&bridge->lock);
  if (exchange->events != 0) {
    unlink_event(bridge, exchange);
  }
  valk__chunks_free(exchange);
  free(exchange->trailers);
  exchange->trailers = NULL;
  exchange->trailers_length = 0;
  exchange->body = NULL;
  uv_mutex_unlock(&bridge->lock);
  if (exchange->peer != NULL) {
    valk_peer_unref(exchange->peer);
    exchange->peer = NULL;
  }
  atomic_store_explicit(&exchange->closed, true, memory_order_relaxed);
  atomic_fetch_add_explicit(&exchange->generation, 1, memory_order_release);
  atomic_fetch_sub_explicit(&inbox->open, 1, memory_order_relaxed);
  push_free(inbox, exchange);
}

void valk__exchange_end(valk_bridge_t *bridge, valk_exchange_t *exchange) {
  if (exchange->request == NULL && exchange->released && !exchange->running) {
    free_exchange(bridge, exchange);
  }
}

/* Under bridge->lock. The stream has ended early: its connection may be gone, and then what is
 * known of the peer is charged to nobody. JavaScript has a copy once READ has passed the record.
 * Where it has not, JavaScript stands at this very record, and comes here when it takes the event.
 */
static void drop_peer(valk_bridge_t *bridge, valk_exchange_t *exchange) {
  if (exchange->peer == NULL || !valk__exchange_passed(bridge, exchange)) {
    return;
  }
  valk_peer_unref(exchange->peer);
  exchange->peer = NULL;
}

static valk_exchange_t *new_exchange(valk_bridge_t *bridge, valk_request_t *request) {
  valk_inbox_t *inbox = &bridge->inboxes[valk_request_thread(request)];
  if (inbox->free == NULL && !grow(bridge, valk_request_thread(request))) {
    return NULL;
  }
  valk_exchange_t *exchange = inbox->free;
  inbox->free = exchange->next_free;
  exchange->slot = valk_request_slot(request);
  exchange->request = request;
  exchange->released = exchange->running = exchange->answered = false;
  exchange->pinned = exchange->reclaim = exchange->body_ended = exchange->cut_off = false;
  atomic_store_explicit(&exchange->closed, false, memory_order_relaxed);
  exchange->peer = valk_peer_ref(valk_request_peer(request));
  atomic_fetch_add_explicit(&inbox->open, 1, memory_order_relaxed);
  return exchange;
}

/* ---- the rings ---- */

static uint32_t whole_words(uint32_t length) {
  return (length + 3) & ~3u;
}

/* Where |length| bytes of text can lie in one piece; false: not now. Text is freed in the order of
 * its records. */
static bool find_text(const valk_bridge_t *bridge, uint32_t read, uint32_t length,
                      uint32_t *place) {
  uint32_t size = bridge->options.text_size;
  if (read == bridge->write) {
    *place = 0;
    return length <= size;
  }
  uint32_t tail = (uint32_t) valk__record(bridge, read)[VALK_RECORD_TEXT];
  uint32_t head = bridge->text_next;
  /* |head| never comes to stand on |tail| while there is text: that would look like an empty ring.
   */
  if (head > tail) {
    *place = length <= size - head ? head : 0;
    return *place == head || length < tail;
  }
  *place = head;
  return length < tail - head;
}

static bool has_room(const valk_bridge_t *bridge, uint32_t length, uint32_t *place) {
  uint32_t read = (uint32_t) valk__word(bridge, VALK_BRIDGE_READ);
  return bridge->write - read < bridge->options.queue_capacity &&
         find_text(bridge, read, length, place);
}

/* Makes |thread| wait for room. True: there is some after all. */
static bool block(valk_bridge_t *bridge, unsigned thread, uint32_t length, uint32_t *place) {
  bridge->times_full += !bridge->inboxes[thread].waits;
  bridge->inboxes[thread].waits = true;
  /* Not at the first free place, or each one would cost JavaScript a call. */
  uint32_t read = (uint32_t) valk__word(bridge, VALK_BRIDGE_READ);
  valk__set_word(bridge, VALK_BRIDGE_UNBLOCK_AT, (int32_t) (read + (bridge->write - read) / 2));
  valk__set_word(bridge, VALK_BRIDGE_BLOCKED, 1);
  /* JavaScript may have moved on before it could see the flag. */
  return has_room(bridge, length, place);
}

static int32_t flags_of(const valk_exchange_t *exchange, const valk_head_t *head, bool streams) {
  int32_t flags = streams ? VALK_REQUEST_STREAMS : 0;
  if (streams ? !exchange->body_ended : exchange->body_length > 0) {
    flags |= VALK_REQUEST_HAS_BODY;
  }
  if (head->length >= 5 && memcmp(head->text, "HEAD\n", 5) == 0) {
    flags |= VALK_REQUEST_IS_HEAD;
  }
  return exchange->trailers_length > 0 ? flags | VALK_REQUEST_HAS_TRAILERS : flags;
}

/* Writes the exchange's record. False: no room; the thread waits. */
static bool enqueue(valk_bridge_t *bridge, valk_exchange_t *exchange, int32_t flags,
                    const valk_head_t *head) {
  uint32_t place = 0;
  uint32_t length = whole_words(head->length);
  uv_mutex_lock(&bridge->ring_lock);
  bool room = has_room(bridge, length, &place) || block(bridge, exchange->thread, length, &place);
  if (room) {
    uint8_t *text = bridge->options.text + place;
    memcpy(text, head->text, head->length);
    memset(text + head->length, 0, length - head->length);
    bridge->text_next = place + length;
    exchange->position = bridge->write++;
    int32_t *record = valk__record(bridge, exchange->position);
    record[VALK_RECORD_INDEX] = (int32_t) exchange->index;
    record[VALK_RECORD_GENERATION] =
        (int32_t) atomic_load_explicit(&exchange->generation, memory_order_relaxed);
    record[VALK_RECORD_TEXT] = (int32_t) place;
    record[VALK_RECORD_TEXT_LENGTH] = (int32_t) head->length;
    record[VALK_RECORD_FLAGS] = flags;
    intptr_t server = (intptr_t) valk_server_data(valk_request_server(exchange->request));
    record[VALK_RECORD_SERVER] = (int32_t) (server >> 1);
    record[VALK_RECORD_BODY_LENGTH] = (int32_t) exchange->body_length;
    record[VALK_RECORD_SLOT] = (int32_t) exchange->slot;
    record[VALK_RECORD_PEER] = (int32_t) exchange->peer->serial;
    __atomic_store_n(&record[VALK_RECORD_STATE], VALK_RECORD_QUEUED, __ATOMIC_RELEASE);
    uint32_t used = bridge->write - (uint32_t) valk__word(bridge, VALK_BRIDGE_READ);
    if (used > bridge->high_water) {
      bridge->high_water = used;
    }
  }
  uv_mutex_unlock(&bridge->ring_lock);
  return room;
}

void valk_bridge_unblock(valk_bridge_t *bridge) {
  /* Cleared first: a thread that finds the rings full after this sets it again. */
  valk__set_word(bridge, VALK_BRIDGE_BLOCKED, 0);
  for (unsigned i = 0; i < bridge->thread_count; i++) {
    uv_mutex_lock(&bridge->ring_lock);
    bool waits = bridge->inboxes[i].waits;
    bridge->inboxes[i].waits = false;
    uv_mutex_unlock(&bridge->ring_lock);
    if (waits) {
      valk_system_wake(bridge->system, i);
    }
  }
}

/* ---- what the engine calls ---- */

static uint8_t *copy(valk_bytes_t bytes) {
  uint8_t *block = valk__fault(VALK_FAULT_MALLOC) ? NULL : malloc(bytes.length);
  return block == NULL ? NULL : memcpy(block, bytes.data, bytes.length);
}

static int on_request(void *data, valk_request_t *request) {
  valk_bridge_t *bridge = data;
  const valk_head_t *head = valk_request_head(request);
  /* Such a head would wait for ever. */
  if (head->length > bridge->options.text_size / 2) {
    return VALK_ENOMEM;
  }
  valk_exchange_t *exchange = new_exchange(bridge, request);
  if (exchange == NULL) {
    return VALK_ENOMEM;
  }
  int result = 0;
  bool streams = ((intptr_t) valk_server_data(valk_request_server(request)) & 1) != 0;
  valk_bytes_t body = valk_request_body(request);
  /* In stream mode what has come of the body follows in on_body, also when it has ended. */
  bool follows = streams && (body.length > 0 || valk_request_trailers(request).length > 0);
  exchange->body_ended = valk_request_body_ended(request) && !follows;
  if (streams) {
    body = (valk_bytes_t){NULL, 0};
  }
  exchange->body = body.data;
  exchange->body_length = body.length;
  valk_bytes_t trailers = streams ? (valk_bytes_t){NULL, 0} : valk_request_trailers(request);
  if (trailers.length > 0) {
    exchange->trailers = copy(trailers);
    exchange->trailers_length = trailers.length;
    result = exchange->trailers == NULL ? VALK_ENOMEM : 0;
  }
  if (result == 0 && !enqueue(bridge, exchange, flags_of(exchange, head, streams), head)) {
    result = VALK_EAGAIN;
  }
  if (result != 0) {
    exchange->request = NULL;
    exchange->released = true;
    valk__exchange_end(bridge, exchange);
    return result;
  }
  valk_request_set_data(request, exchange);
  bridge->inboxes[exchange->thread].news = true;
  return 0;
}

/* True: JavaScript will never see the exchange. */
static bool withdraw(valk_bridge_t *bridge, valk_exchange_t *exchange) {
  uv_mutex_lock(&bridge->ring_lock);
  /* Under the lock nobody reuses a record, so the state is this exchange's as long as READ has not
   * passed it. That it has is not all that tells: once indices have wrapped another's may lie
   * there.
   */
  int32_t *record = valk__record(bridge, exchange->position);
  uint32_t generation = atomic_load_explicit(&exchange->generation, memory_order_relaxed);
  bool dropped = false;
  if (!valk__exchange_passed(bridge, exchange) &&
      record[VALK_RECORD_INDEX] == (int32_t) exchange->index &&
      record[VALK_RECORD_GENERATION] == (int32_t) generation) {
    int32_t queued = VALK_RECORD_QUEUED;
    dropped = __atomic_compare_exchange_n(&record[VALK_RECORD_STATE], &queued, VALK_RECORD_DROPPED,
                                          false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  }
  uv_mutex_unlock(&bridge->ring_lock);
  return dropped;
}

static bool on_drop(void *data, valk_request_t *request) {
  valk_bridge_t *bridge = data;
  valk_exchange_t *exchange = valk_request_data(request);
  if (exchange->released || !withdraw(bridge, exchange)) {
    return false;
  }
  exchange->request = NULL;
  exchange->released = true;
  valk__exchange_end(bridge, exchange);
  return true;
}

void valk__bridge_add_event(valk_bridge_t *bridge, valk_exchange_t *exchange, uint32_t bits) {
  if (exchange->events == 0) {
    exchange->event_prev = bridge->event_last;
    *(bridge->event_last != NULL ? &bridge->event_last->event_next : &bridge->event_first) =
        exchange;
    bridge->event_last = exchange;
    valk__set_word(bridge, VALK_BRIDGE_EVENTS, 1);
  }
  exchange->events |= bits;
  bridge->inboxes[exchange->thread].news = true;
}

void valk__bridge_event(valk_bridge_t *bridge, valk_exchange_t *exchange, uint32_t bits) {
  if (exchange->released) {
    return;
  }
  uv_mutex_lock(&bridge->lock);
  valk__bridge_add_event(bridge, exchange, bits);
  uv_mutex_unlock(&bridge->lock);
}

static bool on_abort(void *data, valk_request_t *request, valk_abort_t reason) {
  valk_bridge_t *bridge = data;
  valk_exchange_t *exchange = valk_request_data(request);
  uv_mutex_lock(&bridge->lock);
  exchange->body = NULL;
  exchange->reclaim = exchange->pinned;
  bool given_up = !exchange->pinned;
  exchange->cut_off = !exchange->body_ended || exchange->readable > 0;
  valk__chunks_free(exchange);
  drop_peer(bridge, exchange);
  exchange->body_ended = true;
  if (!exchange->released && (exchange->events & VALK_EVENT_ABORT) == 0) {
    valk__bridge_add_event(bridge, exchange, VALK_EVENT_ABORT | (uint32_t) reason << 8);
  }
  uv_mutex_unlock(&bridge->lock);
  return given_up;
}

static int on_body(void *data, valk_request_t *request, const uint8_t *bytes, size_t length) {
  valk_bridge_t *bridge = data;
  valk_exchange_t *exchange = valk_request_data(request);
  if (exchange->released) {
    valk_request_consume(request, length);
    return 0;
  }
  return valk__chunks_add(bridge, exchange, bytes, length, valk_request_body_room(request));
}

static void on_body_end(void *data, valk_request_t *request) {
  valk_bridge_t *bridge = data;
  valk_exchange_t *exchange = valk_request_data(request);
  if (exchange->released) {
    return;
  }
  valk_bytes_t trailers = valk_request_trailers(request);
  /* Trailers that find no memory are lost, as a proxy may lose them (RFC 9110, section 6.5.1). */
  uint8_t *block = trailers.length > 0 ? copy(trailers) : NULL;
  uv_mutex_lock(&bridge->lock);
  exchange->trailers = block;
  exchange->trailers_length = block == NULL ? 0 : trailers.length;
  exchange->body_ended = true;
  valk__bridge_add_event(bridge, exchange,
                         VALK_EVENT_BODY | (block == NULL ? 0 : VALK_EVENT_TRAILERS));
  uv_mutex_unlock(&bridge->lock);
}

static void on_writable(void *data, valk_request_t *request) {
  valk__bridge_event(data, valk_request_data(request), VALK_EVENT_WRITABLE);
}

static void on_end(void *data, valk_request_t *request) {
  valk_bridge_t *bridge = data;
  valk_exchange_t *exchange = valk_request_data(request);
  exchange->request = NULL;
  if (!exchange->released) {
    /* When the consumer is being removed a request may end that JavaScript has not claimed. */
    exchange->released = withdraw(bridge, exchange);
    if (!exchange->released) {
      uv_mutex_lock(&bridge->lock);
      drop_peer(bridge, exchange);
      exchange->body = NULL; /* its memory serves another request */
      valk__bridge_add_event(bridge, exchange, VALK_EVENT_END);
      uv_mutex_unlock(&bridge->lock);
    }
  }
  valk__exchange_end(bridge, exchange);
}

static void on_turn(void *data, unsigned thread) {
  valk_bridge_t *bridge = data;
  if (!bridge->inboxes[thread].news) {
    return;
  }
  bridge->inboxes[thread].news = false;
  uv_mutex_lock(&bridge->ring_lock);
  valk__set_word(bridge, VALK_BRIDGE_WRITE, (int32_t) bridge->write);
  uv_mutex_unlock(&bridge->ring_lock);
  if (__atomic_exchange_n(&bridge->options.control[VALK_BRIDGE_AWAKE], 1, __ATOMIC_SEQ_CST) == 0) {
    bridge->options.wake(bridge->options.data);
  }
}

static uint64_t last_turn_ms(void *data, bool poke) {
  valk_bridge_t *bridge = data;
  if (poke) {
    /* Even if it counts as awake: it may have been told long ago and be stuck elsewhere, and then
     * this does no harm. */
    bridge->options.wake(bridge->options.data);
  }
  return atomic_load_explicit(&bridge->last_turn_ms, memory_order_relaxed);
}

static void queue_stats(void *data, struct valk_pool_stats *stats) {
  valk_bridge_t *bridge = data;
  uv_mutex_lock(&bridge->ring_lock);
  stats->size += bridge->options.queue_capacity;
  stats->in_use += bridge->write - (uint32_t) valk__word(bridge, VALK_BRIDGE_READ);
  stats->high_water += bridge->high_water;
  stats->times_full += bridge->times_full;
  for (unsigned i = 0; i < bridge->thread_count; i++) {
    stats->waiters += bridge->inboxes[i].waits;
  }
  uv_mutex_unlock(&bridge->ring_lock);
}

/* ---- what JavaScript calls ---- */

void valk_bridge_begin(valk_bridge_t *bridge) {
  valk__set_word(bridge, VALK_BRIDGE_AWAKE, 1);
  atomic_store_explicit(&bridge->last_turn_ms, valk__bridge_clock_ms(), memory_order_relaxed);
}

bool valk_bridge_sleep(valk_bridge_t *bridge) {
  atomic_store_explicit(&bridge->last_turn_ms, valk__bridge_clock_ms(), memory_order_relaxed);
  valk__set_word(bridge, VALK_BRIDGE_AWAKE, 0);
  /* What came before AWAKE was 0 woke nobody, so it must be seen here. */
  if (valk__word(bridge, VALK_BRIDGE_WRITE) == valk__word(bridge, VALK_BRIDGE_READ) &&
      valk__word(bridge, VALK_BRIDGE_EVENTS) == 0) {
    return true;
  }
  /* An engine thread that was quicker has called wake: one turn too many, none too few. */
  valk__set_word(bridge, VALK_BRIDGE_AWAKE, 1);
  return false;
}

uint32_t valk_bridge_events(valk_bridge_t *bridge, int32_t *events, uint32_t most) {
  uint32_t count = 0;
  uv_mutex_lock(&bridge->lock);
  while (bridge->event_first != NULL && count < most) {
    valk_exchange_t *exchange = bridge->event_first;
    int32_t *event = events + (size_t) count++ * VALK_EVENT_WORDS;
    event[0] = (int32_t) exchange->index;
    event[1] = (int32_t) atomic_load_explicit(&exchange->generation, memory_order_relaxed);
    event[2] = (int32_t) exchange->events;
    if ((exchange->events & (VALK_EVENT_ABORT | VALK_EVENT_END)) != 0) {
      drop_peer(bridge, exchange);
    }
    unlink_event(bridge, exchange);
  }
  if (bridge->event_first == NULL) {
    valk__set_word(bridge, VALK_BRIDGE_EVENTS, 0);
  }
  uv_mutex_unlock(&bridge->lock);
  return count;
}

uint32_t valk_bridge_open(const valk_bridge_t *bridge) {
  uint32_t open = 0;
  for (unsigned i = 0; i < bridge->thread_count; i++) {
    open += atomic_load_explicit(&bridge->inboxes[i].open, memory_order_relaxed);
  }
  return open;
}

/* ---- life ---- */

void *valk_bridge_server_data(uint32_t id, bool streams) {
  return (void *) ((intptr_t) id << 1 | streams);
}

const valk_consumer_t *valk_bridge_consumer(const valk_bridge_t *bridge) {
  return &bridge->consumer;
}

static unsigned lock_count(const valk_bridge_t *bridge) {
  return 3 + bridge->thread_count;
}

static uv_mutex_t *lock_at(valk_bridge_t *bridge, unsigned i) {
  uv_mutex_t *common[] = {&bridge->table_lock, &bridge->ring_lock, &bridge->lock};
  return i < 3 ? common[i] : &bridge->inboxes[i - 3].lock;
}

static void deinit_locks(valk_bridge_t *bridge, unsigned count) {
  while (count-- > 0) {
    uv_mutex_destroy(lock_at(bridge, count));
  }
}

static void deinit_tables(valk_bridge_t *bridge) {
  free(bridge->chunks);
  free(bridge->inboxes);
  free(bridge);
}

int valk_bridge_new(valk_system_t *system, const valk_bridge_options_t *options,
                    valk_bridge_t **result) {
  const valk_config_t *config = valk_system_config(system);
  valk_bridge_t *bridge = valk__fault(VALK_FAULT_MALLOC) ? NULL : calloc(1, sizeof(*bridge));
  if (bridge == NULL) {
    return VALK_ENOMEM;
  }
  bridge->consumer = (valk_consumer_t){
      .data = bridge,
      .on_request = on_request,
      .on_drop = on_drop,
      .on_abort = on_abort,
      .on_body = on_body,
      .on_body_end = on_body_end,
      .on_writable = on_writable,
      .on_end = on_end,
      .on_turn = on_turn,
      .on_wake = valk__bridge_run,
      .last_turn_ms = last_turn_ms,
      .queue_stats = queue_stats,
  };
  bridge->system = system;
  bridge->options = *options;
  bridge->thread_count = config->io_threads;
  /* Every stream there can be, once more for those whose client has left and whose handler still
   * runs, and a started chunk a thread. The pages of this table are only touched as it fills. */
  uint64_t most = 2 * (uint64_t) config->max_connections * config->max_concurrent_streams +
                  config->queue_capacity;
  bridge->chunk_most = (uint32_t) (most / VALK_BRIDGE_CHUNK) + 1 + config->io_threads;
  if (!valk__fault(VALK_FAULT_MALLOC))
    bridge->inboxes = calloc(bridge->thread_count, sizeof(*bridge->inboxes));
  if (!valk__fault(VALK_FAULT_MALLOC))
    bridge->chunks = calloc(bridge->chunk_most, sizeof(*bridge->chunks));
  if (bridge->inboxes == NULL || bridge->chunks == NULL) {
    deinit_tables(bridge);
    return VALK_ENOMEM;
  }
  atomic_init(&bridge->last_turn_ms, valk__bridge_clock_ms());
  unsigned locks = 0;
  while (locks < lock_count(bridge) && !valk__fault(VALK_FAULT_LOCK) &&
         uv_mutex_init(lock_at(bridge, locks)) == 0) {
    locks++;
  }
  if (locks < lock_count(bridge)) {
    deinit_locks(bridge, locks);
    deinit_tables(bridge);
    return VALK_ENOMEM;
  }
  int status = valk_system_add_consumer(system, &bridge->consumer);
  if (status != 0) {
    valk_bridge_free(bridge);
    return status;
  }
  *result = bridge;
  return 0;
}

void valk_bridge_free(valk_bridge_t *bridge) {
  valk_system_remove_consumer(bridge->system, &bridge->consumer);
  for (uint32_t i = 0; i < bridge->chunk_count; i++) {
    valk_exchange_t *exchanges = atomic_load(&bridge->chunks[i]);
    for (uint32_t j = 0; j < VALK_BRIDGE_CHUNK; j++) {
      /* What JavaScript holds still, or sent too late. */
      valk__ops_deinit(bridge, &exchanges[j].ops);
      valk__chunks_free(&exchanges[j]);
      free(exchanges[j].trailers);
      if (exchanges[j].peer != NULL) {
        valk_peer_unref(exchanges[j].peer);
      }
    }
    free(exchanges);
  }
  valk__bridge_drop_lent(bridge);
  deinit_locks(bridge, lock_count(bridge));
  deinit_tables(bridge);
}
