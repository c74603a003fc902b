/* Out of descriptors, by the process's real limit: accepting pauses without a busy loop, goes on as
 * descriptors come free, and who is connected feels nothing. */
#include <arpa/inet.h>
#include <errno.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../core/annotate.h"
#include "../core/fault.h"
#include "support/client.h"
#include "support/rig.h"
#include "test.h"

enum { CLIENTS = 12, LEFT = 4 };

static rig_t rig;
static struct rlimit before;

/* Leaves the process |left| more descriptors. */
static void leave_descriptors(unsigned left) {
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  /* Fills the gaps, which the engine would find first; those stay the test's. */
  int highest = dup(0);
  while (highest + 1 < test_count_fds())
    highest = dup(0);
  struct rlimit limit = {(rlim_t) highest + 1 + left, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void restore_descriptors(void) {
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static uint64_t cpu_ms(void) {
  struct timespec used;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return (uint64_t) used.tv_sec * 1000 + (uint64_t) used.tv_nsec / 1000000;
}

static void ask(client_t *client) {
  size_t stream = client_request(client, "GET", "/hello", NULL, -1);
  ASSERT(client_wait(client, stream, 30000));
  ASSERT_EQ(client->streams[stream].status, 200);
}

TEST(accepting_pauses_without_descriptors_and_goes_on) {
  if (valk__on_valgrind()) {
    printf(
        "# valgrind keeps descriptors of its own, and the limit away from the kernel: skipped\n");
    return;
  }
  valk_config_t config = rig_config();
  config.io_threads = 2;
  config.handshake_timeout_ms = config.idle_timeout_ms = 600000;
  rig_start(&rig, &config, NULL);
  client_t bystander;
  ASSERT(client_open(&bystander, rig.port, NULL));
  ask(&bystander);
  int fds[CLIENTS];
  for (int i = 0; i < CLIENTS; i++)
    fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  leave_descriptors(LEFT);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(rig.port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (int i = 0; i < CLIENTS; i++)
    ASSERT_EQ(connect(fds[i], (struct sockaddr *) &address, sizeof(address)), 0);
  RIG_UNTIL(rig_stats(&rig).connection.accepted == 1 + LEFT);
  RIG_UNTIL(rig_stats(&rig).connection.waiting == CLIENTS - LEFT);

  /* Paused: a try at each heartbeat, and no work between them. */
  valk__fault_arm(VALK_FAULT_ACCEPT, 0, false, 0);
  uint64_t begun_ms = client_clock_ms();
  uint64_t used_ms = cpu_ms();
  uv_sleep(2000);
  used_ms = cpu_ms() - used_ms;
  uint64_t elapsed_ms = client_clock_ms() - begun_ms;
  uint64_t tries = valk__fault_count(VALK_FAULT_ACCEPT);
  printf("# %llu ms paused: %llu tries, %llu ms of CPU\n", (unsigned long long) elapsed_ms,
         (unsigned long long) tries, (unsigned long long) used_ms);
  ASSERT_GE(tries, 1);
  ASSERT_LE(tries, elapsed_ms / 250 + 2);
  ASSERT_LT(used_ms, elapsed_ms / 2);
  ASSERT_EQ(rig_stats(&rig).connection.accepted, 1 + LEFT);
  ask(&bystander);

  /* What else wants a descriptor is told so, and the system goes on. */
  valk_server_options_t options = {.host = "127.0.0.1",
                                   .key = rig_key(),
                                   .key_length = strlen(rig_key()),
                                   .certificate = rig_certificate(),
                                   .certificate_length = strlen(rig_certificate()),
                                   .consumer = &rig.consumer};
  valk_server_t *server;
  valk_system_t *system;
  char error[256] = "";
  ASSERT_EQ(valk_server_listen(rig.system, &options, &server, error, sizeof(error)), UV_EMFILE);
  ASSERT_NE(error[0], '\0');
  error[0] = '\0';
  ASSERT_EQ(valk_system_start(&config, &system, error, sizeof(error)), UV_EMFILE);
  ASSERT_NE(error[0], '\0');

  /* Two leave: theirs, and those of the engine's side, go to others that wait. */
  close(fds[0]);
  close(fds[1]);
  RIG_UNTIL(rig_stats(&rig).connection.accepted == 1 + LEFT + 4);
  ASSERT_EQ(rig_stats(&rig).connection.closed.peer, 2);
  ask(&bystander);

  restore_descriptors();
  RIG_UNTIL(rig_stats(&rig).connection.accepted == 1 + CLIENTS);
  RIG_UNTIL(rig_stats(&rig).connection.waiting == 0);
  ask(&bystander);
  client_t late;
  ASSERT(client_open(&late, rig.port, NULL));
  ask(&late);
  client_close(&late);
  client_close(&bystander);
  for (int i = 2; i < CLIENTS; i++)
    close(fds[i]);
  rig_stop(&rig);
}
