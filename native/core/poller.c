#include "poller.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fault.h"

#define SOCKET_EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

/* Whether the inner epoll ends the sleep of the outer one, where its name is the poller itself. */
static int attend_inner(valk_poller_t *poller, int operation, bool attend) {
  struct epoll_event event = {.events = attend ? EPOLLIN : 0, .data.ptr = poller};
  return epoll_ctl(poller->epoll, operation, poller->inner, &event);
}

int valk__poller_init(valk_poller_t *poller) {
  valk__list_init(&poller->again);
  valk__list_init(&poller->closed);
  poller->count = 0;
  poller->event_count = 0;
  poller->is_patient = poller->is_full = false;
  poller->inner_count = 0;
  poller->word = poller->inner = -1;
  poller->epoll = valk__fault(VALK_FAULT_THREAD) ? -1 : epoll_create1(EPOLL_CLOEXEC);
  if (poller->epoll >= 0)
    poller->inner = valk__fault(VALK_FAULT_THREAD) ? -1 : epoll_create1(EPOLL_CLOEXEC);
  if (poller->inner >= 0)
    poller->word = valk__fault(VALK_FAULT_THREAD) ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  /* Edge-triggered, the word need not be read: each one that is written is told of. */
  struct epoll_event event = {.events = EPOLLIN | EPOLLET};
  if (poller->word < 0 || valk__fault(VALK_FAULT_THREAD) ||
      epoll_ctl(poller->epoll, EPOLL_CTL_ADD, poller->word, &event) != 0 ||
      attend_inner(poller, EPOLL_CTL_ADD, true) != 0) {
    int result = -errno;
    valk__poller_deinit(poller);
    return result;
  }
  return 0;
}

void valk__poller_deinit(valk_poller_t *poller) {
  if (poller->word >= 0)
    close(poller->word);
  if (poller->inner >= 0)
    close(poller->inner);
  if (poller->epoll >= 0)
    close(poller->epoll);
}

void valk__poller_wake(valk_poller_t *poller) {
  uint64_t one = 1;
  while (write(poller->word, &one, sizeof(one)) < 0 && errno == EINTR) {
  }
}

static void wait_for(valk_poller_t *poller, int epoll, int most, int timeout_ms) {
  int count = epoll_wait(epoll, poller->events + poller->event_count, most - poller->event_count,
                         timeout_ms);
  poller->event_count += count > 0 ? count : 0; /* interrupted: the next one tells */
}

static bool inner_is_ready(const valk_poller_t *poller) {
  for (int i = 0; i < poller->event_count; i++) {
    if (poller->events[i].data.ptr == poller)
      return true;
  }
  return false;
}

void valk__poller_attend(valk_poller_t *poller, bool is_patient) {
  if (is_patient != poller->is_patient && attend_inner(poller, EPOLL_CTL_MOD, !is_patient) == 0)
    poller->is_patient = is_patient;
}

bool valk__poller_has_more(const valk_poller_t *poller) {
  return !valk__list_empty(&poller->again) || poller->is_full;
}

void valk__poller_sleep(valk_poller_t *poller, int timeout_ms, bool is_patient) {
  valk__poller_attend(poller, is_patient);
  if (valk__poller_has_more(poller))
    timeout_ms = 0;
  int most = VALK_POLLER_EVENTS - (poller->inner_count > 0 ? VALK_POLLER_INNER_EVENTS : 0);
  poller->event_count = 0;
  wait_for(poller, poller->epoll, most, timeout_ms);
  if (poller->inner_count > 0 && (poller->is_patient || inner_is_ready(poller)))
    wait_for(poller, poller->inner, VALK_POLLER_EVENTS, 0);
  poller->is_full = poller->is_patient && poller->event_count == VALK_POLLER_EVENTS;
}

/* It is told of by the other epoll at once what it is ready for, so that nothing is missed. */
static void move(valk_poller_t *poller, valk_poll_t *poll, bool can_wait) {
  int from = can_wait ? poller->epoll : poller->inner;
  int into = can_wait ? poller->inner : poller->epoll;
  struct epoll_event event = {.events = SOCKET_EVENTS, .data.ptr = poll};
  if (valk__fault(VALK_FAULT_POLL) || epoll_ctl(into, EPOLL_CTL_ADD, poll->fd, &event) != 0)
    return;
  epoll_ctl(from, EPOLL_CTL_DEL, poll->fd, NULL);
  poll->can_wait = can_wait;
  poller->inner_count += can_wait ? 1u : -1u;
}

void valk__poll_can_wait(valk_poller_t *poller, valk_poll_t *poll) {
  if (!poll->can_wait)
    move(poller, poll, true);
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
    bool is_socket = poll != NULL && (void *) poll != poller;
    if (!is_socket || poll->on_ready == NULL)
      continue;
    if (poll->can_wait && !poller->is_patient)
      move(poller, poll, false);
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
  poll->can_wait = false;
  valk__list_init(&poll->link);
  struct epoll_event event = {
      .events = level ? 0 : SOCKET_EVENTS,
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
  epoll_ctl(poll->can_wait ? poller->inner : poller->epoll, EPOLL_CTL_DEL, poll->fd, NULL);
  poller->inner_count -= poll->can_wait;
  close(poll->fd);
  valk__list_remove(&poll->link);
  valk__list_append(&poller->closed, &poll->link);
}
