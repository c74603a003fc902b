/* The snapshot (specification, section 7): sums the threads' counters, which each thread alone
 * writes. */
#include <nghttp2/nghttp2.h>
#include <string.h>

#include "internal.h"
#include "tls_library.h"

static uint64_t get(const valk_counter_t *counter) {
  return atomic_load_explicit(counter, memory_order_relaxed);
}

static void pool(valk_gate_t *gate, valk_pool_stats_t *to) {
  valk_gate_stats_t stats;
  valk_gate_stats(gate, &stats);
  to->size = stats.capacity;
  to->in_use = stats.in_use;
  to->high_water = stats.high_water;
  to->times_full = stats.times_full;
}

static void histogram(const valk_histogram_t *from, valk_histogram_stats_t *to) {
  valk_histogram_sum(from, to->counts, &to->sum_us);
}

#define ADD_CLOSED(field, name) to->connection.closed.field += get(&from->closed.field);
#define ADD_REJECTED(field, name) to->request.rejected_503.field += get(&from->rejected.field);
#define ADD_TOO_LARGE(field, name) to->request.too_large_413.field += get(&from->too_large.field);
#define ADD_RESET(field, name) to->request.reset.field += get(&from->reset.field);

static void add(const valk_counters_t *from, valk_stats_t *to) {
  to->connection.active += get(&from->active);
  to->connection.accepted += get(&from->accepted);
  to->connection.handshakes += get(&from->handshakes);
  to->connection.resumed += get(&from->resumed);
  to->connection.heap_used += get(&from->heap_used);
  uint64_t largest = get(&from->heap_largest);
  if (largest > to->connection.heap_largest)
    to->connection.heap_largest = largest;
  VALK_CLOSE_CAUSES(ADD_CLOSED)
  to->request.active += get(&from->requests_active);
  to->buffers.waiters += get(&from->buffer_waiters);
  to->request.waiting += get(&from->requests_waiting);
  to->request.total += get(&from->requests);
  to->request.dispatched += get(&from->dispatched);
  to->request.informational += get(&from->status[1]);
  to->request.success += get(&from->status[2]);
  to->request.redirect += get(&from->status[3]);
  to->request.client_error += get(&from->status[4]);
  to->request.server_error += get(&from->status[5]);
  to->request.static_routes += get(&from->static_routes);
  to->request.timeouts_408 += get(&from->timeouts_408);
  to->request.headers_431 += get(&from->headers_431);
  to->request.bad_400 += get(&from->bad_400);
  VALK_REJECT_CAUSES(ADD_REJECTED)
  VALK_TOO_LARGE_CAUSES(ADD_TOO_LARGE)
  VALK_RESET_CAUSES(ADD_RESET)
  to->bytes_in += get(&from->bytes_in);
  to->bytes_out += get(&from->bytes_out);
  histogram(&from->waiting, &to->waiting);
  histogram(&from->handler, &to->handler);
  histogram(&from->writing, &to->writing);
}

void valk_system_stats(valk_system_t *system, valk_stats_t *stats) {
  memset(stats, 0, sizeof(*stats));
  for (unsigned i = 0; i < system->thread_count; i++)
    add(&system->threads[i].counters, stats);
  pool(&system->connections, &stats->connections);
  pool(&system->buffers.gate, &stats->buffers);
  pool(&system->arenas.gate, &stats->arenas);
  stats->arenas.waiters = stats->request.waiting;
  uv_mutex_lock(&system->arenas.lock);
  stats->overflow_arenas = system->arenas.overflow_used;
  uv_mutex_unlock(&system->arenas.lock);
  uv_mutex_lock(&system->lock);
  for (valk_server_t *server = system->servers; server != NULL; server = server->next) {
    if (!atomic_load(&server->closing))
      stats->connection.waiting += valk__listener_waiting(&server->listener);
  }
  stats->connections.waiters = stats->connection.waiting;
  for (unsigned i = 0; i < VALK_MAX_CONSUMERS; i++) {
    const valk_consumer_t *consumer = atomic_load(&system->consumers[i]);
    if (consumer != NULL && consumer->queue_stats != NULL)
      consumer->queue_stats(consumer->data, &stats->queue);
  }
  uv_mutex_unlock(&system->lock);
}

void valk_versions(valk_versions_t *versions) {
#if VALK__TLS_AWSLC
  versions->openssl_compiled = VALK__TLS_LIBRARY;
  versions->openssl_runtime = VALK__TLS_LIBRARY; /* it is linked in */
#else
  versions->openssl_compiled = OPENSSL_VERSION_STR;
  versions->openssl_runtime = OpenSSL_version(OPENSSL_VERSION_STRING);
#endif
  versions->nghttp2_compiled = NGHTTP2_VERSION;
  versions->nghttp2_runtime = nghttp2_version(0)->version_str;
  versions->uv_runtime = uv_version_string();
}
