/* A connection: one socket with its buffers, TLS and HTTP/2; reading, back-pressure, timeouts, the
 * end. connection_write.c has its writing.
 *
 * Reading lends a TCP buffer for as long as one recv is being worked off; an idle connection holds
 * none. Writing holds one from the first byte to encrypt until the socket has taken the last. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fault.h"
#include "internal.h"

#define READS_A_TURN 4

static valk_counters_t *counters(valk_connection_t *connection) {
  return &connection->thread->counters;
}

/* ---- what the poller is asked for ---- */

/* It tells once that there is something to read: who stopped before the end of it is called again
 * when nothing is in the way any more. */
static void read_again(valk_connection_t *connection) {
  if (connection->closing || (connection->poll.ready & VALK_POLL_READ) == 0)
    return;
  bool stalled = connection->in != NULL || valk__listed(&connection->read_wait);
  if (connection->lingering || (!stalled && !connection->finishing))
    valk__poll_again(&connection->thread->poller, &connection->poll);
}

void valk__buffer_wait(valk_thread_t *thread, valk_link_t *list, valk_link_t *wait) {
  valk__list_append(list, wait);
  valk__count(&thread->counters.buffer_waiters);
}

void valk__buffer_stop_waiting(valk_thread_t *thread, valk_link_t *wait) {
  if (!valk__listed(wait))
    return;
  valk__list_remove(wait);
  valk__uncount(&thread->counters.buffer_waiters);
}

/* ---- phases: at most one deadline of the connection's own runs ---- */

void valk__connection_set_phase(valk_connection_t *connection, int kind) {
  if (kind == connection->phase_kind)
    return;
  connection->phase_kind = kind;
  if (kind < 0) {
    valk__deadline_stop(&connection->phase);
  } else {
    valk__deadline_start(connection->thread, kind, &connection->phase);
  }
}

static void update_phase(valk_connection_t *connection) {
  if (connection->closing || connection->lingering)
    return;
  if (connection->h2 == NULL || !valk_h2_settled(connection->h2)) {
    valk__connection_set_phase(connection, VALK_DEADLINE_HANDSHAKE);
  } else if (valk_h2_in_header_block(connection->h2)) {
    valk__connection_set_phase(connection, VALK_DEADLINE_HEADERS);
  } else if (connection->streams == 0) {
    valk__connection_set_phase(connection, VALK_DEADLINE_IDLE);
  } else {
    valk__connection_set_phase(connection, -1);
  }
}

/* ---- the end ---- */

void valk__connection_place_free(valk_thread_t *thread, valk_server_t *server, uint32_t slot,
                                 bool health) {
  valk_system_t *system = thread->system;
  atomic_fetch_sub_explicit(&thread->assigned, 1, memory_order_relaxed);
  if (health) {
    valk_gate_release(&server->health_gate);
  } else {
    uv_mutex_lock(&system->slot_lock);
    system->free_slots[system->free_slot_count++] = slot;
    uv_mutex_unlock(&system->slot_lock);
    valk_gate_release(&system->connections);
  }
  valk__server_unref(server);
}

static void on_closed(valk_poll_t *poll) {
  valk_connection_t *connection = VALK_CONTAINER(poll, valk_connection_t, poll);
  valk_thread_t *thread = connection->thread;
  valk_server_t *server = connection->server;
  uint32_t slot = connection->slot;
  bool health = connection->health;
  valk__list_remove(&connection->link);
  valk__uncount(&thread->counters.active);
  valk__connection_peer_free(connection);
  valk_ledger_close(connection->ledger);
  free(connection);
  valk__connection_place_free(thread, server, slot, health);
}

void valk__connection_put_buffer(valk_connection_t *connection, uint8_t **buffer) {
  if (*buffer == NULL)
    return;
  valk_slab_put(&connection->thread->system->buffers, *buffer);
  *buffer = NULL;
}

void valk__connection_close(valk_connection_t *connection, valk_counter_t *cause) {
  if (connection->closing)
    return;
  if (connection->cause == NULL)
    connection->cause = cause;
  if (connection->depth > 0) {
    connection->close_now = true;
    return;
  }
  connection->closing = true;
  valk__count(connection->cause);
  /* Last chance for what is encrypted already: a GOAWAY, an alert. It goes or it does not. */
  if (connection->out != NULL && connection->out_sent < connection->out_length &&
      !valk__fault(VALK_FAULT_SEND)) {
    ssize_t sent = send(connection->fd, connection->out + connection->out_sent,
                        connection->out_length - connection->out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void) sent;
  }
  valk_ledger_t *previous = valk_ledger_enter(connection->ledger);
  if (connection->h2 != NULL)
    valk_h2_free(connection->h2); /* ends each stream: on_close */
  connection->h2 = NULL;
  if (connection->tls != NULL)
    valk_tls_free(connection->tls);
  connection->tls = NULL;
  valk_ledger_free(connection->held);
  connection->held = NULL;
  valk_ledger_enter(previous);
  valk__deadline_stop(&connection->phase);
  valk__deadline_stop(&connection->writing);
  valk__deadline_stop(&connection->gathering);
  valk__list_remove(&connection->dirty);
  valk__buffer_stop_waiting(connection->thread, &connection->read_wait);
  valk__buffer_stop_waiting(connection->thread, &connection->write_wait);
  valk__list_remove(&connection->turns[0]);
  valk__list_remove(&connection->turns[1]);
  valk__connection_put_buffer(connection, &connection->in);
  valk__connection_put_buffer(connection, &connection->out);
  valk__poll_close(&connection->thread->poller, &connection->poll);
}

bool valk__connection_leave(valk_connection_t *connection) {
  if (--connection->depth == 0 && connection->close_now && !connection->closing) {
    valk__connection_close(connection, connection->cause);
  }
  return connection->closing || connection->close_now;
}

/* Nothing more is to be said: send what there is, close_notify, FIN; then wait for the peer's FIN,
 * so that the kernel does not answer late bytes with a reset that takes our last words with it. */
void valk__connection_finish(valk_connection_t *connection, valk_counter_t *cause) {
  if (connection->cause == NULL)
    connection->cause = cause;
  connection->finishing = true;
  valk__connection_dirty(connection);
}

void valk__connection_dirty(valk_connection_t *connection) {
  if (connection->closing || valk__listed(&connection->dirty))
    return;
  valk__list_append(&connection->thread->dirty, &connection->dirty);
}

void valk__connection_stream_ended(valk_connection_t *connection) {
  connection->streams--;
  if (connection->depth == 0)
    update_phase(connection);
}

/* ---- reading ---- */

static bool begin_h2(valk_connection_t *connection) {
  const valk_config_t *config = &connection->thread->system->config;
  connection->handshaken = true;
  valk__count(&counters(connection)->handshakes);
  if (valk_tls_resumed(connection->tls))
    valk__count(&counters(connection)->resumed);
  if (!valk_tls_is_h2(connection->tls)) {
    valk__connection_finish(connection, &counters(connection)->closed.no_h2);
    return false;
  }
  valk_h2_options_t options = {
      .max_concurrent_streams = connection->health ? 4 : config->max_concurrent_streams,
      .max_header_list_size = config->max_header_list_size,
      .max_header_fields = VALK_MAX_HEADER_FIELDS,
      .stream_window = VALK_WINDOW_WAITING,
      .connection_window = VALK_WINDOW_CONNECTION,
      .reset_budget = config->max_concurrent_streams * 10,
      .reset_refill = config->max_concurrent_streams,
  };
  int result =
      valk_h2_new(&options, &valk__request_events, connection, connection->ledger, &connection->h2);
  if (result != 0) {
    valk__connection_close(connection, &counters(connection)->closed.memory);
    return false;
  }
  valk__connection_dirty(connection);
  return true;
}

void valk__connection_feed_h2(valk_connection_t *connection, size_t length) {
  valk_thread_t *thread = connection->thread;
  switch (valk_h2_receive(connection->h2, thread->plain, length, valk__now_ms(thread))) {
  case VALK_H2_OK:
    break;
  case VALK_H2_PROTOCOL:
    valk__connection_finish(connection, &thread->counters.closed.protocol);
    break;
  case VALK_H2_FLOOD:
    valk__connection_finish(connection, &thread->counters.closed.flood);
    break;
  case VALK_H2_PREFACE:
    valk__connection_finish(connection, &thread->counters.closed.no_h2);
    break;
  case VALK_H2_MEMORY:
    valk__connection_close(connection, &thread->counters.closed.memory);
    break;
  }
}

typedef enum { TAKEN, STALLED, ENDED } take_t;

/* Gives |input| to TLS and HTTP/2. STALLED: TLS has to write first and has no room. */
static take_t take(valk_connection_t *connection, valk_tls_input_t *input) {
  valk_thread_t *thread = connection->thread;
  take_t taken = TAKEN;
  if (connection->h2 == NULL || !valk_h2_in_header_block(connection->h2))
    connection->resting = atomic_load_explicit(&connection->ledger->used, memory_order_relaxed);
  valk_ledger_t *previous = valk_ledger_enter(connection->ledger);
  connection->depth++;
  for (bool going = true; going && !connection->close_now && !connection->finishing;) {
    valk_tls_output_t output = {connection->out, connection->out == NULL ? 0 : VALK_TCP_BUFFER_SIZE,
                                connection->out_length};
    size_t length = 0;
    valk_tls_result_t result = valk_tls_read(connection->tls, input, &output, thread->plain,
                                             sizeof(thread->plain), &length);
    if (connection->out != NULL && output.length != connection->out_length) {
      connection->out_length = (uint32_t) output.length;
      valk__connection_dirty(connection);
    }
    valk__connection_check_rekeys(connection);
    switch (result) {
    case VALK_TLS_OK:
    case VALK_TLS_WANT_INPUT:
      if (!connection->handshaken && valk_tls_handshaken(connection->tls) &&
          !begin_h2(connection)) {
        going = false;
        break;
      }
      if (length > 0)
        valk__connection_feed_h2(connection, length);
      if (result == VALK_TLS_WANT_INPUT)
        going = false;
      break;
    case VALK_TLS_WANT_OUTPUT:
      if (connection->out != NULL && connection->out_length > 0) {
        if (valk__connection_send_out(connection))
          break;
        taken = STALLED;
        going = false;
      } else if (!valk__connection_need_out(connection)) {
        taken = STALLED;
        going = false;
      }
      break;
    case VALK_TLS_CLOSED:
      valk__connection_finish(connection, &counters(connection)->closed.peer);
      break;
    case VALK_TLS_FAILED:
      connection->finishing = connection->notified = true; /* the alert is our last word */
      connection->cause = atomic_load(&connection->ledger->refused) > 0
                              ? &counters(connection)->closed.memory
                              : &counters(connection)->closed.tls;
      valk__connection_dirty(connection);
      break;
    }
  }
  valk_ledger_enter(previous);
  if (valk__connection_leave(connection))
    return ENDED;
  /* A flush ends who has nothing more to say. */
  if (connection->h2 != NULL &&
      (valk_h2_wants_write(connection->h2) || !valk_h2_alive(connection->h2)))
    valk__connection_dirty(connection);
  return connection->finishing ? ENDED : taken;
}

/* Where what came before stalled: True, it may read on. */
static bool take_rest(valk_connection_t *connection) {
  if (connection->in == NULL)
    return true;
  valk_tls_input_t input = {connection->in, connection->in_length, connection->in_used};
  take_t taken = take(connection, &input);
  if (connection->closing)
    return false;
  connection->in_used = (uint32_t) input.used;
  if (taken == STALLED)
    return false;
  valk__connection_put_buffer(connection, &connection->in);
  return taken == TAKEN;
}

/* |buffer|: to read into, which is given back here; NULL, one is taken. */
static void receive(valk_connection_t *connection, uint8_t *buffer) {
  valk_thread_t *thread = connection->thread;
  valk_system_t *system = thread->system;
  valk__uploads_begin_read(connection);
  if (!take_rest(connection) || valk__listed(&connection->read_wait)) {
    if (buffer != NULL)
      valk_slab_put(&system->buffers, buffer);
    return;
  }
  if (buffer == NULL && valk__list_empty(&thread->buffer_readers)) {
    buffer = valk_slab_get(&system->buffers, thread->index, VALK_LEVEL_READ);
  }
  if (buffer == NULL) {
    valk__buffer_wait(thread, &thread->buffer_readers, &connection->read_wait);
    return;
  }
  size_t received = 0;
  for (int reads = 0; reads < READS_A_TURN; reads++) {
    size_t room = valk__fault(VALK_FAULT_RECV_SHORT) ? 1 : VALK_TCP_BUFFER_SIZE;
    bool fault = valk__fault(VALK_FAULT_RECV);
    ssize_t n = fault ? -1 : recv(connection->fd, buffer, room, 0);
    if (n < 0) {
      if (errno == EINTR)
        continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        if (!fault)
          connection->poll.ready &= ~VALK_POLL_READ;
      } else if (errno != ENOBUFS && errno != ENOMEM) {
        valk__connection_close(connection, &thread->counters.closed.peer);
      }
      break;
    }
    if (n == 0) {
      valk__connection_close(connection, &thread->counters.closed.peer);
      break;
    }
    valk__count_add(&thread->counters.bytes_in, (uint64_t) n);
    received += (size_t) n;
    /* Less than was asked for is all there is, and what comes later is told of. */
    bool emptied = (size_t) n < room;
    connection->read_all = emptied && (connection->poll.ready & VALK_POLL_END) != 0;
    bool drained = emptied && !connection->read_all;
    if (drained)
      connection->poll.ready &= ~VALK_POLL_READ;
    valk_tls_input_t input = {buffer, (size_t) n, 0};
    take_t taken = take(connection, &input);
    if (!connection->closing)
      valk__connection_check_memory(connection);
    if (taken == ENDED)
      break;
    if (taken == STALLED) {
      /* The buffer stays with the connection until TLS has room to write. */
      connection->in = buffer;
      connection->in_length = (uint32_t) n;
      connection->in_used = (uint32_t) input.used;
      buffer = NULL;
      break;
    }
    if (drained)
      break;
  }
  if (buffer != NULL)
    valk_slab_put(&system->buffers, buffer);
  if (!connection->closing)
    valk__uploads_end_read(connection, received);
}

static void on_ready(valk_poll_t *poll) {
  valk_connection_t *connection = VALK_CONTAINER(poll, valk_connection_t, poll);
  connection->thread->turn_ns = valk__clock_ns();
  if (connection->out != NULL && connection->out_sent < connection->out_length)
    valk__connection_dirty(connection);
  if (poll->ready & VALK_POLL_READ) {
    if (connection->lingering) {
      valk__connection_linger(connection);
    } else if (!connection->finishing) {
      receive(connection, NULL);
    }
  }
  if (connection->closing)
    return;
  read_again(connection);
  update_phase(connection);
  valk__thread_visited(connection->thread);
}

void valk__connection_flush(valk_connection_t *connection) {
  if (connection->closing || connection->lingering)
    return;
  if (!valk__connection_write(connection))
    return;
  /* Room again: TLS may go on with what it could not take. */
  if (connection->in != NULL &&
      (connection->out == NULL || connection->out_sent == connection->out_length)) {
    receive(connection, NULL);
    if (connection->closing)
      return;
  }
  read_again(connection);
  update_phase(connection);
}

void valk__connections_serve_buffers(valk_thread_t *thread) {
  valk_slab_t *buffers = &thread->system->buffers;
  while (!valk__list_empty(&thread->buffer_writers)) {
    valk_connection_t *connection =
        VALK_CONTAINER(thread->buffer_writers.next, valk_connection_t, write_wait);
    uint8_t *buffer = valk_slab_get(buffers, thread->index, VALK_LEVEL_WRITE);
    if (buffer == NULL)
      return;
    valk__buffer_stop_waiting(thread, &connection->write_wait);
    connection->out = buffer;
    connection->out_length = connection->out_sent = 0;
    valk__connection_flush(connection);
  }
  valk_slab_settle(buffers, thread->index, VALK_LEVEL_WRITE);
  while (!valk__list_empty(&thread->buffer_readers)) {
    valk_connection_t *connection =
        VALK_CONTAINER(thread->buffer_readers.next, valk_connection_t, read_wait);
    uint8_t *buffer = valk_slab_try(buffers, thread->index, VALK_LEVEL_READ);
    if (buffer == NULL) {
      buffer = valk_slab_get(buffers, thread->index, VALK_LEVEL_READ);
      if (buffer == NULL)
        return;
    }
    valk__buffer_stop_waiting(thread, &connection->read_wait);
    receive(connection, buffer);
    if (connection->closing)
      continue;
    read_again(connection);
    update_phase(connection);
  }
  valk_slab_settle(buffers, thread->index, VALK_LEVEL_READ);
}

/* ---- beginning ---- */

void valk__connection_open(valk_thread_t *thread, valk_server_t *server, int fd, uint32_t slot,
                           bool health, const struct sockaddr_storage *remote) {
  valk_connection_t *connection = NULL;
  if (!thread->exiting) {
    connection = valk__fault(VALK_FAULT_MALLOC) ? NULL : calloc(1, sizeof(*connection));
  }
  if (connection == NULL) {
    close(fd);
    valk__connection_place_free(thread, server, slot, health);
    return;
  }
  connection->thread = thread;
  connection->server = server;
  connection->fd = fd;
  connection->slot = slot;
  connection->health = health;
  connection->remote = *remote;
  connection->phase_kind = -1;
  valk__list_init(&connection->link);
  valk__list_init(&connection->dirty);
  valk__list_init(&connection->read_wait);
  valk__list_init(&connection->write_wait);
  for (int i = 0; i < 2; i++) {
    valk__list_init(&connection->turns[i]);
    valk__list_init(&connection->waiting[i]);
  }
  valk__list_init(&connection->wanting);
  valk__list_init(&connection->phase.link);
  valk__list_init(&connection->writing.link);
  valk__list_init(&connection->gathering.link);
  connection->low_water = 1;
  connection->ledger = valk_ledger_new(thread->system->config.connection_heap_size);
  valk_ledger_t *previous = valk_ledger_enter(connection->ledger);
  int result = connection->ledger == NULL ? VALK_ENOMEM
                                          : valk__server_tls_new(server, health, &connection->tls);
  valk_ledger_enter(previous);
  connection->poll.on_ready = on_ready;
  connection->poll.on_closed = on_closed;
  if (result == 0)
    result = valk__poll_open(&thread->poller, &connection->poll, fd, false);
  if (result != 0) {
    valk_tls_free(connection->tls); /* NULL, unless it was the poller */
    if (connection->ledger != NULL)
      valk_ledger_close(connection->ledger);
    free(connection);
    close(fd);
    valk__connection_place_free(thread, server, slot, health);
    return;
  }
  valk__list_append(&thread->connections, &connection->link);
  valk__count(&thread->counters.active);
  valk__count(&thread->counters.accepted);
  if (atomic_load(&server->closing))
    thread->draining = true; /* it was in the listener's queue: served, and drained as the others */
  update_phase(connection);
}
