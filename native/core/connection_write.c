/* A connection's writing: frames from HTTP/2 into TLS records, those into a TCP buffer, that into
 * the socket; and its last words. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "fault.h"
#include "internal.h"

static valk_counters_t *counters(valk_connection_t *connection) {
  return &connection->thread->counters;
}

bool valk__connection_need_out(valk_connection_t *connection) {
  if (connection->out != NULL)
    return true;
  valk_thread_t *thread = connection->thread;
  if (valk__listed(&connection->write_wait))
    return false;
  if (valk__list_empty(&thread->buffer_writers)) {
    connection->out = valk_slab_get(&thread->system->buffers, thread->index, VALK_LEVEL_WRITE);
    connection->out_length = connection->out_sent = 0;
    if (connection->out != NULL)
      return true;
  }
  valk__buffer_wait(thread, &thread->buffer_writers, &connection->write_wait);
  return false;
}

bool valk__connection_send_out(valk_connection_t *connection) {
  while (connection->out_sent < connection->out_length) {
    size_t length = connection->out_length - connection->out_sent;
    if (valk__fault(VALK_FAULT_SHORT))
      length = 1;
    bool fault = valk__fault(VALK_FAULT_SEND);
    ssize_t sent =
        fault ? -1
              : send(connection->fd, connection->out + connection->out_sent, length, MSG_NOSIGNAL);
    if (sent >= 0) {
      connection->out_sent += (uint32_t) sent;
      valk__count_add(&counters(connection)->bytes_out, (uint64_t) sent);
      if (valk__listed(&connection->writing.link)) {
        valk__deadline_start(connection->thread, VALK_DEADLINE_WRITE, &connection->writing);
      }
    } else if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ENOMEM) {
      if (!valk__listed(&connection->writing.link)) {
        valk__deadline_start(connection->thread, VALK_DEADLINE_WRITE, &connection->writing);
      }
      /* Of memory that is free again nobody tells. */
      if (fault || errno == ENOBUFS || errno == ENOMEM)
        valk__poll_again(&connection->thread->poller, &connection->poll);
      return false;
    } else if (errno != EINTR) {
      valk__connection_close(connection, &counters(connection)->closed.peer);
      return false;
    }
  }
  valk__deadline_stop(&connection->writing);
  connection->out_length = connection->out_sent = 0;
  return true;
}

/* Keeps frames that TLS could not take: nghttp2 gives them out only once. */
static bool hold(valk_connection_t *connection, const uint8_t *frames, size_t length) {
  connection->held = valk_ledger_malloc(connection->ledger, length);
  if (connection->held == NULL)
    return false;
  memcpy(connection->held, frames, length);
  connection->held_length = (uint32_t) length;
  return true;
}

/* Encrypts frames into the buffer until it is full or none are left. False when the connection is
 * closing. */
static bool fill_out(valk_connection_t *connection, bool *more) {
  valk_thread_t *thread = connection->thread;
  valk_tls_output_t output = {connection->out, VALK_TCP_BUFFER_SIZE, connection->out_length};
  valk_ledger_t *previous = valk_ledger_enter(connection->ledger);
  connection->depth++;
  *more = false;
  valk_counter_t *fatal = NULL;
  while (fatal == NULL) {
    if (output.capacity - output.length < VALK_TLS_RECORD_MAX) {
      *more = true;
      break;
    }
    if (valk_tls_pending_output(connection->tls)) {
      valk_tls_input_t none = {NULL, 0, 0};
      size_t length = 0;
      valk_tls_result_t result = valk_tls_read(connection->tls, &none, &output, thread->plain,
                                               sizeof(thread->plain), &length);
      if (length > 0 && connection->h2 != NULL)
        valk__connection_feed_h2(connection, length);
      if (result == VALK_TLS_FAILED)
        fatal = &counters(connection)->closed.tls;
      if (valk_tls_pending_output(connection->tls))
        break;
      continue;
    }
    if (connection->h2 == NULL)
      break;
    const uint8_t *frames = connection->held != NULL ? connection->held : thread->frames;
    ssize_t length = connection->held != NULL
                         ? (ssize_t) connection->held_length
                         : valk_h2_send(connection->h2, thread->frames, sizeof(thread->frames));
    if (length == 0)
      break;
    if (length < 0) {
      fatal = &counters(connection)->closed.memory;
      break;
    }
    valk_tls_result_t result = valk_tls_write(connection->tls, frames, (size_t) length, &output);
    if (result == VALK_TLS_OK) {
      valk_ledger_free(connection->held);
      connection->held = NULL;
    } else if (result == VALK_TLS_FAILED || result == VALK_TLS_CLOSED) {
      fatal = &counters(connection)->closed.tls;
    } else {
      if (connection->held == NULL && !hold(connection, frames, (size_t) length))
        fatal = &counters(connection)->closed.memory;
      *more = result == VALK_TLS_WANT_OUTPUT;
      break;
    }
  }
  connection->out_length = (uint32_t) output.length;
  valk__connection_count_malformed(connection);
  valk_ledger_enter(previous);
  if (fatal != NULL)
    valk__connection_close(connection, fatal);
  return !valk__connection_leave(connection);
}

static bool wants_write(valk_connection_t *connection) {
  return connection->held != NULL ||
         (connection->tls != NULL && valk_tls_pending_output(connection->tls)) ||
         (connection->h2 != NULL && valk_h2_wants_write(connection->h2));
}

/* close_notify and FIN, once everything else has been sent; then the peer's end is waited for,
 * unless it has come. */
static void say_goodbye(valk_connection_t *connection) {
  if (!connection->notified) {
    if (!valk__connection_need_out(connection))
      return;
    connection->notified = true;
    valk_tls_output_t output = {connection->out, VALK_TCP_BUFFER_SIZE, connection->out_length};
    valk_ledger_t *previous = valk_ledger_enter(connection->ledger);
    (void) valk_tls_shutdown(connection->tls, &output);
    valk_ledger_enter(previous);
    connection->out_length = (uint32_t) output.length;
    if (!valk__connection_send_out(connection))
      return;
    valk__connection_put_buffer(connection, &connection->out);
  }
  if (connection->read_all && connection->out == NULL) {
    /* Nothing can come any more that the kernel would answer with a reset. */
    valk__connection_close(connection, connection->cause);
    return;
  }
  if (!connection->shut && connection->out == NULL) {
    connection->shut = true;
    /* Fails when the peer has reset the connection: reading tells. */
    if (!valk__fault(VALK_FAULT_OPTION))
      shutdown(connection->fd, SHUT_WR);
    connection->lingering = true;
    valk__connection_set_phase(connection, VALK_DEADLINE_LINGER);
  }
}

/* What TLS has written while it read, a ticket say, leaves together with the frames that follow. */
static bool top_up_out(valk_connection_t *connection) {
  bool more;
  return connection->out == NULL || connection->out_length == 0 || !wants_write(connection) ||
         fill_out(connection, &more);
}

bool valk__connection_write(valk_connection_t *connection) {
  if (!top_up_out(connection))
    return false;
  for (unsigned buffers = 0;; buffers++) {
    if (connection->out != NULL && connection->out_sent < connection->out_length &&
        !valk__connection_send_out(connection))
      break;
    if (connection->closing)
      return false;
    if (!wants_write(connection)) {
      valk__connection_put_buffer(connection, &connection->out);
      break;
    }
    if (buffers == VALK_OUT_TURN) {
      valk__connection_dirty(connection);
      connection->thread->again = true;
      break;
    }
    if (!valk__connection_need_out(connection))
      break;
    bool more = false;
    if (!fill_out(connection, &more))
      return false;
    if (connection->out_length == 0 && !more) {
      valk__connection_put_buffer(connection, &connection->out);
      break;
    }
  }
  if (connection->closing)
    return false;
  if (!valk__list_empty(&connection->wanting))
    valk__connection_serve_wanting(connection);
  bool flushed = connection->out == NULL && connection->held == NULL && !wants_write(connection);
  if (flushed && connection->h2 != NULL && !valk_h2_alive(connection->h2))
    connection->finishing = true;
  if (flushed && connection->finishing) {
    if (connection->cause == NULL)
      connection->cause = &counters(connection)->closed.peer;
    say_goodbye(connection);
  }
  return !connection->closing;
}
