/* Health endpoints, answered by the engine so that they hold while JavaScript is busy
 * (specification, section 3). */
#include <stdio.h>
#include <string.h>

#include "internal.h"

#define POKE_AFTER_MS 1000u
#define OVERLOADED_FOR_MS 5000u
/* The heartbeat comes four times a second. */
#define STOOD_STILL_MS 2000u

static uint64_t clock_ms(void) {
  return valk__clock_ns() / 1000000;
}

/* When the engine last went on after it had stood still, as all of a suspended machine or a stopped
 * process does; 0: never. What JavaScript did not answer meanwhile is no fault of its own. */
static uint64_t resumed(valk_system_t *system, uint64_t now) {
  uint64_t seen = atomic_exchange(&system->beat_ms, now);
  if (seen != 0 && now > seen && now - seen > STOOD_STILL_MS)
    atomic_store(&system->resumed_ms, now);
  return atomic_load(&system->resumed_ms);
}

void valk__health_poke(valk_thread_t *thread) {
  valk_system_t *system = thread->system;
  uint64_t now = clock_ms();
  (void) resumed(system, now);
  uv_mutex_lock(&system->lock);
  for (valk_server_t *server = system->servers; server != NULL; server = server->next) {
    const valk_consumer_t *consumer = server->consumer;
    if (server->live_path == NULL || server->closed || atomic_load(&server->consumer_gone))
      continue;
    uint64_t turn = consumer->last_turn_ms(consumer->data, false);
    if (turn >= now || now - turn <= POKE_AFTER_MS)
      continue;
    if (atomic_load(&server->asked_ms) <= turn)
      atomic_store(&server->asked_ms, now);
    consumer->last_turn_ms(consumer->data, true);
  }
  uv_mutex_unlock(&system->lock);
}

static bool same(const char *path, size_t length, const char *wanted) {
  return wanted != NULL && strlen(wanted) == length && memcmp(path, wanted, length) == 0;
}

static double pressure(valk_gate_t *gate) {
  valk_gate_stats_t stats;
  valk_gate_stats(gate, &stats);
  return stats.capacity == 0 ? 0 : (double) stats.in_use / stats.capacity;
}

/* How long JavaScript, whose last turn was at |turn|, has left a wake-up unanswered. */
static uint64_t unanswered(valk_server_t *server, uint64_t turn, uint64_t now) {
  uint64_t since = resumed(server->system, now);
  uint64_t asked = atomic_load(&server->asked_ms);
  if (asked <= turn)
    return 0;
  if (asked < since)
    asked = since;
  return asked < now ? now - asked : 0;
}

bool valk__health_answer(valk_request_t *request, const char *path, size_t length) {
  valk_server_t *server = request->server;
  valk_system_t *system = server->system;
  bool live = same(path, length, server->live_path);
  if (!live && !same(path, length, server->ready_path))
    return false;
  uint64_t now = clock_ms();
  const valk_consumer_t *consumer = server->consumer;
  uint64_t turn = 0, waited = UINT64_MAX;
  if (!atomic_load(&server->consumer_gone)) {
    turn = consumer->last_turn_ms(consumer->data, false);
    waited = unanswered(server, turn, now);
  }
  uint64_t age = turn < now ? now - turn : 0;
  uint64_t overloaded = atomic_load_explicit(&system->overloaded_ms, memory_order_relaxed);
  const char *status = "ok";
  if (live) {
    if (waited > server->js_stall_timeout_ms)
      status = "stalled";
  } else if (atomic_load(&server->unready) || atomic_load(&server->closing) ||
             atomic_load(&system->stopping)) {
    status = "draining";
  } else if (overloaded != 0 && now - overloaded < OVERLOADED_FOR_MS) {
    status = "overloaded";
  }
  bool ok = strcmp(status, "ok") == 0;
  char body[512];
  int size = snprintf(
      body, sizeof(body),
      "{\"status\":\"%s\",\"pressure\":{\"connections\":%.3f,\"buffers\":%.3f,\"arenas\":%.3f},"
      "\"waiting\":%llu,\"jsAgeMs\":%llu}\n",
      status, pressure(&system->connections), pressure(&system->buffers.gate),
      pressure(&system->arenas.gate),
      (unsigned long long) atomic_load_explicit(&system->requests_waiting, memory_order_relaxed),
      (unsigned long long) age);
  static const char fields[] = "content-type\napplication/json\ncache-control\nno-store\n";
  valk_buffer_t *buffer = valk_buffer_new((uint32_t) size);
  if (buffer == NULL) {
    valk__request_reply(request, ok ? 200 : 503, fields, sizeof(fields) - 1, NULL, 0);
    return true;
  }
  memcpy(buffer->data, body, (size_t) size);
  valk__request_reply_buffer(request, ok ? 200 : 503, fields, sizeof(fields) - 1, buffer);
  return true;
}
