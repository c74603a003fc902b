/* Listening and accepting, on thread 0. accept4 on a polled socket, since uv_listen accepts one
 * connection ahead and, out of descriptors, closes the backlog: here what has no place waits in the
 * kernel's queue. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fault.h"
#include "internal.h"

#define ACCEPTS_A_TURN 64
#define BACKLOG 4096
/* Less than a heartbeat, which comes four times a second: other deadlines come more often. */
#define PRESS_EVERY_MS 200u

int valk__listener_bind(valk_listener_t *listener, const char *host, uint16_t port, bool reuse_port,
                        char *error, size_t error_size) {
  struct sockaddr_storage address;
  socklen_t length;
  memset(&address, 0, sizeof(address));
  if (uv_ip4_addr(host, port, (struct sockaddr_in *) &address) == 0) {
    length = sizeof(struct sockaddr_in);
  } else if (uv_ip6_addr(host, port, (struct sockaddr_in6 *) &address) == 0) {
    length = sizeof(struct sockaddr_in6);
  } else {
    snprintf(error, error_size, "\"%s\" is not an IP address", host);
    return UV_EINVAL;
  }
  const char *step = "socket";
  int on = 1;
  int fd = valk__fault(VALK_FAULT_SOCKET)
               ? -1
               : socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int result = fd < 0 ? -errno : 0;
  if (result == 0) {
    step = "setsockopt";
    if (valk__fault(VALK_FAULT_SOCKET) ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0)
      result = -errno;
  }
  if (result == 0 && reuse_port &&
      (valk__fault(VALK_FAULT_SOCKET) ||
       setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0))
    result = -errno;
  if (result == 0) {
    step = "bind";
    if (valk__fault(VALK_FAULT_SOCKET) || bind(fd, (struct sockaddr *) &address, length) != 0)
      result = -errno;
  }
  if (result == 0) {
    step = "listen";
    if (valk__fault(VALK_FAULT_SOCKET) || listen(fd, BACKLOG) != 0)
      result = -errno;
  }
  if (result == 0) {
    step = "getsockname";
    if (valk__fault(VALK_FAULT_SOCKET) ||
        getsockname(fd, (struct sockaddr *) &address, &length) != 0)
      result = -errno;
  }
  if (result != 0) {
    snprintf(error, error_size, "%s %s:%u: %s", step, host, (unsigned) port, uv_strerror(result));
    if (fd >= 0)
      close(fd);
    return result;
  }
  /* Its connections have it from here on (tcp(7) does not say so, but Linux copies it). Without it
   * they are slower, no more. */
  if (!valk__fault(VALK_FAULT_OPTION))
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  listener->fd = fd;
  listener->port =
      ntohs(address.ss_family == AF_INET ? ((struct sockaddr_in *) &address)->sin_port
                                         : ((struct sockaddr_in6 *) &address)->sin6_port);
  return 0;
}

static void pause_listener(valk_thread_t *thread, valk_listener_t *listener) {
  if (listener->paused)
    return;
  listener->paused = true;
  (void) valk__poll_level(&thread->poller, &listener->poll, false);
}

static void resume_listener(valk_thread_t *thread, valk_listener_t *listener) {
  if (!listener->open || !listener->paused)
    return;
  /* Else it stays paused, and the heartbeat tries again. */
  listener->paused = valk__poll_level(&thread->poller, &listener->poll, true) != 0;
}

void valk__listeners_resume(valk_thread_t *thread) {
  valk_system_t *system = thread->system;
  valk_gate_settle(&system->connections, thread->index, 0);
  uv_mutex_lock(&system->lock);
  for (valk_server_t *server = system->servers; server != NULL; server = server->next) {
    resume_listener(thread, &server->listener);
    resume_listener(thread, &server->health);
  }
  uv_mutex_unlock(&system->lock);
}

/* ---- handing over ---- */

typedef struct {
  valk_mail_t mail;
  valk_server_t *server;
  int fd;
  uint32_t slot;
  bool health;
  struct sockaddr_storage remote;
} connection_mail_t;

static void open_connection(valk_thread_t *thread, valk_mail_t *mail) {
  connection_mail_t *letter = (connection_mail_t *) mail;
  valk__connection_open(thread, letter->server, letter->fd, letter->slot, letter->health,
                        &letter->remote);
  free(letter);
}

/* The thread with the fewest connections gets the next one. */
static valk_thread_t *choose_thread(valk_system_t *system) {
  valk_thread_t *best = &system->threads[0];
  uint64_t least = UINT64_MAX;
  for (unsigned i = 0; i < system->thread_count; i++) {
    valk_thread_t *thread = &system->threads[i];
    uint64_t load = atomic_load_explicit(&thread->assigned, memory_order_relaxed);
    if (load < least) {
      least = load;
      best = thread;
    }
  }
  return best;
}

static void assign(valk_thread_t *self, valk_listener_t *listener, int fd, uint32_t slot,
                   const struct sockaddr_storage *remote) {
  valk_server_t *server = listener->server;
  valk_thread_t *thread = choose_thread(self->system);
  atomic_fetch_add(&server->active, 1);
  atomic_fetch_add_explicit(&thread->assigned, 1, memory_order_relaxed);
  if (thread == self) {
    valk__connection_open(thread, server, fd, slot, listener->health, remote);
    return;
  }
  connection_mail_t *letter = valk__fault(VALK_FAULT_MALLOC) ? NULL : malloc(sizeof(*letter));
  if (letter == NULL) {
    close(fd);
    valk__connection_place_free(thread, server, slot, listener->health);
    return;
  }
  letter->mail.open = open_connection;
  letter->server = server;
  letter->fd = fd;
  letter->slot = slot;
  letter->health = listener->health;
  letter->remote = *remote;
  valk__thread_post(thread, &letter->mail);
}

/* A place for a connection; false: there is none, and we wait at the gate. */
static bool take_place(valk_thread_t *thread, valk_listener_t *listener, uint32_t *slot) {
  valk_system_t *system = thread->system;
  if (listener->health) {
    *slot = system->config.max_connections; /* shared: health answers are charged to nobody */
    return valk_gate_acquire(&listener->server->health_gate, thread->index, 0);
  }
  if (!valk_gate_acquire(&system->connections, thread->index, 0))
    return false;
  uv_mutex_lock(&system->slot_lock);
  *slot = system->free_slots[--system->free_slot_count];
  uv_mutex_unlock(&system->slot_lock);
  return true;
}

static void give_place(valk_thread_t *thread, valk_listener_t *listener, uint32_t slot) {
  valk_system_t *system = thread->system;
  if (listener->health) {
    valk_gate_release(&listener->server->health_gate);
    return;
  }
  uv_mutex_lock(&system->slot_lock);
  system->free_slots[system->free_slot_count++] = slot;
  uv_mutex_unlock(&system->slot_lock);
  valk_gate_release(&system->connections);
}

typedef enum {
  ACCEPTED,
  ACCEPT_EMPTY,   /* nobody waits */
  ACCEPT_NO_PLACE /* no place, descriptor or memory: try again later */
} accept_result_t;

static accept_result_t accept_one(valk_thread_t *thread, valk_listener_t *listener) {
  uint32_t slot;
  if (!take_place(thread, listener, &slot))
    return ACCEPT_NO_PLACE;
  struct sockaddr_storage remote;
  socklen_t length = sizeof(remote);
  int fd = valk__fault(VALK_FAULT_ACCEPT) ? -1
                                          : accept4(listener->fd, (struct sockaddr *) &remote,
                                                    &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd >= 0) {
    assign(thread, listener, fd, slot, &remote);
    return ACCEPTED;
  }
  int error = errno;
  give_place(thread, listener, slot);
  if (error == EAGAIN || error == EWOULDBLOCK)
    return ACCEPT_EMPTY;
  /* Else the peer gave up, or its network told an error that belongs to it alone (accept(2)). */
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM ? ACCEPT_NO_PLACE
                                                                                   : ACCEPTED;
}

static void on_ready(valk_poll_t *poll) {
  valk_listener_t *listener = VALK_CONTAINER(poll, valk_listener_t, poll);
  valk_thread_t *thread = &listener->server->system->threads[0];
  if (!listener->open || listener->paused)
    return;
  for (int i = 0; i < ACCEPTS_A_TURN; i++) {
    accept_result_t result = accept_one(thread, listener);
    /* Out of descriptors or memory the heartbeat tries again. */
    if (result == ACCEPT_NO_PLACE)
      pause_listener(thread, listener);
    if (result != ACCEPTED)
      return;
  }
}

/* ---- beginning and end ---- */

static void on_closed(valk_poll_t *poll) {
  valk__server_unref(VALK_CONTAINER(poll, valk_listener_t, poll)->server);
}

int valk__listener_start(valk_thread_t *thread, valk_listener_t *listener) {
  listener->poll.on_ready = on_ready;
  listener->poll.on_closed = on_closed;
  int result = valk__poll_open(&thread->poller, &listener->poll, listener->fd, true);
  if (result != 0) {
    close(listener->fd);
    listener->fd = -1;
    valk__server_unref(listener->server);
    return result;
  }
  listener->open = true;
  listener->paused = true;
  resume_listener(thread, listener);
  return 0;
}

void valk__listener_stop(valk_thread_t *thread, valk_listener_t *listener) {
  if (!listener->open)
    return;
  listener->open = false;
  /* The kernel has told these clients that they are connected: closing would reset them. As many as
   * the queue can hold, so that clients that keep coming cannot keep it open. */
  for (int i = 0; i < BACKLOG && accept_one(thread, listener) == ACCEPTED; i++) {
  }
  /* A place that is granted from now on would be nobody's. */
  if (listener->health)
    valk_gate_settle(&listener->server->health_gate, thread->index, 0);
  valk_system_t *system = thread->system;
  uv_mutex_lock(&system->lock); /* a snapshot may be asking for the backlog */
  valk__poll_close(&thread->poller, &listener->poll);
  listener->fd = -1;
  uv_mutex_unlock(&system->lock);
  /* It may have been the one that waits at the connections' gate; others come to wait again. */
  valk__listeners_resume(thread);
}

/* Connections that wait in the kernel's queue; 0 where it doesn't say. */
uint64_t valk__listener_waiting(const valk_listener_t *listener) {
  struct tcp_info info;
  socklen_t length = sizeof(info);
  if (listener->fd < 0 || valk__fault(VALK_FAULT_OPTION) ||
      getsockopt(listener->fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0)
    return 0;
  return info.tcpi_unacked; /* of a listening socket: the length of its accept queue */
}

void valk__listeners_press(valk_thread_t *thread) {
  valk_system_t *system = thread->system;
  uint64_t now = valk__now_ms(thread);
  if (now - system->pressed_ms < PRESS_EVERY_MS)
    return;
  system->pressed_ms = now;
  bool paused = false, waiting = false;
  uv_mutex_lock(&system->lock);
  for (valk_server_t *server = system->servers; server != NULL; server = server->next) {
    if (server->listener.open && server->listener.paused) {
      paused = true;
      waiting = waiting || valk__listener_waiting(&server->listener) > 0;
    }
    resume_listener(thread, &server->health);
  }
  uv_mutex_unlock(&system->lock);
  if (!paused)
    return;
  valk_gate_stats_t stats;
  valk_gate_stats(&system->connections, &stats);
  if (stats.in_use < stats.capacity) {
    /* Also where the kernel does not say whether somebody waits. */
    valk__listeners_resume(thread);
    return;
  }
  if (!waiting)
    return;
  for (unsigned i = 0; i < system->thread_count; i++)
    valk__thread_signal(&system->threads[i], VALK_SIGNAL_EVICT);
}
