/* A gate: a hard bound on how many of something are in use, shared by engine threads, with fair
 * waiting.
 *
 * A consumer is an engine thread, by its index. Inside a thread the waiting objects stand in the
 * thread's own FIFO; the gate knows only that the thread waits. A place that is released goes to
 * the thread that has waited longest (a grant), never to one that comes later, so no thread starves
 * and no wake-up is lost: acquiring and beginning to wait are one step under one lock, and so are
 * releasing and granting.
 *
 * A consumer at a level is in one of three states:
 *
 *   idle --acquire, none free--> waiting --release--> granted --acquire--> idle
 *                                   `----- settle -----'--- settle ------> idle
 *
 * A grant takes the consumer out of the gate's FIFO; if it has more objects that wait, the acquire
 * for the next of them finds a place or puts it at the FIFO's end: threads take turns. A
 * consumer that was notified must therefore call acquire until it returns false, or nobody is left
 * that waits, and then settle. A notification may find nothing (the grant was used or settled in
 * the meantime).
 *
 * Two levels: level 0 may take every place, level 1 only while more than |reserve| are free.
 * Waiters of level 0 go first. Level 1 gets each place that is released while more than |reserve|
 * are free, and level 0 cannot take that one from it; it waits for as long as level 0 needs all
 * that there is, so level 0 must be what frees places (specification, section 4: writing is level
 * 0, reading level 1). The states at the two levels are apart: a grant at one does not serve the
 * other.
 *
 * All functions but init and deinit: any thread. */
#ifndef VALK_CORE_GATE_H
#define VALK_CORE_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#define VALK_GATE_LEVELS 2

typedef struct {
  uint32_t capacity;
  uint32_t in_use;
  uint32_t high_water; /* above |capacity| only by valk_gate_overflow */
  uint32_t waiting;    /* consumers that wait now, at each level */
  uint64_t times_full; /* acquisitions that began to wait */
} valk_gate_stats_t;

/* One for each consumer and level: its state and its links in the FIFO. */
typedef struct valk_gate_consumer valk_gate_consumer_t;

typedef struct {
  uv_mutex_t lock; /* guards all below but what init sets */
  uint32_t capacity;
  uint32_t reserve;
  uint32_t limit;  /* the capacity for now: less while places have nothing behind them */
  uint32_t in_use; /* granted places count as in use */
  uint32_t high_water;
  uint32_t waiting;
  uint64_t times_full;
  uint32_t consumer_count;
  valk_gate_consumer_t *consumers; /* consumer_count * VALK_GATE_LEVELS */
  int32_t head[VALK_GATE_LEVELS];  /* FIFO of waiting consumers, -1 when empty */
  int32_t tail[VALK_GATE_LEVELS];
  /* A place has been granted. Called outside the lock, on the thread that released it. */
  void (*notify)(void *data, uint32_t consumer);
  void *data;
} valk_gate_t;

/* 0 or VALK_ENOMEM. |reserve| < |capacity|; |notify| may be NULL where nobody ever waits. */
int valk_gate_init(valk_gate_t *gate, uint32_t capacity, uint32_t reserve, uint32_t consumers,
                   void (*notify)(void *data, uint32_t consumer), void *data);
/* Asserts that nothing is in use (unused grants are: settle first). No other call may run. */
void valk_gate_deinit(valk_gate_t *gate);

/* Takes a place, using a grant first. False: none is free (or another waits before us), and
 * |consumer| is now registered as waiting at |level|: it will be notified once a place has been
 * granted to it, and then calls again. One that waits already keeps its turn. */
bool valk_gate_acquire(valk_gate_t *gate, uint32_t consumer, unsigned level);
/* As acquire, but never registers. */
bool valk_gate_try(valk_gate_t *gate, uint32_t consumer, unsigned level);
/* |consumer| has nobody left who waits at |level|: withdraws its registration, and passes an unused
 * grant on. Nothing happens when there is neither. */
void valk_gate_settle(valk_gate_t *gate, uint32_t consumer, unsigned level);
/* Gives a place back: to the consumer that waits longest, or to the free ones. */
void valk_gate_release(valk_gate_t *gate);
/* Takes a place though the capacity is used up, as long as fewer than |limit| are in use. False
 * also when a consumer waits: else those who come later would use the overflow up time and again,
 * while the ones who wait get nothing until |in_use| has fallen below the capacity. Given back by
 * valk_gate_release. */
bool valk_gate_overflow(valk_gate_t *gate, uint32_t limit);
void valk_gate_stats(valk_gate_t *gate, valk_gate_stats_t *stats);

/* For pools whose places may lack memory. Gives back a place just taken by |consumer| that nothing
 * could be found for, and lets no more than |limit| be in use until valk__gate_lift (the reserve
 * shrinks in proportion). At least |limit| others are in use. |waits|: the consumer
 * goes to the front of those who wait. */
void valk__gate_refuse(valk_gate_t *gate, uint32_t consumer, unsigned level, bool waits,
                       uint32_t limit);
/* The whole capacity counts again; grants what became free by it. */
void valk__gate_lift(valk_gate_t *gate);

#endif
