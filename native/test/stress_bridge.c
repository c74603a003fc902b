/*
 * The bridge under threads: engine threads that offer, drop and abort requests and stream bodies,
 * and a JavaScript thread that claims and answers them in every way there is. Each side sleeps when
 * it has nothing to do, so a lost wake-up is a hang. VALK_STRESS multiplies the number of requests
 * (default 1).
 */
#include <pthread.h>
#include <semaphore.h>

#include "binding/bridge.h"
#include "fake_core.h"
#include "fake_javascript.h"

#define SLOTS 48      /* requests of one engine thread at a time */
#define BODY 3000     /* of a request */
#define ANSWER 150000 /* of a streamed answer: more than one write */
#define HELD 64       /* requests that JavaScript answers later */

typedef enum { BUFFERED, STREAMED } kind_t;
/* ABORT_HALFWAY: a streamed request that JavaScript reads already, so that no drop can come first.
 */
typedef enum { NO_PLAN, DROP, ABORT, ABORT_HALFWAY } plan_t;

typedef struct {
  valk_request_t request;
  unsigned seed;
  kind_t mode;
  plan_t plan;
  unsigned delay; /* turns until the plan */
  size_t streamed;
  int told; /* writes and wants that were answered with on_writable */
  bool waits_for_reclaim;
  bool used;
} job_t;

typedef struct {
  pthread_t thread;
  unsigned id;
  unsigned random;
  sem_t sem;
  atomic_bool signaled;
  bool blocked; /* a request was refused with VALK_EAGAIN: wait for the wake-up */
  unsigned made, ended, dropped, aborted, answered;
  job_t jobs[SLOTS];
} engine_t;

typedef struct {
  fake_claim_t claim;
  bool open, writing;
  unsigned seed;
  size_t sent;     /* of a streamed answer */
  size_t received; /* of a streamed request */
  unsigned char mode;
} exchange_t;

static valk_system_t fake_system;
static valk_server_t servers[2];
static engine_t engines[FAKE_THREADS];
static unsigned engine_count, goal;
static fake_js_t js;
static sem_t js_sem;
static atomic_bool js_stop;
static uint8_t answer[ANSWER];

static unsigned next_random(unsigned *state) {
  *state = *state * 1103515245u + 12345u;
  return *state >> 8;
}

static uint8_t pattern(unsigned seed, size_t at) {
  return (uint8_t) (seed * 31 + at * 7);
}

/* ---- engine threads ---- */

static void wake_engine(void *data, unsigned thread) {
  (void) data;
  if (!atomic_exchange(&engines[thread].signaled, true)) {
    sem_post(&engines[thread].sem);
  }
}

static void poison(job_t *job) {
  if (job->request.body != NULL) {
    memset(job->request.body, 0xdd, job->request.body_length);
  }
}

/* Each request has a connection of its own, which ends with its stream: what JavaScript reads of
 * the peer must be there all the same. */
static fake_peer_t *make_peer(const engine_t *engine) {
  char address[32];
  snprintf(address, sizeof(address), "192.0.2.%u", engine->id);
  return fake_peer(address);
}

static void end_connection(job_t *job) {
  if (job->request.peer != NULL) {
    valk_peer_unref(&job->request.peer->peer);
    job->request.peer = NULL;
  }
}

static void make_job(engine_t *engine, job_t *job) {
  unsigned seed = next_random(&engine->random);
  kind_t mode = seed % 3 == 0 ? STREAMED : BUFFERED;
  char text[FAKE_TEXT];
  /* Heads of many lengths, so that the ring of text wraps at many places. */
  int length =
      snprintf(text, sizeof(text), "POST\nhttps\nhost\n/%u/%u\npad\n", seed, (unsigned) mode);
  memset(text + length, 'p', seed % 100);
  snprintf(text + length + seed % 100, 2, "\n");
  uint8_t *body = job->request.body;
  fake_request_init(&job->request, &fake_system, &servers[mode], make_peer(engine), text);
  job->request.body = body == NULL ? malloc(BODY) : body;
  job->request.thread = engine->id;
  job->request.slot = engine->id;
  job->seed = seed;
  job->mode = mode;
  job->plan = seed % 7 == 1 ? DROP : seed % 7 == 2 ? ABORT : NO_PLAN;
  if (mode == STREAMED && seed % 7 == 3) {
    job->plan = ABORT_HALFWAY;
  }
  job->delay = seed % 5;
  job->streamed = 0;
  job->told = 0;
  job->waits_for_reclaim = false;
  job->used = true;
  if (mode == BUFFERED) {
    job->request.body_length = BODY;
    for (size_t i = 0; i < BODY; i++) {
      job->request.body[i] = pattern(seed, i);
    }
  } else {
    job->request.body_ended = false;
  }
  engine->made++;
}

static void check_answer(engine_t *engine, job_t *job) {
  valk_request_t *request = &job->request;
  engine->answered += request->answers > 0;
  if (request->answers > 0) {
    ASSERT_EQ(request->status, 200);
    for (size_t i = 0; i < request->sent_length; i++) {
      ASSERT_EQ(request->sent[i], pattern(job->seed, i));
    }
    if (!request->gone) {
      ASSERT(request->sent_length == 100 || request->sent_length == ANSWER);
    }
  }
}

static void end_job(engine_t *engine, job_t *job) {
  poison(job);
  end_connection(job);
  engine->ended++;
  fake_request_deinit(&job->request);
  job->used = false;
}

static void abort_job(engine_t *engine, job_t *job) {
  engine->aborted++;
  if (fake_abort(&job->request, VALK_ABORT_RESET)) {
    poison(job);
  } else {
    job->waits_for_reclaim = true;
  }
  end_connection(job);
  if (job->request.answers > 0) {
    fake_end(&job->request);
  }
}

static void stream_on(job_t *job) {
  uint8_t bytes[700];
  size_t length = BODY - job->streamed < sizeof(bytes) ? BODY - job->streamed : sizeof(bytes);
  for (size_t i = 0; i < length; i++) {
    bytes[i] = pattern(job->seed, job->streamed + i);
  }
  ASSERT_OK(fake_body(&job->request, bytes, length));
  job->streamed += length;
  if (job->streamed == BODY) {
    job->request.body_ended = true;
    fake_system.consumer->on_body_end(fake_system.consumer->data, &job->request);
  }
}

/* One step of a request that the bridge has. True: something was done. */
static bool step(engine_t *engine, job_t *job) {
  valk_request_t *request = &job->request;
  if (job->waits_for_reclaim && request->reclaims > 0) {
    job->waits_for_reclaim = false;
    poison(job);
  }
  if (!request->taken) {
    ASSERT_EQ(request->ends, 1);
    check_answer(engine, job);
    end_job(engine, job);
    return true;
  }
  if (job->plan == DROP || job->plan == ABORT) {
    if (job->delay-- > 0) {
      return true;
    }
    bool aborts = job->plan == ABORT;
    job->plan = NO_PLAN;
    if (request->answers == 0 && fake_drop(request)) {
      engine->dropped++;
      end_job(engine, job);
    } else if (aborts) {
      abort_job(engine, job);
    }
    return true;
  }
  if (request->gone) {
    return false;
  }
  if (job->plan == ABORT_HALFWAY && request->consumed > 0) {
    job->plan = NO_PLAN;
    abort_job(engine, job);
    return true;
  }
  if (request->writes + request->wants > job->told) {
    job->told = request->writes + request->wants;
    fake_system.consumer->on_writable(fake_system.consumer->data, request);
    return true;
  }
  if (job->mode == STREAMED && job->streamed < (job->plan == ABORT_HALFWAY ? BODY / 2 : BODY)) {
    stream_on(job);
    return true;
  }
  return false;
}

static void offer(engine_t *engine, job_t *job) {
  int result = fake_offer(&job->request);
  if (result == VALK_EAGAIN) {
    engine->blocked = true;
    return;
  }
  ASSERT_OK(result);
}

static void *run_engine(void *argument) {
  engine_t *engine = argument;
  while (engine->ended < goal) {
    bool busy = false;
    if (atomic_exchange(&engine->signaled, false)) {
      engine->blocked = false;
      fake_wake(&fake_system, engine->id);
      busy = true;
    }
    for (int i = 0; i < SLOTS; i++) {
      job_t *job = &engine->jobs[i];
      if (!job->used && engine->made < goal) {
        make_job(engine, job);
      }
      bool waiting = job->used && !job->request.taken && job->request.ends == 0;
      if (waiting && !engine->blocked) {
        offer(engine, job);
        busy = true;
      } else if (job->used && !waiting) {
        busy = step(engine, job) || busy;
      }
    }
    fake_turn(&fake_system, engine->id);
    if (!busy) {
      while (sem_wait(&engine->sem) != 0) {
      }
    }
  }
  return NULL;
}

/* ---- JavaScript ---- */

static exchange_t *exchanges;
static uint32_t exchange_count;
static exchange_t *held[HELD];
static unsigned held_count;

static void wake_js(void *data) {
  (void) data;
  sem_post(&js_sem);
}

static exchange_t *exchange_at(uint32_t index) {
  ASSERT_LT(index, exchange_count);
  return &exchanges[index];
}

static void fill_answer(unsigned seed, size_t from, size_t length) {
  for (size_t i = 0; i < length; i++) {
    answer[i] = pattern(seed, from + i);
  }
}

static void respond(exchange_t *exchange) {
  fill_answer(exchange->seed, 0, 100);
  fake_js_out(&js, &exchange->claim, VALK_OUT_RESPOND, VALK_ANSWER_END, 200, "a\nb\n", answer, 100,
              100);
  exchange->open = false;
}

static void write_on(exchange_t *exchange) {
  while (exchange->sent < ANSWER) {
    size_t length = ANSWER - exchange->sent;
    fill_answer(exchange->seed, exchange->sent, length);
    ASSERT_OK(valk_bridge_flush(js.bridge));
    int64_t taken = valk_bridge_write(js.bridge, exchange->claim.index, exchange->claim.generation,
                                      answer, length);
    if (taken <= 0) {
      return;
    }
    exchange->sent += (size_t) taken;
    if (exchange->sent < ANSWER) {
      return;
    }
  }
  fake_js_tell(&js, &exchange->claim, VALK_OUT_FINISH, 0);
  exchange->open = exchange->writing = false;
}

static void begin_answer(exchange_t *exchange) {
  fake_js_out(&js, &exchange->claim, VALK_OUT_RESPOND, 0, 200, "a\nb\n", NULL, 0, ANSWER);
  exchange->sent = 0;
  exchange->writing = true;
  write_on(exchange);
}

static void settle(exchange_t *exchange) {
  fake_js_tell(&js, &exchange->claim, VALK_OUT_SETTLE, 0);
  exchange->open = exchange->writing = false;
}

/* The answer to a request whose body is done with. */
static void handle(exchange_t *exchange) {
  switch (exchange->seed % 8) {
  case 0:
    begin_answer(exchange);
    break;
  case 1:
  case 2:
    if (held_count < HELD) {
      held[held_count++] = exchange;
      break;
    }
    /* fall through */
  default:
    respond(exchange);
    break;
  }
}

static void read_on(exchange_t *exchange) {
  for (;;) {
    const fake_claim_t *claim = &exchange->claim;
    int64_t readable = valk_bridge_readable(js.bridge, claim->index, claim->generation);
    if (readable == 0) {
      return;
    }
    if (readable == VALK_BRIDGE_ENDED) {
      /* Early for one that was aborted, of which the event is on its way. */
      handle(exchange);
      return;
    }
    uint8_t bytes[500];
    size_t length = (size_t) readable < sizeof(bytes) ? (size_t) readable : sizeof(bytes);
    if (valk_bridge_read(js.bridge, claim->index, claim->generation, bytes, length) != 0) {
      return; /* aborted meanwhile: its event comes */
    }
    for (size_t i = 0; i < length; i++) {
      ASSERT_EQ(bytes[i], pattern(exchange->seed, exchange->received + i));
    }
    exchange->received += length;
  }
}

static void claimed(const fake_claim_t *claim) {
  exchange_t *exchange = exchange_at(claim->index);
  ASSERT_FALSE(exchange->open);
  unsigned mode;
  memset(exchange, 0, sizeof(*exchange));
  ASSERT_EQ(sscanf(claim->head, "POST\nhttps\nhost\n/%u/%u\n", &exchange->seed, &mode), 2);
  exchange->claim = *claim;
  exchange->open = true;
  exchange->mode = (unsigned char) mode;
  ASSERT_EQ(claim->server, (int32_t) mode);
  ASSERT_EQ(strtol(strrchr(claim->remote_address, '.') + 1, NULL, 10), claim->slot);
  for (size_t i = 0; i < FAKE_CERTIFICATE; i++) {
    ASSERT_EQ(claim->certificate[i], (uint8_t) claim->peer);
  }
  if (mode == STREAMED) {
    read_on(exchange);
    return;
  }
  uint8_t bytes[BODY];
  if (valk_bridge_body(js.bridge, claim->index, claim->generation, bytes, BODY) == 0) {
    for (size_t i = 0; i < BODY; i++) {
      ASSERT_EQ(bytes[i], pattern(exchange->seed, i));
    }
  }
  handle(exchange);
}

static void take_events(void) {
  int32_t events[64 * VALK_EVENT_WORDS];
  uint32_t count;
  while ((count = valk_bridge_events(js.bridge, events, 64)) > 0) {
    for (uint32_t i = 0; i < count; i++) {
      const int32_t *event = events + (size_t) i * VALK_EVENT_WORDS;
      exchange_t *exchange = exchange_at((uint32_t) event[0]);
      if (!exchange->open || exchange->claim.generation != (uint32_t) event[1]) {
        continue;
      }
      if ((event[2] & (VALK_EVENT_ABORT | VALK_EVENT_END)) != 0) {
        for (unsigned j = 0; j < held_count; j++) {
          if (held[j] == exchange) {
            held[j--] = held[--held_count];
          }
        }
        settle(exchange);
      } else if ((event[2] & VALK_EVENT_WRITABLE) != 0 && exchange->writing) {
        write_on(exchange);
      } else if ((event[2] & VALK_EVENT_BODY) != 0 && exchange->mode == STREAMED &&
                 !exchange->writing) {
        bool waits = true;
        for (unsigned j = 0; j < held_count; j++) {
          waits = waits && held[j] != exchange;
        }
        if (waits) {
          read_on(exchange);
        }
      }
    }
  }
}

static void *run_js(void *argument) {
  (void) argument;
  for (;;) {
    valk_bridge_begin(js.bridge);
    take_events();
    fake_claim_t claim;
    for (int i = 0; i < 32 && fake_js_claim(&js, &claim); i++) {
      claimed(&claim);
    }
    for (unsigned i = held_count / 2; i < held_count; i++) {
      respond(held[i]);
    }
    held_count /= 2;
    ASSERT_OK(valk_bridge_flush(js.bridge));
    if (held_count > 0 || !valk_bridge_sleep(js.bridge)) {
      continue;
    }
    if (atomic_load(&js_stop)) {
      return NULL;
    }
    while (sem_wait(&js_sem) != 0) {
    }
  }
}

/* ---- both ---- */

static void stress(unsigned threads, unsigned requests, uint32_t capacity, uint32_t text_size) {
  const char *scale = getenv("VALK_STRESS");
  engine_count = threads;
  goal = requests * (scale == NULL ? 1 : (unsigned) strtoul(scale, NULL, 10));
  fake_system_init(&fake_system, capacity, threads);
  fake_system.on_wake = wake_engine;
  /* Little enough that writes must wait for one another. */
  atomic_store(&fake_system.budget, 400000);
  for (int mode = 0; mode < 2; mode++) {
    servers[mode].data = valk_bridge_server_data((uint32_t) mode, mode == STREAMED);
  }
  sem_init(&js_sem, 0, 0);
  fake_js_init(&js, &fake_system, text_size, wake_js, NULL);
  exchange_count = 1 << 16;
  exchanges = calloc(exchange_count, sizeof(*exchanges));
  pthread_t javascript;
  for (unsigned i = 0; i < threads; i++) {
    engines[i].id = i;
    engines[i].random = i + 1;
    sem_init(&engines[i].sem, 0, 0);
  }
  ASSERT_OK(pthread_create(&javascript, NULL, run_js, NULL));
  for (unsigned i = 0; i < threads; i++) {
    ASSERT_OK(pthread_create(&engines[i].thread, NULL, run_engine, &engines[i]));
  }
  unsigned dropped = 0, aborted = 0, answered = 0;
  for (unsigned i = 0; i < threads; i++) {
    ASSERT_OK(pthread_join(engines[i].thread, NULL));
    ASSERT_EQ(engines[i].ended, goal);
    dropped += engines[i].dropped;
    aborted += engines[i].aborted;
    answered += engines[i].answered;
  }
  atomic_store(&js_stop, true);
  sem_post(&js_sem);
  ASSERT_OK(pthread_join(javascript, NULL));
  /* What JavaScript sent last found its engine thread gone. */
  for (unsigned i = 0; i < threads; i++) {
    fake_wake(&fake_system, i);
    for (int j = 0; j < SLOTS; j++) {
      free(engines[i].jobs[j].request.body);
    }
    sem_destroy(&engines[i].sem);
  }
  ASSERT_EQ(valk_bridge_open(js.bridge), 0);
  fake_js_deinit(&js);
  free(exchanges);
  sem_destroy(&js_sem);
  ASSERT_EQ(atomic_load(&fake_system.budget), 400000);
  /* Of every kind there were some, and each request came to exactly one end. */
  ASSERT_GT(dropped, 0);
  ASSERT_GT(aborted, 0);
  ASSERT_GE(answered + dropped + aborted, goal * threads);
  printf("%u requests: %u answered, %u dropped, %u aborted\n", goal * threads, answered, dropped,
         aborted);
}

TEST(one_engine_thread) {
  stress(1, 6000, 200, 64 << 10);
}

TEST(three_engine_threads) {
  stress(3, 3000, 200, 64 << 10);
}

TEST(a_queue_that_is_always_full) {
  stress(2, 3000, 16, 2048);
}
