/* Bodies in stream mode: what window each has, out of which memory, and how much of one is let come
 * together before it is read.
 *
 * A stream's window is memory: what the peer may send and its handler has not read. It begins with
 * a share of what its connection has for itself, and is doubled for as long as the handler reads as
 * fast as the peer sends, out of a pool that all connections share. So a peer gets of the pool no
 * more than it has sent already, and nobody takes from another what that one needs to go on. */
#include <sys/socket.h>

#include "fault.h"
#include "internal.h"

/* Less is not worth the WINDOW_UPDATE that tells of it. */
#define GROWTH_LEAST 8192u
/* What one growth may take of what the pool has left. */
#define GROWTH_SHARE 8

/* How much a socket lets come together: a wake-up of ours and one of the handler's for so many
 * bytes. Less than the least is not worth a system call; more than the most is not warm any more
 * when it is read. */
#define GATHER_LEAST (64u << 10)
#define GATHER_MOST (256u << 10)

/* At most half of what is left of the half of its connection's budget that uploads may have. The
 * other half is kept for answers: an upload may end only when its handler can go on answering. */
static uint32_t take_share(const valk_request_t *request) {
  valk_system_t *system = request->thread->system;
  int64_t left = atomic_load_explicit(&system->budgets[request->slot], memory_order_relaxed);
  left = (left - system->budget / 2) / 2;
  int64_t most = VALK_WINDOW_STREAMED - VALK_WINDOW_WAITING;
  if (left <= 0)
    return 0;
  return valk_budget_take(system, request->slot, 1, (uint32_t) (left < most ? left : most));
}

static uint64_t min(uint64_t one, uint64_t other) {
  return one < other ? one : other;
}

static uint32_t window_of(const valk_request_t *request) {
  return VALK_WINDOW_WAITING + request->own_window + request->pool_window;
}

/* What is known to come still; 0: not known. */
static uint64_t rest_of(const valk_request_t *request) {
  int64_t rest = request->head.content_length - (int64_t) request->received;
  return rest > 0 ? (uint64_t) rest : 0;
}

uint64_t valk_request_body_room(const valk_request_t *request) {
  if (request->ended)
    return 0;
  uint64_t window = window_of(request);
  uint64_t room = request->unconsumed < window ? window - request->unconsumed : 0;
  return request->head.content_length < 0 ? room : min(room, rest_of(request));
}

bool valk__upload_open(valk_request_t *request) {
  valk_connection_t *connection = request->connection;
  if (!valk__connection_charge(connection, VALK_WINDOW_WAITING))
    return false;
  request->window_charged = true;
  request->own_window = take_share(request);
  valk_h2_open_window(connection->h2, request->stream_id, window_of(request));
  return true;
}

void valk__upload_release(valk_request_t *request) {
  if (!request->window_charged || !request->ended || request->unconsumed > 0)
    return;
  valk_system_t *system = request->thread->system;
  request->window_charged = false;
  valk_ledger_credit(request->connection->ledger, VALK_WINDOW_WAITING);
  valk_budget_give(system, request->slot, request->own_window);
  valk_budget_give(system, VALK_SLOT_UPLOADS(system), request->pool_window);
  request->own_window = request->pool_window = 0;
}

void valk__upload_consumed(valk_request_t *request, size_t bytes) {
  request->used_since_growth += bytes;
  uint32_t window = window_of(request);
  if (!request->window_charged || window >= VALK_WINDOW_STREAMED ||
      request->used_since_growth < window)
    return;
  request->used_since_growth = 0;
  if (request->head.content_length >= 0 && rest_of(request) <= window)
    return;
  valk_system_t *system = request->thread->system;
  uint32_t slot = VALK_SLOT_UPLOADS(system);
  int64_t most = atomic_load_explicit(&system->budgets[slot], memory_order_relaxed) / GROWTH_SHARE;
  uint32_t want = VALK_WINDOW_STREAMED - window < window ? VALK_WINDOW_STREAMED - window : window;
  if (most < want)
    want = most > 0 ? (uint32_t) most : 0;
  uint32_t taken = valk_budget_take(system, slot, GROWTH_LEAST, want);
  if (taken == 0)
    return;
  request->pool_window += taken;
  valk_h2_open_window(request->connection->h2, request->stream_id, window + taken);
}

/* ---- what comes together ---- */

void valk__upload_received(valk_request_t *request, size_t length) {
  valk_connection_t *connection = request->connection;
  if (request->head.content_length < 0)
    return;
  if (request->reading != connection->reading) {
    request->reading = connection->reading;
    connection->upload_windows += window_of(request);
    connection->upload_rest += rest_of(request) + length;
  }
  connection->upload_rest -= length;
}

/* Where it fails the socket goes on as it was; while that is more than 1 it is tried again. */
static void set_low_water(valk_connection_t *connection, int bytes) {
  /* Where enough lies there already the socket tells of it anew. */
  if (bytes != connection->low_water && !valk__fault(VALK_FAULT_OPTION) &&
      setsockopt(connection->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes)) == 0)
    connection->low_water = bytes;
  if (connection->low_water > 1) {
    valk__deadline_start(connection->thread, VALK_DEADLINE_GATHER, &connection->gathering);
  } else {
    valk__deadline_stop(&connection->gathering);
  }
}

void valk__uploads_begin_read(valk_connection_t *connection) {
  connection->reading++;
  connection->upload_windows = connection->upload_rest = 0;
}

void valk__uploads_end_read(valk_connection_t *connection, size_t received) {
  bool much = received >= GATHER_LEAST / 2;
  if ((!much && connection->low_water <= 1) || connection->upload_windows == 0)
    return;
  /* nghttp2 holds back up to half of a window before it opens it again: the peer is sure of the
   * other half. Raised only to half of that, so that it is not moved to and fro. */
  uint64_t windows = connection->upload_windows, rest = connection->upload_rest;
  int bytes = connection->low_water > 1 ? connection->low_water : (int) GATHER_LEAST;
  while (much && bytes < (int) GATHER_MOST && 2 * (uint64_t) bytes <= min(windows / 4, rest))
    bytes *= 2;
  while (bytes >= (int) GATHER_LEAST && (uint64_t) bytes > min(windows / 2, rest))
    bytes /= 2;
  set_low_water(connection, bytes >= (int) GATHER_LEAST ? bytes : 1);
}

static void gather_expired(valk_deadline_t *deadline) {
  set_low_water(VALK_CONTAINER(deadline, valk_connection_t, gathering), 1);
}

void valk__upload_deadlines(valk_thread_t *thread) {
  thread->deadlines[VALK_DEADLINE_GATHER].expired = gather_expired;
}
