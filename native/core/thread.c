/* An engine thread: its turns, its sleep, its deadlines. */
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "block.h"
#include "fault.h"
#include "internal.h"

/* Housekeeping: trimming pools, heap figures. Idle arenas are trimmed within 10 s (specification,
 * section 6). */
#define HOUSEKEEPING_MS 4000u
#define HEARTBEAT_MS 250

/* What lib/plan.ts counts for a thread, and the stack that it touches of it. */
#define MEMORY_PLANNED (1u << 20)
#define MEMORY_STACK (128u << 10)
_Static_assert(sizeof(valk_thread_t) + VALK_BLOCKS_WARM * VALK_BLOCK_SIZE + VALK_SPARES_BYTES +
                       MEMORY_STACK <=
                   MEMORY_PLANNED,
               "a thread keeps no more than is planned for it");

/* Connections that are read, or requests that they bring, before what came of it is handed over and
 * written. A connection, a request and its answer touch some kilobytes each, which a core's own
 * cache should know still when the answer is written, beside what a consumer on the same core
 * touches. Fewer would cost more: a consumer that sleeps is woken once for as many. Connections
 * alone are bounded too: with a handshake or an upload in each, what is ready would wait for long.
 */
#define VISITS_A_PASS 32u
#define REQUESTS_A_PASS 80u

/* For how long after a refusal the thread is patient, and how long what can wait waits at most. */
#define PATIENT_MS 100u
#define PATIENCE_MS 5

static uint64_t duration_of(const valk_config_t *config, int kind) {
  switch (kind) {
  case VALK_DEADLINE_HANDSHAKE:
    return config->handshake_timeout_ms;
  case VALK_DEADLINE_IDLE:
    return config->idle_timeout_ms;
  case VALK_DEADLINE_HEADERS:
    return config->headers_timeout_ms;
  case VALK_DEADLINE_WRITE:
    return config->write_timeout_ms;
  case VALK_DEADLINE_STALL:
    return config->write_timeout_ms;
  case VALK_DEADLINE_QUEUE:
    return config->queue_timeout_ms;
  case VALK_DEADLINE_HANDLER:
    return config->handler_timeout_ms;
  case VALK_DEADLINE_BODY:
    return config->body_timeout_ms;
  case VALK_DEADLINE_RATE:
    return 10000;
  case VALK_DEADLINE_GATHER:
    return 2;
  default:
    return 1000; /* linger */
  }
}

/* ---- deadlines ---- */

static void timer_at(valk_thread_t *thread, uint64_t at_ms);

static uint64_t passes_ms(const valk_deadlines_t *deadlines, const valk_deadline_t *deadline) {
  return deadline->since_ms + deadlines->duration_ms;
}

/* When the thread wakes for it: with those that pass within so many milliseconds of it. */
static uint64_t wakes_ms(const valk_deadlines_t *deadlines, const valk_deadline_t *deadline) {
  uint64_t late = deadlines->duration_ms / 32;
  return passes_ms(deadlines, deadline) + (late < VALK_LATE_MS ? late : VALK_LATE_MS);
}

void valk__deadline_start(valk_thread_t *thread, int kind, valk_deadline_t *deadline) {
  valk_deadlines_t *deadlines = &thread->deadlines[kind];
  if (valk__listed(&deadline->link))
    valk__list_remove(&deadline->link);
  deadline->since_ms = valk__now_ms(thread);
  if (valk__list_empty(&deadlines->list))
    timer_at(thread, wakes_ms(deadlines, deadline));
  valk__list_append(&deadlines->list, &deadline->link);
}

void valk__deadline_stop(valk_deadline_t *deadline) {
  valk__list_remove(&deadline->link);
}

void valk__deadlines_run(valk_thread_t *thread) {
  uint64_t now = valk__now_ms(thread);
  for (int kind = 0; kind < VALK_DEADLINE_KINDS; kind++) {
    valk_deadlines_t *deadlines = &thread->deadlines[kind];
    for (unsigned i = 0; i < VALK_EXPIRED_A_TURN && !valk__list_empty(&deadlines->list); i++) {
      valk_deadline_t *deadline = VALK_CONTAINER(deadlines->list.next, valk_deadline_t, link);
      if (passes_ms(deadlines, deadline) > now)
        break;
      valk__list_remove(&deadline->link);
      deadlines->expired(deadline);
    }
  }
}

uint64_t valk__deadlines_next(const valk_thread_t *thread) {
  uint64_t now = valk__now_ms(thread), next = UINT64_MAX;
  for (int kind = 0; kind < VALK_DEADLINE_KINDS; kind++) {
    const valk_deadlines_t *deadlines = &thread->deadlines[kind];
    if (valk__list_empty(&deadlines->list))
      continue;
    valk_deadline_t *oldest = VALK_CONTAINER(deadlines->list.next, valk_deadline_t, link);
    if (passes_ms(deadlines, oldest) <= now)
      return now;
    uint64_t at = wakes_ms(deadlines, oldest);
    if (at < next)
      next = at;
  }
  return next;
}

/* ---- signals and mail ---- */

void valk__thread_signal(valk_thread_t *thread, unsigned signals) {
  /* Only the first signal pays for a wake-up, and only if the thread sleeps. */
  if (atomic_fetch_or(&thread->signals, signals) == 0 && atomic_load(&thread->asleep))
    valk__poller_wake(&thread->poller);
}

void valk__thread_post(valk_thread_t *thread, valk_mail_t *mail) {
  mail->next = NULL;
  uv_mutex_lock(&thread->mail_lock);
  if (thread->mail_last != NULL) {
    thread->mail_last->next = mail;
  } else {
    thread->mail_first = mail;
  }
  thread->mail_last = mail;
  uv_mutex_unlock(&thread->mail_lock);
  valk__thread_signal(thread, VALK_SIGNAL_MAIL);
}

static void open_mail(valk_thread_t *thread) {
  uv_mutex_lock(&thread->mail_lock);
  valk_mail_t *mail = thread->mail_first;
  thread->mail_first = thread->mail_last = NULL;
  uv_mutex_unlock(&thread->mail_lock);
  while (mail != NULL) {
    valk_mail_t *next = mail->next;
    mail->open(thread, mail);
    mail = next;
  }
}

void valk_system_wake(valk_system_t *system, unsigned thread) {
  if (thread < system->thread_count)
    valk__thread_signal(&system->threads[thread], VALK_SIGNAL_WAKE);
}

static void call_consumers(valk_thread_t *thread, bool wake) {
  for (unsigned i = 0; i < VALK_MAX_CONSUMERS; i++) {
    const valk_consumer_t *consumer =
        atomic_load_explicit(&thread->system->consumers[i], memory_order_acquire);
    if (consumer == NULL)
      continue;
    if (wake) {
      consumer->on_wake(consumer->data, thread->index);
    } else {
      consumer->on_turn(consumer->data, thread->index);
    }
  }
}

static void take_signals(valk_thread_t *thread) {
  unsigned signals = atomic_exchange(&thread->signals, 0);
  if (signals == 0)
    return;
  thread->turn_ns = valk__clock_ns();
  if (signals & VALK_SIGNAL_MAIL)
    open_mail(thread);
  if (signals & VALK_SIGNAL_WAKE) {
    call_consumers(thread, true);
    thread->consumers_called = true;
    valk__admission_run_queue(thread);
  }
  if (signals & VALK_SIGNAL_BUFFERS)
    valk__connections_serve_buffers(thread);
  if (signals & VALK_SIGNAL_ARENAS) {
    thread->arena_blocked = thread->body_blocked = false;
    valk__admission_run(thread);
  }
  if (signals & VALK_SIGNAL_ACCEPT)
    valk__listeners_resume(thread);
  if (signals & VALK_SIGNAL_EVICT)
    valk__connections_evict(thread);
}

/* ---- turns ---- */

static void flush_dirty(valk_thread_t *thread) {
  valk_link_t dirty;
  valk__list_init(&dirty);
  valk__list_splice(&dirty, &thread->dirty);
  while (!valk__list_empty(&dirty)) {
    valk_connection_t *connection = VALK_CONTAINER(dirty.next, valk_connection_t, dirty);
    valk__list_remove(&connection->dirty);
    valk__connection_flush(connection);
  }
}

/* True: there was something. */
static bool hand_over(valk_thread_t *thread) {
  if (!thread->consumers_called)
    return false;
  thread->consumers_called = false;
  call_consumers(thread, false);
  return true;
}

/* Hands the batch to the consumers (one wake-up), then writes (one flush a connection). */
static void pass(valk_thread_t *thread) {
  thread->visits = thread->begun = 0;
  take_signals(thread);
  hand_over(thread);
  flush_dirty(thread);
}

static void let_others_run(valk_thread_t *thread) {
  if (thread->system->hosted) /* what its host has to do comes after the turn */
    return;
  uint64_t before = uv_hrtime();
  if (!valk__yield_is_due(&thread->yield, before))
    return;
  sched_yield();
  valk__yield_took(&thread->yield, before, uv_hrtime());
}

void valk__thread_visited(valk_thread_t *thread) {
  if (++thread->visits < VISITS_A_PASS && thread->begun < REQUESTS_A_PASS)
    return;
  /* First of all, since a consumer that shares our core may answer before signals are taken. */
  if (hand_over(thread))
    let_others_run(thread);
  pass(thread);
}

/* The end of a turn. Signals that a pass raises are taken in the same turn, so that what is freed
 * reaches who waits without a trip through the kernel. */
static void end_turn(valk_thread_t *thread) {
  for (int round = 0; round < 8; round++) {
    pass(thread);
    if (atomic_load(&thread->signals) == 0 && !thread->consumers_called &&
        valk__list_empty(&thread->dirty))
      break;
  }
  if (!valk__list_empty(&thread->dirty) || thread->consumers_called)
    thread->again = true;
}

/* ---- the timer ---- */

static void housekeeping(valk_thread_t *thread) {
  valk_system_t *system = thread->system;
  uint64_t used = 0, largest = 0;
  for (valk_link_t *link = thread->connections.next; link != &thread->connections;
       link = link->next) {
    valk_connection_t *connection = VALK_CONTAINER(link, valk_connection_t, link);
    /* A budget given back by another thread wakes nobody. */
    if (!valk__list_empty(&connection->wanting))
      valk__connection_serve_wanting(connection);
    uint64_t bytes = atomic_load_explicit(&connection->ledger->used, memory_order_relaxed);
    used += bytes;
    if (bytes > largest)
      largest = bytes;
  }
  atomic_store_explicit(&thread->counters.heap_used, used, memory_order_relaxed);
  atomic_store_explicit(&thread->counters.heap_largest, largest, memory_order_relaxed);
  valk__spares_trim(&thread->spares);
  valk__blocks_trim();
  if (thread->index == 0) {
    valk_slab_trim(&system->buffers);
    valk_arena_pool_trim(&system->arenas);
  }
}

static void on_timer(valk_thread_t *thread) {
  uint64_t now = valk__now_ms(thread);
  thread->turn_ns = valk__clock_ns();
  valk__deadlines_run(thread);
  if (thread->draining)
    valk__connections_drain(thread, NULL);
  if (thread->index == 0) {
    valk__listeners_press(thread);
    valk__health_poke(thread);
  }
  if (now - thread->housekeeping_ms >= HOUSEKEEPING_MS) {
    thread->housekeeping_ms = now;
    housekeeping(thread);
    /* A page that could not be committed is tried again though nothing was freed. */
    if (thread->arena_blocked || thread->body_blocked)
      valk__thread_signal(thread, VALK_SIGNAL_ARENAS);
    if (!valk__list_empty(&thread->buffer_readers) || !valk__list_empty(&thread->buffer_writers)) {
      valk__thread_signal(thread, VALK_SIGNAL_BUFFERS);
    }
  }
  uint64_t next = valk__deadlines_next(thread);
  thread->timer_at_ms = next < now + HEARTBEAT_MS ? next : now + HEARTBEAT_MS;
}

static void timer_at(valk_thread_t *thread, uint64_t at_ms) {
  if (at_ms < thread->timer_at_ms)
    thread->timer_at_ms = at_ms;
}

const char *valk__thread_date(valk_thread_t *thread) {
  /* The turn's clock says when a second has gone by; the wall clock is read only then. */
  uint64_t second = valk__now_ms(thread) / 250;
  if (second != thread->date_s || thread->date[0] == '\0') {
    struct timespec wall;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &wall);
    wall.tv_sec += valk__fault_wall_s();
    gmtime_r(&wall.tv_sec, &tm);
    /* Not strftime: its names of days and months follow the locale (RFC 9110, section 5.6.7). */
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    snprintf(thread->date, sizeof(thread->date), "%.3s, %02u %.3s %04u %02u:%02u:%02u GMT",
             days + 3 * tm.tm_wday, (unsigned) tm.tm_mday % 100, months + 3 * tm.tm_mon,
             (unsigned) (tm.tm_year + 1900) % 10000, (unsigned) tm.tm_hour % 100,
             (unsigned) tm.tm_min % 100, (unsigned) tm.tm_sec % 100);
    thread->date_s = second;
  }
  return thread->date;
}

uint32_t valk__thread_random(valk_thread_t *thread) {
  /* xorshift32: for jitter, not for secrets. */
  uint32_t x = thread->random;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return thread->random = x;
}

/* Refused requests tend to come again at once, and a thread that wakes for each of them takes time
 * from the handlers that could answer some. */
void valk__thread_refused(valk_connection_t *connection) {
  valk_thread_t *thread = connection->thread;
  thread->patient_until_ms = valk__now_ms(thread) + PATIENT_MS;
  valk__poll_can_wait(&thread->poller, &connection->poll);
}

/* ---- life ---- */

static void read_clock(valk_thread_t *thread) {
  thread->now_ms = uv_hrtime() / 1000000;
}

static int sleep_ms(const valk_thread_t *thread, int most_ms) {
  uint64_t now = valk__now_ms(thread);
  uint64_t left = thread->timer_at_ms > now ? thread->timer_at_ms - now : 0;
  return left < (uint64_t) most_ms ? (int) left : most_ms;
}

static bool is_patient(const valk_thread_t *thread) {
  return valk__now_ms(thread) < thread->patient_until_ms;
}

/* From now on signals have to wake us. Milliseconds that the thread may sleep. */
static int end_awake(valk_thread_t *thread) {
  atomic_store(&thread->asleep, true);
  bool awake =
      thread->again || atomic_load(&thread->signals) != 0 || valk__poller_has_more(&thread->poller);
  thread->again = false;
  return awake ? 0 : sleep_ms(thread, is_patient(thread) ? PATIENCE_MS : HEARTBEAT_MS);
}

static void begin_turn(valk_thread_t *thread, int timeout_ms) {
  valk__poller_sleep(&thread->poller, timeout_ms, is_patient(thread));
  atomic_store(&thread->asleep, false);
  read_clock(thread);
  if (valk__now_ms(thread) >= thread->timer_at_ms)
    on_timer(thread);
  valk__poller_call(&thread->poller);
}

/* False: it was the last one. */
static bool complete_turn(valk_thread_t *thread) {
  end_turn(thread);
  valk__poller_bury(&thread->poller);
  thread->ended = thread->exiting && thread->poller.count == 0;
  return !thread->ended;
}

static void run(void *argument) {
  valk_thread_t *thread = argument;
  char name[16]; /* what top and perf show */
  snprintf(name, sizeof(name), "valk-io-%u", thread->index);
  prctl(PR_SET_NAME, name);
  valk_ledger_keep(&thread->spares);
  while (complete_turn(thread))
    begin_turn(thread, end_awake(thread));
  valk_ledger_keep(NULL);
  valk__blocks_trim();
}

int valk__thread_turn(valk_thread_t *thread, int timeout_ms) {
  valk_spares_t *before = valk_ledger_switch(&thread->spares);
  begin_turn(thread, timeout_ms);
  int next_ms = complete_turn(thread) ? end_awake(thread) : HEARTBEAT_MS;
  if (thread->ended) {
    valk_ledger_keep(NULL);
    valk__blocks_trim();
  } else {
    /* The host sleeps in our place: what would end our sleep has to end its own. */
    valk__poller_attend(&thread->poller, is_patient(thread));
    if (next_ms == 0) {
      valk__poller_wake(&thread->poller);
      next_ms = HEARTBEAT_MS;
    }
  }
  valk_ledger_switch(before);
  return next_ms;
}

int valk__thread_start(valk_system_t *system, unsigned index) {
  valk_thread_t *thread = &system->threads[index];
  thread->system = system;
  thread->index = index;
  thread->random = 2463534242u + index * 7919u;
  valk__list_init(&thread->connections);
  valk__list_init(&thread->dirty);
  valk__list_init(&thread->buffer_readers);
  valk__list_init(&thread->buffer_writers);
  valk__list_init(&thread->turns[0]);
  valk__list_init(&thread->turns[1]);
  valk__list_init(&thread->queue_blocked);
  for (int kind = 0; kind < VALK_DEADLINE_KINDS; kind++) {
    valk__list_init(&thread->deadlines[kind].list);
    thread->deadlines[kind].duration_ms = duration_of(&system->config, kind);
  }
  valk__connection_deadlines(thread);
  valk__request_deadlines(thread);
  valk__admission_deadlines(thread);
  valk__upload_deadlines(thread);
  int result = valk__poller_init(&thread->poller);
  if (result != 0)
    return result;
  result = valk__fault(VALK_FAULT_LOCK) ? -errno : uv_mutex_init(&thread->mail_lock);
  if (result != 0) {
    valk__poller_deinit(&thread->poller);
    return result;
  }
  read_clock(thread);
  thread->housekeeping_ms = valk__now_ms(thread);
  thread->timer_at_ms = thread->housekeeping_ms + HEARTBEAT_MS;
  if (system->hosted) {
    atomic_store(&thread->asleep, true);
    return 0;
  }
  /* 512 KiB is ample, since nothing recurses. */
  uv_thread_options_t options = {.flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = 512u << 10};
  result = valk__fault(VALK_FAULT_THREAD)
               ? UV_EAGAIN
               : uv_thread_create_ex(&thread->handle, &options, run, thread);
  if (result != 0) {
    uv_mutex_destroy(&thread->mail_lock);
    valk__poller_deinit(&thread->poller);
    return result;
  }
  return 0;
}

static void open_exit(valk_thread_t *thread, valk_mail_t *mail) {
  (void) mail; /* part of the thread */
  thread->exiting = true;
}

void valk__thread_stop(valk_thread_t *thread) {
  thread->exit_mail.open = open_exit;
  valk__thread_post(thread, &thread->exit_mail);
}

void valk__thread_join(valk_thread_t *thread) {
  if (thread->system->hosted) {
    for (int next_ms = 0; !thread->ended;)
      next_ms = valk__thread_turn(thread, next_ms);
  } else {
    uv_thread_join(&thread->handle);
  }
}

void valk__thread_deinit(valk_thread_t *thread) {
  open_mail(thread); /* what came after the last turn */
  valk__poller_bury(&thread->poller);
  valk__poller_deinit(&thread->poller);
  uv_mutex_destroy(&thread->mail_lock);
  valk__requests_free(thread);
  assert(thread->spares.bytes == 0);
}
