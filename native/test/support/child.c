#include "child.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../test.h"

static pid_t child;
static int to_child[2], from_child[2];

void child_start(void (*meet)(uint16_t port)) {
  ASSERT_EQ(pipe(to_child), 0);
  ASSERT_EQ(pipe(from_child), 0);
  child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    uint16_t port;
    close(to_child[1]);
    close(from_child[0]);
    while (read(to_child[0], &port, sizeof(port)) == sizeof(port)) {
      meet(port);
      if (write(from_child[1], "", 1) != 1)
        break;
    }
    close(to_child[0]);
    close(from_child[1]);
    _exit(0);
  }
  close(to_child[0]);
  close(from_child[1]);
}

void child_meet(uint16_t port) {
  ASSERT_EQ(write(to_child[1], &port, sizeof(port)), sizeof(port));
}

bool child_done(bool wait) {
  char done;
  struct pollfd readable = {.fd = from_child[0], .events = POLLIN};
  if (!wait && poll(&readable, 1, 0) != 1)
    return false;
  ASSERT_EQ(read(from_child[0], &done, 1), 1);
  return true;
}

void child_end(void) {
  close(to_child[1]);
  close(from_child[0]);
  waitpid(child, NULL, 0);
}
