#include "gate.h"

#include <assert.h>
#include <stddef.h>

#include "../include/valk.h"
#include "fault.h"
#include "ledger.h"

#define NOBODY (-1)

typedef enum { IDLE, WAITING, GRANTED } state_t;

struct valk_gate_consumer {
  state_t state;
  int32_t next; /* in the FIFO of its level while it waits */
  int32_t previous;
};

/* What holds whenever the lock is free, but for the moments inside valk__gate_lift: nobody waits at
 * a level at which a place could be taken. So one released place makes at most one grant. */

int valk_gate_init(valk_gate_t *gate, uint32_t capacity, uint32_t reserve, uint32_t consumers,
                   void (*notify)(void *data, uint32_t consumer), void *data) {
  assert(reserve < capacity && consumers > 0 && consumers <= INT32_MAX / VALK_GATE_LEVELS);
  *gate = (valk_gate_t){
      .capacity = capacity,
      .reserve = reserve,
      .limit = capacity,
      .consumer_count = consumers,
      .head = {NOBODY, NOBODY},
      .tail = {NOBODY, NOBODY},
      .notify = notify,
      .data = data,
  };
  gate->consumers =
      valk_ledger_calloc(NULL, (size_t) consumers * VALK_GATE_LEVELS, sizeof *gate->consumers);
  if (gate->consumers == NULL) {
    return VALK_ENOMEM;
  }
  if (valk__fault(VALK_FAULT_LOCK) || uv_mutex_init(&gate->lock) != 0) {
    valk_ledger_free(gate->consumers);
    return VALK_ENOMEM;
  }
  return 0;
}

void valk_gate_deinit(valk_gate_t *gate) {
  assert(gate->in_use == 0);
  uv_mutex_destroy(&gate->lock);
  valk_ledger_free(gate->consumers);
  gate->consumers = NULL;
}

static int32_t place_of(const valk_gate_t *gate, uint32_t consumer, unsigned level) {
  assert(consumer < gate->consumer_count && level < VALK_GATE_LEVELS);
  return (int32_t) (consumer * VALK_GATE_LEVELS + level);
}

/* ---- all below, up to the public functions, under the lock ---- */

static bool has_free(const valk_gate_t *gate, unsigned level) {
  uint32_t kept = 0;
  if (level > 0) {
    kept = gate->limit == gate->capacity
               ? gate->reserve
               : (uint32_t) ((uint64_t) gate->reserve * gate->limit / gate->capacity);
  }
  return gate->in_use < gate->limit && gate->limit - gate->in_use > kept;
}

static void take(valk_gate_t *gate) {
  gate->in_use++;
  if (gate->in_use > gate->high_water) {
    gate->high_water = gate->in_use;
  }
}

static void enqueue(valk_gate_t *gate, int32_t place, unsigned level, bool at_front) {
  valk_gate_consumer_t *entry = &gate->consumers[place];
  entry->state = WAITING;
  entry->next = at_front ? gate->head[level] : NOBODY;
  entry->previous = at_front ? NOBODY : gate->tail[level];
  *(entry->next == NOBODY ? &gate->tail[level] : &gate->consumers[entry->next].previous) = place;
  *(entry->previous == NOBODY ? &gate->head[level] : &gate->consumers[entry->previous].next) =
      place;
  gate->waiting++;
}

static void dequeue(valk_gate_t *gate, int32_t place, unsigned level) {
  valk_gate_consumer_t *entry = &gate->consumers[place];
  *(entry->next == NOBODY ? &gate->tail[level] : &gate->consumers[entry->next].previous) =
      entry->previous;
  *(entry->previous == NOBODY ? &gate->head[level] : &gate->consumers[entry->previous].next) =
      entry->next;
  gate->waiting--;
}

/* Grants a free place to whoever is next. Returns that consumer, or NOBODY. */
static int32_t grant(valk_gate_t *gate) {
  unsigned level = gate->head[0] != NOBODY ? 0 : 1;
  int32_t place = gate->head[level];
  if (place == NOBODY || !has_free(gate, level)) {
    return NOBODY;
  }
  dequeue(gate, place, level);
  gate->consumers[place].state = GRANTED;
  take(gate);
  return place / VALK_GATE_LEVELS;
}

static bool take_if_free(valk_gate_t *gate, int32_t place, unsigned level) {
  if (gate->consumers[place].state == GRANTED) {
    gate->consumers[place].state = IDLE;
    return true;
  }
  bool others_first = gate->head[0] != NOBODY || (level > 0 && gate->head[1] != NOBODY);
  if (others_first || !has_free(gate, level)) {
    return false;
  }
  take(gate);
  return true;
}

static void notify(const valk_gate_t *gate, int32_t consumer) {
  if (consumer != NOBODY) {
    gate->notify(gate->data, (uint32_t) consumer);
  }
}

/* ---- */

bool valk_gate_acquire(valk_gate_t *gate, uint32_t consumer, unsigned level) {
  int32_t place = place_of(gate, consumer, level);
  uv_mutex_lock(&gate->lock);
  bool taken = take_if_free(gate, place, level);
  if (!taken && gate->consumers[place].state == IDLE) {
    enqueue(gate, place, level, false);
    gate->times_full++;
  }
  uv_mutex_unlock(&gate->lock);
  return taken;
}

bool valk_gate_try(valk_gate_t *gate, uint32_t consumer, unsigned level) {
  int32_t place = place_of(gate, consumer, level);
  uv_mutex_lock(&gate->lock);
  bool taken = take_if_free(gate, place, level);
  uv_mutex_unlock(&gate->lock);
  return taken;
}

void valk_gate_settle(valk_gate_t *gate, uint32_t consumer, unsigned level) {
  int32_t place = place_of(gate, consumer, level);
  valk_gate_consumer_t *entry = &gate->consumers[place];
  int32_t next = NOBODY;
  uv_mutex_lock(&gate->lock);
  if (entry->state == WAITING) {
    dequeue(gate, place, level);
  } else if (entry->state == GRANTED) {
    gate->in_use--;
    next = grant(gate);
  }
  entry->state = IDLE;
  uv_mutex_unlock(&gate->lock);
  notify(gate, next);
}

void valk_gate_release(valk_gate_t *gate) {
  uv_mutex_lock(&gate->lock);
  assert(gate->in_use > 0);
  gate->in_use--;
  int32_t next = grant(gate);
  uv_mutex_unlock(&gate->lock);
  notify(gate, next);
}

bool valk_gate_overflow(valk_gate_t *gate, uint32_t limit) {
  uv_mutex_lock(&gate->lock);
  bool taken = gate->in_use < limit && gate->waiting == 0;
  if (taken) {
    take(gate);
  }
  uv_mutex_unlock(&gate->lock);
  return taken;
}

void valk_gate_stats(valk_gate_t *gate, valk_gate_stats_t *stats) {
  uv_mutex_lock(&gate->lock);
  *stats = (valk_gate_stats_t){
      .capacity = gate->capacity,
      .in_use = gate->in_use,
      .high_water = gate->high_water,
      .waiting = gate->waiting,
      .times_full = gate->times_full,
  };
  uv_mutex_unlock(&gate->lock);
}

void valk__gate_refuse(valk_gate_t *gate, uint32_t consumer, unsigned level, bool waits,
                       uint32_t limit) {
  int32_t place = place_of(gate, consumer, level);
  uv_mutex_lock(&gate->lock);
  gate->in_use--;
  gate->limit = limit;
  assert(gate->in_use >= limit);
  if (waits && gate->consumers[place].state == IDLE) {
    enqueue(gate, place, level, true);
    gate->times_full++;
  }
  uv_mutex_unlock(&gate->lock);
}

void valk__gate_lift(valk_gate_t *gate) {
  int32_t next;
  uv_mutex_lock(&gate->lock);
  gate->limit = gate->capacity;
  uv_mutex_unlock(&gate->lock);
  /* A refusal in the meantime lowers the limit again, and that ends the grants. */
  do {
    uv_mutex_lock(&gate->lock);
    next = grant(gate);
    uv_mutex_unlock(&gate->lock);
    notify(gate, next);
  } while (next != NOBODY);
}
