/* What an engine thread sleeps on: its sockets, and a word from other threads.
 *
 * A socket is told of as it becomes ready, once (epoll, edge-triggered): two system calls for a
 * connection's whole life (two more each time that it begins or ceases to be one that can wait),
 * none for each change of what it waits for, and none of the kernel's second looks at what was
 * ready the last time. So that nothing is missed, |ready| keeps that there may be something to read
 * until the socket has said that there is not, and who stops before asks to be called again.
 * libuv's handles are told of as long as they are ready, and its loop looks at each again.
 *
 * A wake-up costs the thread, and whoever it interrupts on its core, more than what it is for. A
 * thread that is short of time can be patient: sockets that can wait, which are in an epoll of
 * their own inside of the other, do not end its sleep then.
 *
 * Belongs to its thread, but for valk__poller_wake. Specification, section 3. */
#ifndef VALK_CORE_POLLER_H
#define VALK_CORE_POLLER_H

#include <stdbool.h>
#include <sys/epoll.h>

#include "list.h"

enum {
  VALK_POLL_READ = 1u << 0, /* there may be something to read */
  VALK_POLL_END = 1u << 1   /* and its end, or an error, comes after it */
};

typedef struct valk_poll valk_poll_t;

/* A socket, inside of what it belongs to. */
struct valk_poll {
  int fd;
  unsigned ready; /* VALK_POLL_*; the owner clears VALK_POLL_READ */
  /* It is ready, or may be written again, or asked to be called again. */
  void (*on_ready)(valk_poll_t *poll);
  /* After valk__poll_close, when no event can name it any more: its memory may go. */
  void (*on_closed)(valk_poll_t *poll);
  bool can_wait;    /* in the inner epoll */
  valk_link_t link; /* of |again| or |closed| */
};

#define VALK_POLLER_EVENTS 256
/* Of these, kept for sockets that can wait, where there are any: others that are always ready in
 * numbers would leave them none. */
#define VALK_POLLER_INNER_EVENTS 64

typedef struct {
  int epoll;
  int inner;       /* the epoll of sockets that can wait */
  bool is_patient; /* the inner epoll does not end the sleep */
  bool is_full;    /* of those that do not end it more may be ready than were told of */
  unsigned inner_count;
  int word;       /* an eventfd */
  unsigned count; /* of sockets, those included that are to be told of their end */
  valk_link_t again;
  valk_link_t closed;
  struct epoll_event events[VALK_POLLER_EVENTS];
  int event_count;
} valk_poller_t;

/* 0, or a negative errno. */
int valk__poller_init(valk_poller_t *poller);
void valk__poller_deinit(valk_poller_t *poller);
/* Ends the sleep, or the next one. Any thread. */
void valk__poller_wake(valk_poller_t *poller);
/* Whether sockets that can wait end the sleep (not |is_patient|) from now on, or are looked for
 * when it has ended. */
void valk__poller_attend(valk_poller_t *poller, bool is_patient);
/* There is somebody to be called for whom no sleep ends: who has asked to be called again, say. */
bool valk__poller_has_more(const valk_poller_t *poller);
/* Sleeps until something is ready, |timeout_ms| at most (-1: for ever), and not at all where there
 * is more. |is_patient|: as valk__poller_attend. */
void valk__poller_sleep(valk_poller_t *poller, int timeout_ms, bool is_patient);
/* Calls who is ready. */
void valk__poller_call(valk_poller_t *poller);
/* Tells closed sockets of their end: between two calls of the above. */
void valk__poller_bury(valk_poller_t *poller);

/* Begins with |fd|, whose callbacks are set. |level|: told of as long as it is readable, for a
 * listener. 0, or a negative errno. */
int valk__poll_open(valk_poller_t *poller, valk_poll_t *poll, int fd, bool level);
/* Of one that is told of as long as it is readable. 0, or a negative errno; nothing to stop fails.
 */
int valk__poll_level(valk_poller_t *poller, valk_poll_t *poll, bool readable);
/* |on_ready| in the next round, however often it is asked for. */
void valk__poll_again(valk_poller_t *poller, valk_poll_t *poll);
/* From now on the socket can wait, until it is ready while the thread is not patient. For want of
 * memory it remains as it was. */
void valk__poll_can_wait(valk_poller_t *poller, valk_poll_t *poll);
/* Closes the socket too. */
void valk__poll_close(valk_poller_t *poller, valk_poll_t *poll);

#endif
