/* How connections end in good order: GOAWAY in two steps when a server closes or a connection must
 * make room, the budget of TLS's own messages, and the deadlines of a connection's own. */
#include <errno.h>
#include <sys/socket.h>

#include "fault.h"
#include "internal.h"

/* Key updates (TLS 1.3) and attempts to renegotiate (TLS 1.2) that a connection may make at once,
 * and one more each second. An honest client changes keys once in millions of records (RFC 8446,
 * section 5.5). */
#define REKEYS_BURST 32u
#define ENHANCE_YOUR_CALM 0xb
#define LINGER_READS 16

/* How long a connection of a closing server may take from its first sight to the client's SETTINGS:
 * its requests may be under way, and only GOAWAY can tell which of them count. */
#define DRAIN_HANDSHAKE_MS 1000u

static valk_counters_t *counters(valk_connection_t *connection) {
  return &connection->thread->counters;
}

void valk__connection_drain(valk_connection_t *connection, valk_counter_t *cause) {
  if (connection->closing || connection->finishing || connection->drain_step > 0)
    return;
  if (connection->cause == NULL)
    connection->cause = cause;
  if (connection->h2 == NULL || !valk_h2_settled(connection->h2)) {
    valk__connection_finish(connection, cause);
    return;
  }
  connection->drain_step = 1;
  connection->drain_ms = valk__now_ms(connection->thread);
  valk_h2_goaway_notice(connection->h2);
  valk__connection_dirty(connection);
}

/* Below the limit is room for what nghttp2 and OpenSSL need to go on: a record each way, resets,
 * and the largest header block while it is decoded (Huffman's code at its worst, the text as it
 * grows).
 */
#define ROOM_TO_GO_ON 65536u
#define ROOM_FOR_HEAD 3u

static size_t soft_mark(const valk_config_t *config) {
  size_t limit = (size_t) config->connection_heap_size;
  size_t room = ROOM_TO_GO_ON + (size_t) ROOM_FOR_HEAD * config->max_header_list_size;
  return limit - (room < limit / 2 ? room : limit / 2);
}

bool valk__connection_may_hold(valk_connection_t *connection, size_t size) {
  size_t mark = soft_mark(&connection->thread->system->config);
  if (connection->resting > mark || size > mark - connection->resting)
    return false;
  connection->resting += size;
  return true;
}

bool valk__connection_charge(valk_connection_t *connection, size_t size) {
  size_t mark = soft_mark(&connection->thread->system->config);
  size_t used = atomic_load_explicit(&connection->ledger->used, memory_order_relaxed);
  return used + size <= mark && valk_ledger_charge(connection->ledger, size);
}

void valk__connection_check_memory(valk_connection_t *connection) {
  const valk_ledger_t *ledger = connection->ledger;
  size_t mark = soft_mark(&connection->thread->system->config);
  if (atomic_load_explicit(&ledger->used, memory_order_relaxed) <=
      mark + (ledger->limit - mark) / 4)
    return;
  /* While a header block comes in, what decoding takes for a moment counts too: later. */
  if (connection->h2 == NULL || connection->finishing || connection->drain_step == 2 ||
      valk_h2_in_header_block(connection->h2))
    return;
  if (connection->cause == NULL)
    connection->cause = &counters(connection)->closed.memory;
  connection->drain_step = 2;
  valk_h2_goaway(connection->h2, ENHANCE_YOUR_CALM);
  valk__connection_dirty(connection);
}

/* The second GOAWAY names the last stream that is answered; it comes a while after the first, so
 * that requests under way when the client read the first are still taken (RFC 9113, section 6.8).
 */
static void drain_further(valk_connection_t *connection) {
  valk_thread_t *thread = connection->thread;
  if (connection->drain_step != 1 || connection->finishing ||
      valk__now_ms(thread) - connection->drain_ms < 100)
    return;
  connection->drain_step = 2;
  valk_h2_goaway(connection->h2, 0);
  valk__connection_dirty(connection);
}

static bool wait_for_settings(valk_connection_t *connection) {
  if (connection->finishing || connection->drain_step > 0 ||
      (connection->h2 != NULL && valk_h2_settled(connection->h2)))
    return false;
  uint64_t now_ms = valk__now_ms(connection->thread);
  if (connection->drain_ms == 0)
    connection->drain_ms = now_ms;
  return now_ms - connection->drain_ms < DRAIN_HANDSHAKE_MS;
}

void valk__connections_drain(valk_thread_t *thread, valk_server_t *server) {
  uint64_t now = valk__clock_ns();
  bool any = false;
  for (valk_link_t *link = thread->connections.next, *next; link != &thread->connections;
       link = next) {
    next = link->next;
    valk_connection_t *connection = VALK_CONTAINER(link, valk_connection_t, link);
    valk_server_t *of = connection->server;
    if (connection->closing)
      continue;
    if (server != NULL ? of == server : atomic_load(&of->closing)) {
      any = true;
      if (!wait_for_settings(connection))
        valk__connection_drain(connection, &thread->counters.closed.stopped);
      if (now >= atomic_load(&of->deadline_ns)) {
        if (connection->h2 != NULL)
          valk_h2_goaway(connection->h2, 0);
        valk__connection_close(connection, &thread->counters.closed.stopped);
        continue;
      }
    }
    if (connection->drain_step == 1) {
      any = true;
      drain_further(connection);
    }
  }
  if (server == NULL)
    thread->draining = any;
}

void valk__connection_linger(valk_connection_t *connection) {
  /* Not until there is no more: a peer that sends as fast as we read would keep the thread. */
  for (int reads = 0; reads < LINGER_READS; reads++) {
    bool fault = valk__fault(VALK_FAULT_RECV);
    ssize_t n = fault ? -1
                      : recv(connection->fd, connection->thread->plain,
                             sizeof(connection->thread->plain), 0);
    if (n > 0 || (n < 0 && errno == EINTR))
      continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      if (!fault)
        connection->poll.ready &= ~VALK_POLL_READ;
      return;
    }
    valk__connection_close(connection, connection->cause);
    return;
  }
}

/* What the peer has sent and we have not read: then it is we who keep the handshake waiting. */
static bool has_unread(const valk_connection_t *connection) {
  char byte;
  return !valk__fault(VALK_FAULT_RECV) &&
         recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void valk__connections_evict(valk_thread_t *thread) {
  uint64_t now = valk__now_ms(thread);
  valk_deadlines_t *handshakes = &thread->deadlines[VALK_DEADLINE_HANDSHAKE];
  for (valk_link_t *link = handshakes->list.next; link != &handshakes->list; link = link->next) {
    valk_deadline_t *oldest = VALK_CONTAINER(link, valk_deadline_t, link);
    if (now - oldest->since_ms <= 1000)
      break;
    valk_connection_t *connection = VALK_CONTAINER(oldest, valk_connection_t, phase);
    if (connection->health || has_unread(connection))
      continue;
    valk__connection_close(connection, &thread->counters.closed.evicted);
    return;
  }
  valk_deadlines_t *idle = &thread->deadlines[VALK_DEADLINE_IDLE];
  for (valk_link_t *link = idle->list.next; link != &idle->list; link = link->next) {
    valk_deadline_t *oldest = VALK_CONTAINER(link, valk_deadline_t, link);
    if (now - oldest->since_ms < idle->duration_ms / 2)
      return;
    valk_connection_t *connection = VALK_CONTAINER(oldest, valk_connection_t, phase);
    if (connection->health || connection->drain_step > 0 || connection->finishing)
      continue;
    valk__connection_drain(connection, &thread->counters.closed.evicted);
    thread->draining = true;
    return;
  }
}

void valk__connection_check_rekeys(valk_connection_t *connection) {
  uint32_t rekeys = valk_tls_rekeys(connection->tls);
  if (rekeys - connection->rekeys_excused <= REKEYS_BURST)
    return;
  uint64_t now = valk__now_ms(connection->thread);
  uint64_t seconds = connection->rekeys_ms == 0 ? 0 : (now - connection->rekeys_ms) / 1000;
  if (connection->rekeys_ms == 0 || seconds > 0)
    connection->rekeys_ms = now;
  uint32_t over = rekeys - connection->rekeys_excused;
  connection->rekeys_excused += seconds < over ? (uint32_t) seconds : over;
  if (rekeys - connection->rekeys_excused <= REKEYS_BURST)
    return;
  if (connection->h2 != NULL)
    valk_h2_goaway(connection->h2, ENHANCE_YOUR_CALM);
  valk__connection_finish(connection, &counters(connection)->closed.flood);
}

void valk__connection_count_malformed(valk_connection_t *connection) {
  if (connection->h2 == NULL)
    return;
  uint64_t malformed = valk_h2_counts(connection->h2)->malformed;
  valk__count_add(&counters(connection)->reset.malformed, malformed - connection->malformed);
  connection->malformed = malformed;
}

static void handshake_expired(valk_deadline_t *deadline) {
  valk_connection_t *connection = VALK_CONTAINER(deadline, valk_connection_t, phase);
  valk__connection_close(connection, &counters(connection)->closed.handshake_timeout);
}

static void idle_expired(valk_deadline_t *deadline) {
  valk_connection_t *connection = VALK_CONTAINER(deadline, valk_connection_t, phase);
  connection->phase_kind = -1;
  if (connection->drain_step > 0) {
    valk__connection_close(connection, &counters(connection)->closed.idle_timeout);
    return;
  }
  valk__connection_drain(connection, &counters(connection)->closed.idle_timeout);
  connection->thread->draining = true;
}

static void headers_expired(valk_deadline_t *deadline) {
  valk_connection_t *connection = VALK_CONTAINER(deadline, valk_connection_t, phase);
  connection->phase_kind = -1;
  valk_h2_goaway(connection->h2, ENHANCE_YOUR_CALM);
  valk__connection_finish(connection, &counters(connection)->closed.headers_timeout);
}

static void write_expired(valk_deadline_t *deadline) {
  valk_connection_t *connection = VALK_CONTAINER(deadline, valk_connection_t, writing);
  valk__connection_close(connection, &counters(connection)->closed.write_timeout);
}

static void linger_expired(valk_deadline_t *deadline) {
  valk_connection_t *connection = VALK_CONTAINER(deadline, valk_connection_t, phase);
  valk__connection_close(connection, connection->cause);
}

void valk__connection_deadlines(valk_thread_t *thread) {
  thread->deadlines[VALK_DEADLINE_HANDSHAKE].expired = handshake_expired;
  thread->deadlines[VALK_DEADLINE_IDLE].expired = idle_expired;
  thread->deadlines[VALK_DEADLINE_HEADERS].expired = headers_expired;
  thread->deadlines[VALK_DEADLINE_WRITE].expired = write_expired;
  thread->deadlines[VALK_DEADLINE_LINGER].expired = linger_expired;
}
