/* JavaScript to engine: answers out of JavaScript's buffer, through the inbox of an engine thread,
 * into the core. */
#include "bridge_internal.h"

#include <stdlib.h>
#include <string.h>

/* Operations carried out under one taking of the inbox's lock. */
#define RUN_BATCH 32
/* Records taken into inboxes under one taking of a lock. */
#define FLUSH_BATCH 64

static void free_list(valk_system_t *system, valk_buffer_t *buffer) {
  while (buffer != NULL) {
    valk_buffer_t *next = buffer->next;
    valk_buffer_free(system, buffer);
    buffer = next;
  }
}

void valk__ops_deinit(valk_bridge_t *bridge, valk_ops_t *ops) {
  free_list(bridge->system, ops->answer);
  free_list(bridge->system, ops->write_first);
  free_list(bridge->system, ops->trailers);
  memset(ops, 0, sizeof(*ops));
}

/* ---- the engine's side ---- */

/* What was sent after the head or instead of it could not be used: JavaScript must not wait for
 * room to write any more. */
static void tell_lost(valk_bridge_t *bridge, valk_exchange_t *exchange, const valk_ops_t *ops) {
  if ((ops->bits & VALK_OP_RELEASE) == 0) {
    valk__bridge_event(bridge, exchange, VALK_EVENT_ABORT | VALK_ABORT_CLOSED << 8);
  }
}

static void run_write(valk_bridge_t *bridge, valk_exchange_t *exchange, valk_ops_t *ops) {
  while (ops->write_first != NULL) {
    valk_buffer_t *buffer = ops->write_first;
    ops->write_first = buffer->next;
    buffer->next = NULL;
    if (exchange->request == NULL) {
      valk_buffer_free(bridge->system, buffer);
    } else if (valk_request_write(exchange->request, buffer) != 0) {
      tell_lost(bridge, exchange, ops);
    }
  }
}

/* Any of these calls may end the request (on_end), so each looks anew whether there is one. */
static void run(valk_bridge_t *bridge, valk_exchange_t *exchange, valk_ops_t *ops) {
  uint32_t bits = ops->bits;
  exchange->running = true;
  if ((bits & VALK_OP_RELEASE) != 0) {
    exchange->released = true;
  }
  if ((bits & VALK_OP_RECLAIM) != 0 && exchange->request != NULL) {
    valk_request_reclaim(exchange->request);
  }
  if ((bits & VALK_OP_CONSUME) != 0 && exchange->request != NULL) {
    valk_request_consume(exchange->request, ops->consumed);
  }
  if ((bits & VALK_OP_IGNORE_BODY) != 0 && exchange->request != NULL) {
    valk_request_ignore_body(exchange->request);
  }
  if ((bits & VALK_OP_RESPOND) != 0 && exchange->request != NULL) {
    valk_buffer_t *answer = ops->answer;
    ops->answer = NULL;
    if (valk_request_respond(exchange->request, ops->status, answer, ops->head_length,
                             ops->content_length, ops->flags) != 0) {
      tell_lost(bridge, exchange, ops);
    }
  }
  if ((bits & VALK_OP_WRITE) != 0) {
    run_write(bridge, exchange, ops);
  }
  if ((bits & VALK_OP_WANT_WRITABLE) != 0 && exchange->request != NULL) {
    valk_request_want_writable(exchange->request);
  }
  if ((bits & VALK_OP_FINISH) != 0 && exchange->request != NULL) {
    valk_buffer_t *trailers = ops->trailers;
    ops->trailers = NULL;
    valk_request_finish(exchange->request, trailers);
  }
  if ((bits & VALK_OP_RESET) != 0 && exchange->request != NULL) {
    valk_request_reset(exchange->request, ops->code);
  }
  if ((bits & VALK_OP_SETTLE) != 0 && exchange->request != NULL) {
    valk_request_settle(exchange->request);
  }
  valk__ops_deinit(bridge, ops);
  exchange->running = false;
  valk__exchange_end(bridge, exchange);
}

void valk__bridge_run(void *data, unsigned thread) {
  valk_bridge_t *bridge = data;
  valk_inbox_t *inbox = &bridge->inboxes[thread];
  valk_exchange_t *exchanges[RUN_BATCH];
  valk_ops_t ops[RUN_BATCH];
  unsigned count;
  do {
    count = 0;
    uv_mutex_lock(&inbox->lock);
    while (inbox->first != NULL && count < RUN_BATCH) {
      valk_exchange_t *exchange = inbox->first;
      inbox->first = exchange->next_inbox;
      exchange->next_inbox = NULL;
      exchanges[count] = exchange;
      ops[count++] = exchange->ops;
      memset(&exchange->ops, 0, sizeof(exchange->ops));
    }
    if (inbox->first == NULL) {
      inbox->last = NULL;
    }
    uv_mutex_unlock(&inbox->lock);
    for (unsigned i = 0; i < count; i++) {
      run(bridge, exchanges[i], &ops[i]);
    }
  } while (count == RUN_BATCH);
}

/* ---- JavaScript's side ---- */

/* Under the inbox's lock. */
static void merge(valk_inbox_t *inbox, valk_exchange_t *exchange, const valk_ops_t *from) {
  valk_ops_t *to = &exchange->ops;
  if (to->bits == 0) {
    *(inbox->last != NULL ? &inbox->last->next_inbox : &inbox->first) = exchange;
    inbox->last = exchange;
  }
  to->bits |= from->bits;
  to->consumed += from->consumed;
  if ((from->bits & VALK_OP_RESPOND) != 0) {
    to->answer = from->answer;
    to->head_length = from->head_length;
    to->content_length = from->content_length;
    to->status = from->status;
    to->flags = from->flags;
  }
  if ((from->bits & VALK_OP_WRITE) != 0) {
    *(to->write_last != NULL ? &to->write_last->next : &to->write_first) = from->write_first;
    to->write_last = from->write_last;
  }
  if ((from->bits & VALK_OP_FINISH) != 0) {
    to->trailers = from->trailers;
  }
  if ((from->bits & VALK_OP_RESET) != 0) {
    to->code = from->code;
  }
}

void valk__bridge_post(valk_bridge_t *bridge, valk_exchange_t *exchange, const valk_ops_t *ops) {
  valk_inbox_t *inbox = &bridge->inboxes[exchange->thread];
  uv_mutex_lock(&inbox->lock);
  merge(inbox, exchange, ops);
  uv_mutex_unlock(&inbox->lock);
}

typedef struct {
  valk_exchange_t *exchange;
  valk_ops_t ops;
} staged_t;

static void commit(valk_bridge_t *bridge, staged_t *staged, unsigned count) {
  valk_inbox_t *locked = NULL;
  for (unsigned i = 0; i < count; i++) {
    valk_inbox_t *inbox = &bridge->inboxes[staged[i].exchange->thread];
    if (inbox != locked) {
      if (locked != NULL) {
        uv_mutex_unlock(&locked->lock);
      }
      uv_mutex_lock(&inbox->lock);
      locked = inbox;
      inbox->touched = true;
    }
    merge(inbox, staged[i].exchange, &staged[i].ops);
  }
  if (locked != NULL) {
    uv_mutex_unlock(&locked->lock);
  }
}

/* Whether the handler set a date of its own, which the engine then leaves alone. Fields are pairs
 * of lines. */
static bool has_date(const uint8_t *fields, size_t length) {
  const uint8_t *end = fields + length;
  while (fields < end) {
    if (end - fields >= 5 && memcmp(fields, "date\n", 5) == 0) {
      return true;
    }
    for (int line = 0; line < 2 && fields != NULL; line++) {
      const uint8_t *newline = memchr(fields, '\n', (size_t) (end - fields));
      fields = newline == NULL ? end : newline + 1;
    }
  }
  return false;
}

static valk_buffer_t *make_buffer(const valk_exchange_t *exchange, const uint8_t *bytes,
                                  uint32_t length) {
  valk_buffer_t *buffer = valk_buffer_new(length);
  if (buffer != NULL) {
    buffer->slot = exchange->slot;
    if (length > 0) {
      memcpy(buffer->data, bytes, length);
    }
  }
  return buffer;
}

int valk_bridge_lend(valk_bridge_t *bridge, const uint8_t *bytes, uint32_t length,
                     void (*release)(void *owner), void *owner) {
  valk_buffer_t *buffer = valk_buffer_lend(bytes, length, release, owner);
  if (buffer == NULL) {
    return VALK_ENOMEM;
  }
  *(bridge->lent_last != NULL ? &bridge->lent_last->next : &bridge->lent_first) = buffer;
  bridge->lent_last = buffer;
  return 0;
}

static valk_buffer_t *take_lent(valk_bridge_t *bridge) {
  valk_buffer_t *buffer = bridge->lent_first;
  if (buffer == NULL) {
    return NULL;
  }
  bridge->lent_first = buffer->next;
  if (bridge->lent_first == NULL) {
    bridge->lent_last = NULL;
  }
  buffer->next = NULL;
  return buffer;
}

void valk__bridge_drop_lent(valk_bridge_t *bridge) {
  free_list(bridge->system, bridge->lent_first);
  bridge->lent_first = bridge->lent_last = NULL;
}

static bool is_terminal(uint32_t kind) {
  switch (kind & 0xff) {
  case VALK_OUT_RESPOND:
    return (kind >> 8 & VALK_ANSWER_END) != 0;
  case VALK_OUT_FINISH:
  case VALK_OUT_RESET:
  case VALK_OUT_SETTLE:
    return true;
  default:
    return false;
  }
}

/* Turns a record into operations, with what was |lent| for it or NULL. False: its buffer could not
 * be made; |lent| is the caller's still. */
static bool parse(valk_exchange_t *exchange, const int32_t *record, valk_buffer_t *lent,
                  valk_ops_t *ops) {
  const uint8_t *bytes = (const uint8_t *) (record + VALK_OUT_WORDS);
  uint32_t kind = (uint32_t) record[VALK_OUT_KIND] & 0xff;
  uint32_t head_length = (uint32_t) record[VALK_OUT_HEAD_LENGTH];
  uint32_t body_length = (uint32_t) record[VALK_OUT_BODY_LENGTH];
  valk_buffer_t *buffer = NULL;
  if (kind == VALK_OUT_RESPOND || kind == VALK_OUT_WRITE ||
      (kind == VALK_OUT_FINISH && head_length > 0)) {
    buffer = make_buffer(exchange, bytes, head_length + body_length);
    if (buffer == NULL) {
      return false;
    }
  }
  switch (kind) {
  case VALK_OUT_RESPOND:
    ops->bits = VALK_OP_RESPOND;
    ops->answer = buffer;
    if (lent != NULL) {
      lent->slot = exchange->slot;
      buffer->next = lent;
    }
    ops->head_length = head_length;
    ops->status = (uint16_t) ((uint32_t) record[VALK_OUT_KIND] >> 16);
    ops->flags = (uint16_t) ((uint32_t) record[VALK_OUT_KIND] >> 8 & 0xff & ~VALK_OUT_LENT);
    ops->content_length = (int64_t) ((uint64_t) (uint32_t) record[VALK_OUT_LENGTH_HIGH] << 32 |
                                     (uint32_t) record[VALK_OUT_LENGTH_LOW]);
    exchange->answered = true;
    if (has_date(bytes, head_length)) {
      ops->flags |= VALK_ANSWER_NO_DATE;
    }
    break;
  case VALK_OUT_WRITE:
    ops->bits = VALK_OP_WRITE;
    ops->write_first = ops->write_last = buffer;
    break;
  case VALK_OUT_FINISH:
    ops->bits = VALK_OP_FINISH;
    ops->trailers = buffer;
    break;
  case VALK_OUT_RESET:
    ops->bits = VALK_OP_RESET;
    ops->code = head_length;
    break;
  case VALK_OUT_SETTLE:
    ops->bits = VALK_OP_SETTLE;
    break;
  default:
    ops->bits = VALK_OP_IGNORE_BODY;
    break;
  }
  return true;
}

/* Bytes of |record|, which has |left|; 0: it is malformed. */
static uint32_t record_size(const int32_t *record, uint32_t left) {
  const uint32_t words = VALK_OUT_WORDS * sizeof(int32_t);
  if (left < words) {
    return 0;
  }
  uint32_t kind = (uint32_t) record[VALK_OUT_KIND] & 0xff;
  uint32_t head_length = kind == VALK_OUT_RESET ? 0 : (uint32_t) record[VALK_OUT_HEAD_LENGTH];
  uint32_t body_length = (uint32_t) record[VALK_OUT_BODY_LENGTH];
  left -= words;
  if (kind < VALK_OUT_RESPOND || kind > VALK_OUT_IGNORE_BODY || head_length > left ||
      body_length > left - head_length) {
    return 0;
  }
  uint32_t size = words + ((head_length + body_length + 3) & ~3u);
  return size - words <= left ? size : 0;
}

static void wake_touched(valk_bridge_t *bridge) {
  for (unsigned i = 0; i < bridge->thread_count; i++) {
    if (bridge->inboxes[i].touched) {
      bridge->inboxes[i].touched = false;
      valk_system_wake(bridge->system, i);
    }
  }
}

int valk_bridge_flush(valk_bridge_t *bridge) {
  int32_t *words = (int32_t *) (void *) bridge->options.out;
  uint32_t used = (uint32_t) words[VALK_OUT_USED];
  uint32_t at = VALK_OUT_START;
  staged_t staged[FLUSH_BATCH];
  unsigned count = 0;
  int result = used <= bridge->options.out_size ? 0 : VALK_EINVAL;
  words[VALK_OUT_USED] = VALK_OUT_START;
  while (result == 0 && at < used) {
    const int32_t *record = (const int32_t *) (const void *) (bridge->options.out + at);
    uint32_t size = record_size(record, used - at);
    if (size == 0) {
      result = VALK_EINVAL;
      break;
    }
    at += size;
    uint32_t kind = (uint32_t) record[VALK_OUT_KIND];
    bool lends = (kind & 0xff) == VALK_OUT_RESPOND && (kind >> 8 & VALK_OUT_LENT) != 0;
    valk_buffer_t *lent = lends ? take_lent(bridge) : NULL;
    valk_exchange_t *exchange = valk__bridge_find(bridge, (uint32_t) record[VALK_OUT_INDEX],
                                                  (uint32_t) record[VALK_OUT_GENERATION]);
    if (exchange == NULL) {
      free_list(bridge->system, lent);
      continue;
    }
    /* A request has one answer: the operations waiting for the engine have room for no other. */
    if (((kind & 0xff) == VALK_OUT_RESPOND && exchange->answered) || (lends && lent == NULL)) {
      free_list(bridge->system, lent);
      result = VALK_EINVAL;
      break;
    }
    staged_t *next = &staged[count++];
    *next = (staged_t){.exchange = exchange};
    bool made = parse(exchange, record, lent, &next->ops);
    if (!made) {
      free_list(bridge->system, lent);
      /* No memory for it: the stream cannot go on. JavaScript learns of that by VALK_EVENT_END. */
      next->ops = (valk_ops_t){.bits = VALK_OP_RESET, .code = VALK_INTERNAL_ERROR};
      exchange->answered = true; /* the request's memory is the engine's again */
    }
    if (is_terminal(kind)) {
      next->ops.bits |= VALK_OP_RELEASE;
      atomic_store_explicit(&exchange->closed, true, memory_order_relaxed);
    }
    if (count == FLUSH_BATCH) {
      commit(bridge, staged, count);
      count = 0;
    }
  }
  commit(bridge, staged, count);
  wake_touched(bridge);
  if (result != 0) {
    valk__bridge_drop_lent(bridge); /* their records are lost */
  }
  return result;
}

int64_t valk_bridge_write(valk_bridge_t *bridge, uint32_t index, uint32_t generation,
                          const uint8_t *bytes, size_t length) {
  valk_exchange_t *exchange = valk__bridge_find(bridge, index, generation);
  if (exchange == NULL || !exchange->answered) {
    return VALK_ESTALE;
  }
  uint32_t most = length < VALK_WRITE_MAX ? (uint32_t) length : VALK_WRITE_MAX;
  uint32_t cost = most + VALK_BUFFER_COST;
  uint32_t least = cost < VALK_WRITE_LEAST ? cost : VALK_WRITE_LEAST;
  uint32_t charged = most == 0 ? 0 : valk_budget_take(bridge->system, exchange->slot, least, cost);
  uint32_t granted = charged > 0 ? charged - VALK_BUFFER_COST : 0;
  valk_ops_t ops = {.bits = VALK_OP_WANT_WRITABLE};
  if (granted > 0) {
    valk_buffer_t *buffer = make_buffer(exchange, bytes, granted);
    if (buffer == NULL) {
      valk_budget_give(bridge->system, exchange->slot, charged);
      return VALK_ENOMEM;
    }
    buffer->charged = charged;
    ops = (valk_ops_t){.bits = VALK_OP_WRITE, .write_first = buffer, .write_last = buffer};
  }
  valk__bridge_post(bridge, exchange, &ops);
  valk_system_wake(bridge->system, exchange->thread);
  return granted;
}
