/* Threads that contend for one slab, at both levels, and one pool of arenas, as engine threads do:
 * each has a FIFO of its own for those who wait, sleeps until it is notified, and lets some of them
 * give up. What must hold: no bound is passed, everyone who waits is served or gives up, a thread
 * that sleeps is woken, and nothing is in use at the end.
 *
 * STRESS_THREADS (default 4), STRESS_TURNS a thread (60000) and STRESS_SEED (1) change a run.
 *
 * A thread that sleeps while places are free is a lost wake-up: the program says so and fails. */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../core/annotate.h"
#include "../core/arena.h"
#include "../core/fault.h"
#include "../core/slab.h"
#include "test.h"

/* Few places for many objects, so that nearly everyone waits. */
enum {
  THREADS_MAX = 64,
  ITEMS = 24,
  RESERVE = 6,
  ITEM_SIZE = 200000, /* ten to a chunk: three chunks */
  ARENAS = 10,
  OVERFLOW = 3,
  ARENA_SIZE = 1 << 20,
  OBJECTS = 24, /* of each kind, of each thread */
  SLEEP_LIMIT_S = 60
};

#define CHECK(condition) ASSERT_MSG(condition, "expected %s (seed %" PRIu32 ")", #condition, seed)

typedef enum { WRITING, READING, REQUEST, KINDS } kind_t;

typedef enum { IDLE, WAITING, HOLDING } state_t;

typedef struct object {
  struct object *next; /* in its thread's FIFO of its kind */
  state_t state;
  uint64_t deadline; /* the turn at which a holder gives back, or a waiter gives up; 0: never */
  void *place;
} object_t;

typedef struct {
  uint32_t index;
  uint32_t random;
  uint64_t turns;
  uint64_t turn;
  object_t objects[KINDS][OBJECTS];
  object_t *first[KINDS];
  object_t **last[KINDS];
  uint64_t begun[KINDS], served[KINDS], given_up[KINDS];
  uv_thread_t id;
  uv_mutex_t lock;
  uv_cond_t wake;
  bool notified;
} worker_t;

static uint32_t seed, worker_count;
static worker_t workers[THREADS_MAX];
static valk_slab_t slab;
static valk_arena_pool_t pool;
/* Counted beside the gates, to see that these count right. */
static atomic_uint items_held, readers_held, arenas_held;

static uint32_t draw(worker_t *worker, uint32_t below) {
  worker->random = worker->random * 1664525 + 1013904223;
  return (worker->random >> 8) % below;
}

static void on_grant(void *data, uint32_t consumer) {
  (void) data;
  worker_t *worker = &workers[consumer];
  uv_mutex_lock(&worker->lock);
  worker->notified = true;
  uv_cond_signal(&worker->wake);
  uv_mutex_unlock(&worker->lock);
}

/* ---- a thread's objects ---- */

static void *get(worker_t *worker, kind_t kind) {
  if (kind == REQUEST) {
    valk_arena_t *arena = valk_arena_pool_get(&pool, worker->index);
    if (arena == NULL) {
      return NULL;
    }
    CHECK(atomic_fetch_add(&arenas_held, 1) < ARENAS + OVERFLOW);
    CHECK(arena->used == 0);
    size_t size = draw(worker, 16) == 0 ? 100000 : 100;
    uint8_t *block = valk_arena_alloc(arena, size);
    if (block != NULL) {
      block[0] = block[size - 1] = (uint8_t) worker->index;
    }
    return arena;
  }
  uint8_t *item = valk_slab_get(&slab, worker->index, kind == READING ? 1 : 0);
  if (item == NULL) {
    return NULL;
  }
  CHECK(atomic_fetch_add(&items_held, 1) < ITEMS);
  if (kind == READING) {
    /* Level 1 counts what level 0 holds too, so its own share is bounded the more. */
    CHECK(atomic_fetch_add(&readers_held, 1) < ITEMS - RESERVE);
  }
  item[0] = item[ITEM_SIZE - 1] = (uint8_t) worker->index;
  return item;
}

static void put(worker_t *worker, kind_t kind, void *place) {
  if (kind == REQUEST) {
    atomic_fetch_sub(&arenas_held, 1);
    valk_arena_pool_put(&pool, place);
    return;
  }
  uint8_t *item = place;
  CHECK(item[0] == (uint8_t) worker->index && item[ITEM_SIZE - 1] == (uint8_t) worker->index);
  if (kind == READING) {
    atomic_fetch_sub(&readers_held, 1);
  }
  atomic_fetch_sub(&items_held, 1);
  valk_slab_put(&slab, item);
}

static void settle(worker_t *worker, kind_t kind) {
  if (kind == REQUEST) {
    valk_arena_pool_settle(&pool, worker->index);
  } else {
    valk_slab_settle(&slab, worker->index, kind == READING ? 1 : 0);
  }
}

static void hold(worker_t *worker, kind_t kind, object_t *object, void *place) {
  object->state = HOLDING;
  object->place = place;
  object->deadline = worker->turn + 1 + draw(worker, 4);
  worker->served[kind]++;
}

/* Serves those who wait, in their order; settles when nobody is left. */
static void serve(worker_t *worker, kind_t kind) {
  object_t *object;
  while ((object = worker->first[kind]) != NULL) {
    void *place = get(worker, kind);
    if (place == NULL) {
      return;
    }
    worker->first[kind] = object->next;
    if (worker->first[kind] == NULL) {
      worker->last[kind] = &worker->first[kind];
    }
    hold(worker, kind, object, place);
  }
  settle(worker, kind);
}

static void begin(worker_t *worker, kind_t kind, object_t *object) {
  worker->begun[kind]++;
  /* Behind those of its own thread who wait. */
  void *place = worker->first[kind] == NULL ? get(worker, kind) : NULL;
  if (place != NULL) {
    hold(worker, kind, object, place);
    return;
  }
  object->state = WAITING;
  object->next = NULL;
  object->deadline = draw(worker, 4) == 0 ? worker->turn + 1 + draw(worker, 8) : 0;
  *worker->last[kind] = object;
  worker->last[kind] = &object->next;
}

static void give_up(worker_t *worker, kind_t kind) {
  bool any = false;
  object_t **link = &worker->first[kind];
  while (*link != NULL) {
    object_t *object = *link;
    if (object->deadline != 0 && object->deadline <= worker->turn) {
      *link = object->next;
      object->state = IDLE;
      worker->given_up[kind]++;
      any = true;
    } else {
      link = &object->next;
    }
  }
  worker->last[kind] = link;
  if (any && worker->first[kind] == NULL) {
    settle(worker, kind);
  }
}

/* ---- a thread ---- */

static bool finish_holders(worker_t *worker) {
  bool any_left = false;
  for (kind_t kind = 0; kind < KINDS; kind++) {
    for (unsigned i = 0; i < OBJECTS; i++) {
      object_t *object = &worker->objects[kind][i];
      if (object->state == HOLDING && object->deadline <= worker->turn) {
        object->state = IDLE;
        put(worker, kind, object->place);
      }
      any_left |= object->state == HOLDING;
    }
  }
  return any_left;
}

static bool any_waits(const worker_t *worker) {
  return worker->first[WRITING] || worker->first[READING] || worker->first[REQUEST];
}

static void take_notification(worker_t *worker, bool sleeps) {
  uv_mutex_lock(&worker->lock);
  while (sleeps && !worker->notified) {
    if (uv_cond_timedwait(&worker->wake, &worker->lock, (uint64_t) SLEEP_LIMIT_S * 1000000000) !=
            0 &&
        !worker->notified) {
      FAIL("thread %" PRIu32 " was not woken for %d s (seed %" PRIu32 ")", worker->index,
           SLEEP_LIMIT_S, seed);
    }
  }
  bool notified = worker->notified;
  worker->notified = false;
  uv_mutex_unlock(&worker->lock);
  if (notified) {
    for (kind_t kind = 0; kind < KINDS; kind++) {
      if (worker->first[kind] != NULL) {
        serve(worker, kind);
      }
    }
  }
}

static void run(void *data) {
  worker_t *worker = data;
  bool ends = false;
  for (;;) {
    worker->turn++;
    ends |= worker->turn > worker->turns;
    bool any_holds = finish_holders(worker);
    if (ends && !any_holds && !any_waits(worker)) {
      break;
    }
    for (unsigned i = 0; i < 12 && !ends; i++) {
      kind_t kind = draw(worker, KINDS);
      object_t *object = &worker->objects[kind][draw(worker, OBJECTS)];
      if (object->state == IDLE) {
        begin(worker, kind, object);
      }
    }
    for (kind_t kind = 0; kind < KINDS; kind++) {
      give_up(worker, kind);
    }
    if (worker->turn % 64 == worker->index) {
      valk_slab_trim(&slab);
      valk_arena_pool_trim(&pool);
    }
    /* Who holds nothing and can begin nothing sleeps: others must wake it. */
    take_notification(worker, ends && !any_holds && any_waits(worker));
  }
}

/* ---- */

static void check_gate(valk_gate_t *gate, uint32_t bound, bool is_reached) {
  valk_gate_stats_t stats;
  valk_gate_stats(gate, &stats);
  CHECK(stats.in_use == 0);
  CHECK(stats.waiting == 0);
  CHECK(stats.high_water <= bound);
  CHECK(stats.high_water == bound || !is_reached);
  CHECK(stats.times_full > 0);
  printf("  high water %" PRIu32 " of %" PRIu32 ", full %" PRIu64 " times\n", stats.high_water,
         bound, stats.times_full);
}

static uint32_t setting(const char *name, uint32_t otherwise) {
  const char *text = getenv(name);
  unsigned long value = text != NULL ? strtoul(text, NULL, 10) : 0;
  return value > 0 ? (uint32_t) value : otherwise;
}

/* |part|: of the turns that a run has. */
static void stress(uint32_t part, uint32_t overflow, bool lacks_memory) {
  seed = setting("STRESS_SEED", 1);
  worker_count = setting("STRESS_THREADS", 4);
  CHECK(worker_count <= THREADS_MAX);
  uint64_t turns = setting("STRESS_TURNS", valk__on_valgrind() ? 1000 : 60000) / part;
  CHECK(valk_slab_init(&slab, ITEM_SIZE, ITEMS, RESERVE, worker_count, on_grant, NULL) == 0);
  CHECK(valk_arena_pool_init(&pool, ARENAS, overflow, ARENA_SIZE, worker_count, on_grant, NULL) ==
        0);
  memset(workers, 0, sizeof workers);
  for (uint32_t i = 0; i < worker_count; i++) {
    worker_t *worker = &workers[i];
    worker->index = i;
    worker->random = seed * 7919 + i;
    worker->turns = turns;
    for (kind_t kind = 0; kind < KINDS; kind++) {
      worker->last[kind] = &worker->first[kind];
    }
    CHECK(uv_mutex_init(&worker->lock) == 0 && uv_cond_init(&worker->wake) == 0);
  }
  for (uint32_t i = 0; i < worker_count; i++) {
    CHECK(uv_thread_create(&workers[i].id, run, &workers[i]) == 0);
  }
  uint64_t begun = 0, served = 0, given_up = 0;
  for (uint32_t i = 0; i < worker_count; i++) {
    CHECK(uv_thread_join(&workers[i].id) == 0);
  }
  for (uint32_t i = 0; i < worker_count; i++) {
    worker_t *worker = &workers[i];
    for (kind_t kind = 0; kind < KINDS; kind++) {
      CHECK(worker->begun[kind] == worker->served[kind] + worker->given_up[kind]);
      CHECK(worker->served[kind] > 0);
      begun += worker->begun[kind];
      served += worker->served[kind];
      given_up += worker->given_up[kind];
    }
    uv_mutex_destroy(&worker->lock);
    uv_cond_destroy(&worker->wake);
  }
  CHECK(atomic_load(&items_held) == 0 && atomic_load(&arenas_held) == 0);
  printf("%" PRIu32 " threads, %" PRIu32 " overflow arenas: %" PRIu64 " begun, %" PRIu64
         " served, %" PRIu64 " gave up\n",
         worker_count, overflow, begun, served, given_up);
  check_gate(&slab.gate, ITEMS, worker_count > 1 && !lacks_memory);
  check_gate(&pool.gate, ARENAS + overflow, worker_count > 1);
  valk_slab_deinit(&slab);
  valk_arena_pool_deinit(&pool);
}

TEST(no_bound_is_passed) {
  stress(1, 0, false);
}

TEST(the_pool_of_arenas_overflows) {
  stress(1, OVERFLOW, false);
}

#if defined(VALK_FAULTS) && VALK_FAULTS
TEST(without_memory_who_waits_is_served_by_what_comes_back) {
  /* Two reservations, the arenas and the slab's first chunk are all that there is memory for. */
  valk__fault_arm(VALK_FAULT_COMMIT, 2 + ARENAS + 1 + 1, true, 0);
  stress(2, 0, true);
}
#endif
