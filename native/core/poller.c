#include "poller.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fault.h"

int valk__poller_init(valk_poller_t *poller) {
  valk__list_init(&poller->again);
  valk__list_init(&poller->closed);
  poller->count = 0;
  poller->event_count = 0;
  poller->word = -1;
  poller->epoll = valk__fault(VALK_FAULT_THREAD) ? -1 : epoll_create1(EPOLL_CLOEXEC);
  if (poller->epoll >= 0)
    poller->word = valk__fault(VALK_FAULT_THREAD) ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  /* Edge-triggered, the word need not be read: each one that is written is told of. */
  struct epoll_event event = {.events = EPOLLIN | EPOLLET};
  if (poller->word < 0 || valk__fault(VALK_FAULT_THREAD) ||
      epoll_ctl(poller->epoll, EPOLL_CTL_ADD, poller->word, &event) != 0) {
    int result = -errno;
    valk__poller_deinit(poller);
    return result;
  }
  return 0;
}

void valk__poller_deinit(valk_poller_t *poller) {
  if (poller->word >= 0)
    close(poller->word);
  if (poller->epoll >= 0)
    close(poller->epoll);
}

void valk__poller_wake(valk_poller_t *poller) {
  uint64_t one = 1;
  while (write(poller->word, &one, sizeof(one)) < 0 && errno == EINTR) {
  }
}

void valk__poller_sleep(valk_poller_t *poller, int timeout_ms) {
  if (!valk__list_empty(&poller->again))
    timeout_ms = 0;
  int count = epoll_wait(poller->epoll, poller->events, VALK_POLLER_EVENTS, timeout_ms);
  poller->event_count = count > 0 ? count : 0; /* interrupted: the next one tells */
}

void valk__poller_call(valk_poller_t *poller) {
  /* Who asks from now on is called in the next round. */
  valk_link_t again;
  valk__list_init(&again);
  valk__list_splice(&again, &poller->again);
  while (!valk__list_empty(&again)) {
    valk_poll_t *poll = VALK_CONTAINER(again.next, valk_poll_t, link);
    valk__list_remove(&poll->link);
    poll->on_ready(poll);
  }
  for (int i = 0; i < poller->event_count; i++) {
    valk_poll_t *poll = poller->events[i].data.ptr;
    if (poll == NULL || poll->on_ready == NULL)
      continue;
    uint32_t events = poller->events[i].events;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
      poll->ready |= VALK_POLL_READ;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
      poll->ready |= VALK_POLL_END;
    poll->on_ready(poll);
  }
  poller->event_count = 0;
}

void valk__poller_bury(valk_poller_t *poller) {
  while (!valk__list_empty(&poller->closed)) {
    valk_poll_t *poll = VALK_CONTAINER(poller->closed.next, valk_poll_t, link);
    valk__list_remove(&poll->link);
    poller->count--;
    poll->on_closed(poll);
  }
}

int valk__poll_open(valk_poller_t *poller, valk_poll_t *poll, int fd, bool level) {
  poll->fd = fd;
  poll->ready = 0;
  valk__list_init(&poll->link);
  struct epoll_event event = {
      .events = level ? 0 : EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
      .data.ptr = poll,
  };
  if (valk__fault(VALK_FAULT_POLL) || epoll_ctl(poller->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
    return -errno;
  poller->count++;
  return 0;
}

int valk__poll_level(valk_poller_t *poller, valk_poll_t *poll, bool readable) {
  struct epoll_event event = {.events = readable ? EPOLLIN : 0, .data.ptr = poll};
  if ((readable && valk__fault(VALK_FAULT_POLL)) ||
      epoll_ctl(poller->epoll, EPOLL_CTL_MOD, poll->fd, &event) != 0)
    return -errno;
  return 0;
}

void valk__poll_again(valk_poller_t *poller, valk_poll_t *poll) {
  if (poll->on_ready != NULL && !valk__listed(&poll->link))
    valk__list_append(&poller->again, &poll->link);
}

void valk__poll_close(valk_poller_t *poller, valk_poll_t *poll) {
  poll->on_ready = NULL; /* for events that are at hand already */
  /* A child that is being started may hold a copy of the socket: closing alone would leave it told
   * of. */
  epoll_ctl(poller->epoll, EPOLL_CTL_DEL, poll->fd, NULL);
  close(poll->fd);
  valk__list_remove(&poll->link);
  valk__list_append(&poller->closed, &poll->link);
}
