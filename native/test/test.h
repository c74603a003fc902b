/*
 * A small test framework in one header.
 *
 *   #include "test.h"
 *
 *   TEST(slab_gives_each_item_once) {
 *     ASSERT_EQ(valk_slab_init(&slab, 4, 64), 0);
 *   }
 *
 * Each test runs in a forked child, so that a crash, a leak or a hang is that test's failure alone.
 * The program runs every test, or those named on the command line; with --no-fork they run in the
 * program's own process, for a debugger. It prints one line a test, then `N passed, N failed`, and
 * exits with 1 when a test failed or none ran.
 *
 * A test may last VALK_TEST_TIMEOUT seconds (default 120). A failed assertion ends the test at
 * once, on whichever thread it stands. The header may be included by several files of a program:
 * what they share is weak.
 */
#ifndef VALK_TEST_H
#define VALK_TEST_H

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TEST_SHARED __attribute__((weak))
#define TEST_UNUSED __attribute__((unused))

typedef struct test_case {
  const char *name;
  void (*run)(void);
  struct test_case *next;
} test_case_t;

extern test_case_t *test__first;
extern test_case_t *test__last;
TEST_SHARED test_case_t *test__first;
TEST_SHARED test_case_t *test__last;

/* Defines and registers a test; tests run in the order of their definition. */
#define TEST(test_name)                                                                            \
  static void test_run_##test_name(void);                                                          \
  __attribute__((constructor)) static void test_add_##test_name(void) {                            \
    static test_case_t self = {#test_name, test_run_##test_name, NULL};                            \
    test__add(&self);                                                                              \
  }                                                                                                \
  static void test_run_##test_name(void)

static inline void test__add(test_case_t *test) {
  if (test__last) {
    test__last->next = test;
  } else {
    test__first = test;
  }
  test__last = test;
}

/* Reports a failure and ends the test's process: a leak report would only hide the cause. */
__attribute__((format(printf, 3, 4), noreturn)) TEST_UNUSED static void
test__fail(const char *file, int line, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fflush(stdout);
  fprintf(stderr, "%s:%d: ", file, line);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  fflush(stderr);
  _exit(1);
}

#define FAIL(...) test__fail(__FILE__, __LINE__, __VA_ARGS__)

#define ASSERT(condition)                                                                          \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      FAIL("expected %s", #condition);                                                             \
    }                                                                                              \
  } while (0)

/* ASSERT with a printf-like message of its own. */
#define ASSERT_MSG(condition, ...)                                                                 \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      FAIL(__VA_ARGS__);                                                                           \
    }                                                                                              \
  } while (0)

#define ASSERT_TRUE(value) ASSERT(value)
#define ASSERT_FALSE(value) ASSERT(!(value))
#define ASSERT_NULL(value) ASSERT((value) == NULL)
#define ASSERT_NOT_NULL(value) ASSERT((value) != NULL)

/*
 * Integers of any type and sign, compared by their mathematical value: both are widened to 128
 * bits, by an operator that takes no pointer and no floating-point number. They are printed as
 * signed numbers, and in hexadecimal.
 */
#define TEST_COMPARE(left, operator, right)                                                        \
  do {                                                                                             \
    __int128 test_left = (__int128) 0 | (left);                                                    \
    __int128 test_right = (__int128) 0 | (right);                                                  \
    if (!(test_left operator test_right)) {                                                        \
      FAIL("expected %s %s %s, have %" PRId64 " and %" PRId64 " (0x%" PRIx64 ", 0x%" PRIx64 ")",   \
           #left, #operator, #right, (int64_t) test_left, (int64_t) test_right,                    \
           (uint64_t) test_left, (uint64_t) test_right);                                           \
    }                                                                                              \
  } while (0)

#define ASSERT_EQ(left, right) TEST_COMPARE(left, ==, right)
#define ASSERT_NE(left, right) TEST_COMPARE(left, !=, right)
#define ASSERT_LT(left, right) TEST_COMPARE(left, <, right)
#define ASSERT_LE(left, right) TEST_COMPARE(left, <=, right)
#define ASSERT_GT(left, right) TEST_COMPARE(left, >, right)
#define ASSERT_GE(left, right) TEST_COMPARE(left, >=, right)

/* 0 is success, as for every function of the core. */
#define ASSERT_OK(call) ASSERT_EQ(call, 0)

#define ASSERT_PTR_EQ(left, right)                                                                 \
  do {                                                                                             \
    const void *test_left = (left);                                                                \
    const void *test_right = (right);                                                              \
    if (test_left != test_right) {                                                                 \
      FAIL("expected %s == %s, have %p and %p", #left, #right, test_left, test_right);             \
    }                                                                                              \
  } while (0)

#define ASSERT_PTR_NE(left, right)                                                                 \
  do {                                                                                             \
    const void *test_left = (left);                                                                \
    if (test_left == (const void *) (right)) {                                                     \
      FAIL("expected %s != %s, both are %p", #left, #right, test_left);                            \
    }                                                                                              \
  } while (0)

#define ASSERT_STR_EQ(left, right)                                                                 \
  do {                                                                                             \
    const char *test_left = (left);                                                                \
    const char *test_right = (right);                                                              \
    if (!test_left || !test_right || strcmp(test_left, test_right) != 0) {                         \
      FAIL("expected %s to equal %s, have \"%s\" and \"%s\"", #left, #right,                       \
           test_left ? test_left : "(null)", test_right ? test_right : "(null)");                  \
    }                                                                                              \
  } while (0)

#define ASSERT_MEM_EQ(left, right, size)                                                           \
  do {                                                                                             \
    const uint8_t *test_left = (const void *) (left);                                              \
    const uint8_t *test_right = (const void *) (right);                                            \
    size_t test_size = (size);                                                                     \
    for (size_t test_i = 0; test_i < test_size; test_i++) {                                        \
      if (test_left[test_i] != test_right[test_i]) {                                               \
        FAIL("expected %s to equal %s, byte %zu of %zu is 0x%02x and 0x%02x", #left, #right,       \
             test_i, test_size, test_left[test_i], test_right[test_i]);                            \
      }                                                                                            \
    }                                                                                              \
  } while (0)

static inline int test__count_entries(const char *path) {
  DIR *directory = opendir(path);
  if (!directory) {
    return -1;
  }
  int count = 0;
  for (struct dirent *entry; (entry = readdir(directory));) {
    count += entry->d_name[0] != '.';
  }
  closedir(directory);
  return count;
}

/* The descriptors that this process has open. */
TEST_UNUSED static int test_count_fds(void) {
  return test__count_entries("/proc/self/fd") - 1;
}

/* The threads of this process, without ThreadSanitizer's own. */
TEST_UNUSED static int test_count_threads(void) {
#ifdef __SANITIZE_THREAD__
  return test__count_entries("/proc/self/task") - 1;
#else
  return test__count_entries("/proc/self/task");
#endif
}

/* The point to fail after |nth|, where there are thousands: one by one at first, then by samples.
 * Of a |step| above 1, which slow tools ask for by FAULT_STEP, there are fewer. */
static inline uint64_t test_next_fault(uint64_t nth, uint64_t step) {
  return nth + step + nth / (step == 1 ? 100 : 20);
}

static inline double test__now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double) now.tv_sec * 1e3 + (double) now.tv_nsec / 1e6;
}

static inline unsigned test__timeout_s(void) {
  const char *text = getenv("VALK_TEST_TIMEOUT");
  long seconds = text ? strtol(text, NULL, 10) : 0;
  return seconds > 0 ? (unsigned) seconds : 120;
}

/* Runs one test in a child. Returns 0, or -1 after saying why it failed. */
static inline int test__run_forked(const test_case_t *test) {
  fflush(NULL);
  pid_t runner = getpid();
  pid_t child = fork();
  if (child < 0) {
    fprintf(stderr, "fork: %s\n", strerror(errno));
    return -1;
  }
  if (child == 0) {
    /* A group of its own: whatever the test starts ends with it. */
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != runner) {
      _exit(1);
    }
    alarm(test__timeout_s());
    test->run();
    exit(0);
  }
  setpgid(child, child);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  kill(-child, SIGKILL);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
    return 0;
  }
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
    fprintf(stderr, "%s: no end after %u s\n", test->name, test__timeout_s());
  } else if (WIFSIGNALED(status)) {
    fprintf(stderr, "%s: ended by signal %d, %s\n", test->name, WTERMSIG(status),
            strsignal(WTERMSIG(status)));
  } else {
    fprintf(stderr, "%s: exited with %d\n", test->name, WEXITSTATUS(status));
  }
  return -1;
}

static inline bool test__is_wanted(const test_case_t *test, int argc, char **argv) {
  bool any_name = false;
  for (int i = 1; i < argc; i++) {
    if (argv[i][0] == '-') {
      continue;
    }
    any_name = true;
    if (strcmp(argv[i], test->name) == 0) {
      return true;
    }
  }
  return !any_name;
}

TEST_SHARED int main(int argc, char **argv) {
  bool forks = true;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--no-fork") == 0) {
      forks = false;
    } else if (strcmp(argv[i], "--list") == 0) {
      for (const test_case_t *test = test__first; test; test = test->next) {
        puts(test->name);
      }
      return 0;
    } else if (argv[i][0] == '-') {
      fprintf(stderr, "usage: %s [--list] [--no-fork] [test…]\n", argv[0]);
      return 2;
    }
  }
  int passed = 0;
  int failed = 0;
  for (const test_case_t *test = test__first; test; test = test->next) {
    if (!test__is_wanted(test, argc, argv)) {
      continue;
    }
    double begin_ms = test__now_ms();
    int result = 0;
    if (forks) {
      result = test__run_forked(test);
    } else {
      alarm(test__timeout_s());
      test->run();
      alarm(0);
    }
    passed += result == 0;
    failed += result != 0;
    printf("%s %s (%.0f ms)\n", result == 0 ? "ok" : "not ok", test->name,
           test__now_ms() - begin_ms);
    fflush(stdout);
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0 || passed == 0;
}

#endif
