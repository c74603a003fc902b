/* For LD_PRELOAD: the second epoll that is put into another one does not fit there, as where the
 * user has reached fs.epoll.max_user_watches. The first is the engine's own, the second the event
 * loop's look at it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static int is_epoll(int fd) {
  char path[64], target[64] = "";
  snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  return readlink(path, target, sizeof(target) - 1) > 0 && strstr(target, "[eventpoll]") != NULL;
}

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event) {
  static atomic_int nested;
  static int (*next)(int, int, int, struct epoll_event *);
  if (next == NULL)
    next = (int (*)(int, int, int, struct epoll_event *)) dlsym(RTLD_NEXT, "epoll_ctl");
  if (operation == EPOLL_CTL_ADD && is_epoll(fd) && atomic_fetch_add(&nested, 1) == 1) {
    errno = ENOSPC;
    return -1;
  }
  return next(epoll, operation, fd, event);
}
