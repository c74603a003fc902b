/* A server's certificate changes while clients connect; the end of that. */
#include "../core/fault.h"
#include "../core/internal.h"
#include "support/client.h"
#include "support/rig.h"
#include "test.h"

enum { CHANGES = 50, CLIENTS = 20 };

static rig_t rig;

static valk_server_options_t secure(const char *key) {
  return (valk_server_options_t){.key = key,
                                 .key_length = strlen(key),
                                 .certificate = rig_certificate(),
                                 .certificate_length = strlen(rig_certificate())};
}

static void change_often(void *data) {
  atomic_uint *failures = data;
  char error[256] = "";
  for (int i = 0; i < CHANGES; i++) {
    valk_server_options_t options = secure(i % 5 == 4 ? "no key" : rig_key());
    int status = valk_server_set_secure_context(rig.server, &options, error, sizeof(error));
    if (status != (i % 5 == 4 ? VALK_ETLS : 0))
      atomic_fetch_add(failures, 1);
  }
}

TEST(certificates_change_while_clients_connect) {
  valk_config_t config = rig_config();
  config.io_threads = 2;
  /* |early| says nothing until all the others are done, which takes valgrind a while. */
  config.handshake_timeout_ms = config.idle_timeout_ms = 600000;
  rig_start(&rig, &config, NULL);
  client_t early;
  ASSERT(client_open(&early, rig.port, NULL));
  atomic_uint failures = 0;
  uv_thread_t changer;
  ASSERT_EQ(uv_thread_create(&changer, change_often, &failures), 0);
  for (int i = 0; i < CLIENTS; i++) {
    rig_is_well(&rig);
  }
  uv_thread_join(&changer);
  ASSERT_EQ(atomic_load(&failures), 0);
  size_t stream = client_request(&early, "GET", "/hello", NULL, -1);
  ASSERT(client_wait(&early, stream, 10000));
  ASSERT_EQ(early.streams[stream].status, 200);
  client_close(&early);
  valk_server_close(rig.server, 1000, NULL, NULL);
  valk_server_options_t options = secure(rig_key());
  char error[256] = "";
  ASSERT_EQ(valk_server_set_secure_context(rig.server, &options, error, sizeof(error)),
            VALK_ESTOPPED);
  ASSERT_STR_EQ(error, "the server has been closed");
  rig_stop(&rig);
}

TEST(a_context_that_cannot_be_made_leaves_the_old_one_in_use) {
  static const valk_fault_kind_t kinds[] = {VALK_FAULT_MALLOC, VALK_FAULT_LOCK};
  const char *step = getenv("FAULT_STEP");
  valk_certificate_t contexts[] = {
      {"a.test", rig_key(), strlen(rig_key()), rig_certificate(), strlen(rig_certificate())},
      {"*.b.test", rig_key(), strlen(rig_key()), rig_certificate(), strlen(rig_certificate())}};
  valk_server_options_t options = secure(rig_key());
  options.contexts = contexts;
  options.context_count = 2;
  options.request_certificate = true;
  options.ca = rig_certificate();
  options.ca_length = strlen(rig_certificate());
  valk_config_t config = rig_config();
  config.handshake_timeout_ms = config.idle_timeout_ms = 600000;
  rig_start(&rig, &config, NULL);
  client_t early;
  ASSERT(client_open(&early, rig.port, NULL));
  size_t greeting = client_request(&early, "GET", "/hello", NULL, -1);
  ASSERT(client_wait(&early, greeting, 30000));
  for (size_t i = 0; i < 2; i++) {
    unsigned failures = 0;
    for (uint64_t nth = 1;;
         nth = test_next_fault(nth, step != NULL ? strtoull(step, NULL, 10) : 1)) {
      const valk_tls_context_t *before = rig.server->tls;
      char error[256] = "";
      valk__fault_arm(kinds[i], nth, false, 0);
      int status = valk_server_set_secure_context(rig.server, &options, error, sizeof(error));
      bool met = valk__fault_count(kinds[i]) >= nth;
      valk__fault_arm(kinds[i], 0, false, 0);
      if (status != 0) {
        ASSERT(status == VALK_ENOMEM || status == VALK_ETLS);
        ASSERT_NE(error[0], '\0');
        ASSERT_PTR_EQ(rig.server->tls, before);
        if (failures++ % 64 == 0) {
          client_t client;
          ASSERT(client_open(&client, rig.port, NULL));
          size_t stream = client_request(&client, "GET", "/hello", NULL, -1);
          ASSERT(client_wait(&client, stream, 30000));
          ASSERT_EQ(client.streams[stream].status, 200);
          client_close(&client);
          RIG_UNTIL(rig_stats(&rig).connection.active == 1);
        }
      }
      if (!met)
        break;
    }
    ASSERT_GT(failures, 0);
  }
  size_t stream = client_request(&early, "GET", "/hello", NULL, -1);
  ASSERT(client_wait(&early, stream, 30000));
  ASSERT_EQ(early.streams[stream].status, 200);
  client_close(&early);
  rig_stop(&rig);
}
