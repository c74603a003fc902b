/* Address space and pages, as the kernel sees them: /proc/self/maps and mincore. */
#include "test.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include "../core/annotate.h"
#include "../core/fault.h"
#include "../core/vm.h"
#include "../include/valk.h"

#define MIB ((size_t) 1 << 20)

/* The permissions of the mapping that holds |address|, "rw-p" say; "" when nothing is mapped. */
static void read_permissions(const void *address, char permissions[5]) {
  FILE *maps = fopen("/proc/self/maps", "r");
  ASSERT_NOT_NULL(maps);
  permissions[0] = '\0';
  char line[512];
  while (fgets(line, sizeof line, maps)) {
    uintptr_t from, to;
    char found[5];
    if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s", &from, &to, found) == 3 &&
        from <= (uintptr_t) address && (uintptr_t) address < to) {
      memcpy(permissions, found, sizeof found);
      break;
    }
  }
  fclose(maps);
}

#define ASSERT_PERMISSIONS(address, expected)                                                      \
  do {                                                                                             \
    char permissions[5];                                                                           \
    read_permissions(address, permissions);                                                        \
    ASSERT_STR_EQ(permissions, expected);                                                          \
  } while (0)

static size_t count_resident(void *address, size_t size) {
  unsigned char pages[64];
  size_t count = 0;
  ASSERT_LE(size / VALK_PAGE_SIZE, sizeof pages);
  ASSERT_OK(mincore(address, size, pages));
  for (size_t i = 0; i < size / VALK_PAGE_SIZE; i++) {
    count += pages[i] & 1;
  }
  return count;
}

/* What the process has mapped as data, in bytes: what RLIMIT_DATA bounds. */
static size_t read_data_size(void) {
  FILE *status = fopen("/proc/self/status", "r");
  ASSERT_NOT_NULL(status);
  char line[256];
  size_t kib = 0;
  while (fgets(line, sizeof line, status)) {
    if (sscanf(line, "VmData: %zu", &kib) == 1) {
      break;
    }
  }
  fclose(status);
  ASSERT_GT(kib, 0u);
  return kib << 10;
}

TEST(vm_page_round_gives_whole_pages) {
  ASSERT_EQ(VALK_PAGE_ROUND(0), 0u);
  ASSERT_EQ(VALK_PAGE_ROUND(1), 4096u);
  ASSERT_EQ(VALK_PAGE_ROUND(4096), 4096u);
  ASSERT_EQ(VALK_PAGE_ROUND(4097), 8192u);
  ASSERT_EQ(VALK_PAGE_ROUND(VALK_TCP_BUFFER_SIZE), VALK_TCP_BUFFER_STRIDE);
}

TEST(vm_reserved_space_cannot_be_touched_and_costs_nothing) {
  size_t before = read_data_size();
  uint8_t *space = valk__vm_reserve(16384 * MIB);
  ASSERT_NOT_NULL(space);
  ASSERT_EQ((uintptr_t) space % VALK_PAGE_SIZE, 0u);
  ASSERT_PERMISSIONS(space, "---p");
  ASSERT_LT(read_data_size() - before, 16 * MIB);
  valk__vm_release(space, 16384 * MIB);
}

TEST(vm_committed_range_is_usable_and_its_neighbours_are_not) {
  uint8_t *space = valk__vm_reserve(MIB);
  ASSERT_NOT_NULL(space);
  uint8_t *range = space + 4 * VALK_PAGE_SIZE;
  size_t size = 8 * VALK_PAGE_SIZE;
  ASSERT_OK(valk__vm_commit(range, size));
  ASSERT_PERMISSIONS(range - 1, "---p");
  ASSERT_PERMISSIONS(range, "rw-p");
  ASSERT_PERMISSIONS(range + size - 1, "rw-p");
  ASSERT_PERMISSIONS(range + size, "---p");
  ASSERT_EQ(count_resident(range, size), 0u);
  for (size_t i = 0; i < size; i++) {
    ASSERT_EQ(range[i], 0);
  }
  range[0] = 1;
  range[size - 1] = 2;
  /* Committing a part again leaves what is there. */
  ASSERT_OK(valk__vm_commit(range, VALK_PAGE_SIZE));
  ASSERT_EQ(range[0], 1);
  ASSERT_EQ(range[size - 1], 2);
  valk__vm_release(space, MIB);
}

TEST(vm_touching_a_page_makes_only_that_page_resident) {
  uint8_t *space = valk__vm_reserve(8 * MIB);
  ASSERT_NOT_NULL(space);
  ASSERT_OK(valk__vm_commit(space, 8 * MIB));
  uint8_t *huge = (uint8_t *) (((uintptr_t) space + 2 * MIB) & ~(uintptr_t) (2 * MIB - 1));
  *huge = 1;
  ASSERT_EQ(count_resident(huge, 64 * VALK_PAGE_SIZE), 1u);
  valk__vm_release(space, 8 * MIB);
}

TEST(vm_clean_returns_pages_and_reads_as_zeros) {
  size_t size = 8 * VALK_PAGE_SIZE;
  uint8_t *space = valk__vm_reserve(size);
  ASSERT_NOT_NULL(space);
  ASSERT_OK(valk__vm_commit(space, size));
  memset(space, 7, size);
  ASSERT_EQ(count_resident(space, size), 8u);
  valk__vm_clean(space + VALK_PAGE_SIZE, 4 * VALK_PAGE_SIZE);
  ASSERT_EQ(count_resident(space, size), 4u);
  ASSERT_PERMISSIONS(space + VALK_PAGE_SIZE, "rw-p");
  ASSERT_EQ(space[VALK_PAGE_SIZE - 1], 7);
  ASSERT_EQ(space[VALK_PAGE_SIZE], 0);
  ASSERT_EQ(space[5 * VALK_PAGE_SIZE - 1], 0);
  ASSERT_EQ(space[5 * VALK_PAGE_SIZE], 7);
  valk__vm_release(space, size);
}

TEST(vm_decommit_returns_pages_and_commit_brings_zeros) {
  size_t size = 8 * VALK_PAGE_SIZE;
  uint8_t *space = valk__vm_reserve(size);
  ASSERT_NOT_NULL(space);
  ASSERT_OK(valk__vm_commit(space, size));
  memset(space, 7, size);
  valk__vm_decommit(space + 2 * VALK_PAGE_SIZE, 6 * VALK_PAGE_SIZE);
  ASSERT_EQ(count_resident(space, size), 2u);
  ASSERT_PERMISSIONS(space + 2 * VALK_PAGE_SIZE - 1, "rw-p");
  ASSERT_PERMISSIONS(space + 2 * VALK_PAGE_SIZE, "---p");
  ASSERT_OK(valk__vm_commit(space, size));
  ASSERT_EQ(space[2 * VALK_PAGE_SIZE - 1], 7);
  ASSERT_EQ(space[2 * VALK_PAGE_SIZE], 0);
  ASSERT_EQ(space[size - 1], 0);
  valk__vm_release(space, size);
}

TEST(vm_release_ends_the_mapping) {
  uint8_t *space = valk__vm_reserve(MIB);
  ASSERT_NOT_NULL(space);
  ASSERT_OK(valk__vm_commit(space, MIB));
  valk__vm_release(space, MIB);
  ASSERT_PERMISSIONS(space, "");
}

TEST(vm_reserve_of_more_than_there_is_gives_null) {
  ASSERT_NULL(valk__vm_reserve((size_t) 1 << 47));
}

TEST(vm_commit_beyond_rlimit_data_fails_and_decommit_makes_room) {
  uint8_t *space = valk__vm_reserve(512 * MIB);
  ASSERT_NOT_NULL(space);
  struct rlimit before;
  ASSERT_OK(getrlimit(RLIMIT_DATA, &before));
  struct rlimit limit = {.rlim_cur = read_data_size() + 128 * MIB, .rlim_max = before.rlim_max};
  ASSERT_OK(setrlimit(RLIMIT_DATA, &limit));
  int first = valk__vm_commit(space, 64 * MIB);
  int second = valk__vm_commit(space + 64 * MIB, 256 * MIB);
  valk__vm_decommit(space, 64 * MIB);
  int third = valk__vm_commit(space + 64 * MIB, 64 * MIB);
  ASSERT_OK(setrlimit(RLIMIT_DATA, &before));
  ASSERT_OK(first);
  /* Valgrind keeps RLIMIT_DATA to itself: the kernel never hears of it. */
  ASSERT_EQ(second, valk__on_valgrind() ? 0 : VALK_ENOMEM);
  ASSERT_OK(third);
  valk__vm_release(space, 512 * MIB);
}

#if defined(VALK_FAULTS) && VALK_FAULTS
TEST(vm_faults_fail_one_pass_or_all_from_it_on) {
  valk__fault_arm(VALK_FAULT_COMMIT, 2, false, 0);
  uint8_t *space = valk__vm_reserve(MIB);
  ASSERT_NOT_NULL(space);
  errno = 0;
  ASSERT_EQ(valk__vm_commit(space, MIB), VALK_ENOMEM);
  ASSERT_EQ(errno, ENOMEM);
  ASSERT_PERMISSIONS(space, "---p");
  ASSERT_OK(valk__vm_commit(space, MIB));
  ASSERT_EQ(valk__fault_count(VALK_FAULT_COMMIT), 3u);
  valk__fault_arm(VALK_FAULT_COMMIT, 1, true, EAGAIN);
  ASSERT_NULL(valk__vm_reserve(MIB));
  ASSERT_EQ(errno, EAGAIN);
  ASSERT_EQ(valk__vm_commit(space, MIB), VALK_ENOMEM);
  valk__fault_arm(VALK_FAULT_COMMIT, 0, false, 0);
  ASSERT_EQ(valk__fault_count(VALK_FAULT_COMMIT), 0u);
  ASSERT_OK(valk__vm_commit(space, MIB));
  ASSERT_EQ(valk__fault_count(VALK_FAULT_COMMIT), 1u);
  valk__vm_release(space, MIB);
}
#endif

TEST(strerror_has_a_sentence_for_each_error) {
  const int errors[] = {VALK_OK,       VALK_ENOMEM, VALK_EINVAL, VALK_ETLS,
                        VALK_ESTOPPED, VALK_EAGAIN, VALK_ESTALE, VALK_ELIMIT};
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
    ASSERT_NULL(strstr(valk_strerror(errors[i]), "nknown"));
    for (size_t j = 0; j < i; j++) {
      ASSERT_NE(strcmp(valk_strerror(errors[i]), valk_strerror(errors[j])), 0);
    }
  }
  ASSERT_STR_EQ(valk_strerror(-EADDRINUSE), "address already in use");
  ASSERT_NOT_NULL(strstr(valk_strerror(-99999), "-99999"));
}
