/* Clients with certificates, the engine and the bridge, and handlers that outlive their
 * connections: what they have of a certificate, and what the engine keeps of it. The test's own
 * thread is JavaScript. */
#include <malloc.h>

#include <openssl/x509v3.h>

#include "../core/fault.h"
#include "fake_javascript.h"
#include "support/child.h"
#include "support/client.h"
#include "support/rig.h"
#include "test.h"
#include "tls_peer.h"

enum {
  COMMENT = 30000,    /* bytes that make the certificate nearly as large as one may be */
  CONNECTIONS = 240,  /* that end while their handlers run */
  MOST = COMMENT / 8, /* bytes of each: its request's record, and freed blocks that are kept at hand
                       */
  REQUESTS = 400 /* allocations at the end of a client's way, which are those of its requests */
};

static rig_t rig;
static fake_js_t js;
static EVP_PKEY *key;
static X509 *certificate;
static uint8_t *der; /* the certificate's */
static size_t der_length;

static void make_client(void) {
  rig_key(); /* sets OpenSSL's allocations up */
  key = peer_ec_key();
  certificate = peer_certificate(key, "client", NULL, NULL);
  ASN1_IA5STRING *comment = ASN1_IA5STRING_new();
  uint8_t *text = calloc(1, COMMENT);
  memset(text, 'c', COMMENT);
  ASSERT(ASN1_STRING_set(comment, text, COMMENT));
  ASSERT(X509_add1_ext_i2d(certificate, NID_netscape_comment, comment, 0, X509V3_ADD_DEFAULT));
  ASN1_IA5STRING_free(comment);
  free(text);
  ASSERT(X509_sign(certificate, key, EVP_sha256()));
  int length = i2d_X509(certificate, &der);
  ASSERT_GT(length, COMMENT);
  der_length = (size_t) length;
}

static void free_client(void) {
  OPENSSL_free(der);
  X509_free(certificate);
  EVP_PKEY_free(key);
}

static bool open_client(client_t *client, uint16_t port) {
  client_options_t options = {.key = key, .certificate = certificate};
  return client_open(client, port, &options);
}

static void no_wake(void *data) {
  (void) data; /* the test looks all the time */
}

/* The bridge stands between the system and its server. */
static void through_bridge(valk_server_options_t *options) {
  fake_js_init(&js, rig.system, 256 << 10, no_wake, NULL);
  options->consumer = valk_bridge_consumer(js.bridge);
  options->data = valk_bridge_server_data(1, false);
  options->request_certificate = true;
  options->ca = rig_certificate();
  options->ca_length = strlen(options->ca);
}

static void start(void) {
  valk_config_t config = rig_config();
  config.arena_pool_size = config.queue_capacity = CONNECTIONS + 60;
  config.handler_timeout_ms = config.queue_timeout_ms = 600000;
  config.handshake_timeout_ms = config.idle_timeout_ms = 600000;
  rig_start(&rig, &config, through_bridge);
}

static void stop(void) {
  RIG_UNTIL(valk_bridge_open(js.bridge) == 0);
  fake_js_deinit(&js);
  rig_stop(&rig);
  free_client();
}

static bool claim_one(fake_claim_t *claim) {
  valk_bridge_begin(js.bridge);
  bool claimed = fake_js_claim(&js, claim);
  valk_bridge_sleep(js.bridge);
  return claimed;
}

static void check_certificate(const fake_claim_t *claim) {
  ASSERT_EQ(claim->certificate_length, der_length);
  ASSERT_MEM_EQ(claim->certificate, der, sizeof(claim->certificate));
}

static void settle(const fake_claim_t *claim) {
  fake_js_tell(&js, claim, VALK_OUT_SETTLE, 0);
  ASSERT_OK(valk_bridge_flush(js.bridge));
}

/* Sanitizers have an allocator of their own; valgrind's tells nothing, so that there the bound is
 * not tested. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static size_t allocated(void) {
  if (__sanitizer_get_current_allocated_bytes != NULL)
    return __sanitizer_get_current_allocated_bytes();
  struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

/* A client whose handler runs on after it has gone. */
static void outlive(fake_claim_t *claim) {
  client_t client;
  ASSERT(open_client(&client, rig.port));
  client_request(&client, "GET", "/", NULL, -1);
  uint64_t end = client_clock_ms() + 30000;
  while (!claim_one(claim)) {
    ASSERT_LT(client_clock_ms(), end);
    client_pump(&client, 5);
  }
  check_certificate(claim);
  client_vanish(&client, true);
  RIG_UNTIL(rig_stats(&rig).connection.active == 0);
}

TEST(handlers_that_outlive_their_connections_keep_no_certificate) {
  make_client();
  start();
  fake_claim_t claims[CONNECTIONS + 1];
  outlive(&claims[CONNECTIONS]); /* tables have grown, what is lazily made is made */
  size_t before = allocated();
  for (int i = 0; i < CONNECTIONS; i++)
    outlive(&claims[i]);
  size_t after = allocated();
  ASSERT_EQ(valk_bridge_open(js.bridge), CONNECTIONS + 1);
  size_t grown = after > before ? after - before : 0;
  printf("# %zu bytes for each of %d handlers\n", grown / CONNECTIONS, CONNECTIONS);
  ASSERT_LT(grown / CONNECTIONS, MOST);
  for (int i = 0; i <= CONNECTIONS; i++)
    settle(&claims[i]);
  stop();
}

/* ---- the i-th allocation fails ---- */

/* One request that is held, and one behind it that is answered; then the client is gone. How far it
 * comes is not asserted. */
static void meet(uint16_t port) {
  client_t client;
  if (!open_client(&client, port)) {
    client_close(&client);
    return;
  }
  client_request(&client, "GET", "/hold", NULL, -1);
  size_t whole = client_request(&client, "GET", "/whole", NULL, -1);
  client_wait(&client, whole, 20000);
  client_vanish(&client, true);
}

/* The child's client and its handlers. True: its certificate was seen. */
static bool run_child(void) {
  bool seen = false, holds = false;
  fake_claim_t claim, held;
  child_meet(rig.port);
  while (!child_done(false)) {
    while (claim_one(&claim)) {
      check_certificate(&claim); /* whole, whatever failed: nobody is taken for nobody */
      seen = true;
      if (strstr(claim.head, "/hold") != NULL) {
        held = claim;
        holds = true;
      } else {
        fake_js_respond(&js, &claim, 200, "a\nb\n", "whole");
        ASSERT_OK(valk_bridge_flush(js.bridge));
      }
    }
    uv_sleep(1);
  }
  RIG_UNTIL(rig_stats(&rig).connection.active == 0);
  while (claim_one(&claim)) /* what came last */
    settle(&claim);
  if (holds)
    settle(&held);
  int32_t events[8 * VALK_EVENT_WORDS];
  while (valk_bridge_events(js.bridge, events, 8) > 0) {
  }
  RIG_UNTIL(valk_bridge_open(js.bridge) == 0);
  return seen;
}

TEST(each_allocation_fails_on_the_way_of_a_client_with_a_certificate) {
  const char *given = getenv("FAULT_STEP");
  uint64_t step = given == NULL ? 1 : strtoull(given, NULL, 10);
  make_client();
  child_start(meet); /* OpenSSL's allocations in this process are the engine's */
  start();
  ASSERT(run_child()); /* once without faults: tables grown, lazily made things made */
  valk__fault_arm(VALK_FAULT_MALLOC, UINT64_MAX, false, 0);
  ASSERT(run_child());
  uint64_t points = valk__fault_count(VALK_FAULT_MALLOC), lost = 0;
  /* The handshake has thousands, of which test_tls_faults.c goes through all. */
  for (uint64_t nth = 1; nth <= points; nth += nth + REQUESTS < points ? 16 * step : step) {
    valk__fault_arm(VALK_FAULT_MALLOC, nth, false, 0);
    lost += !run_child();
    valk__fault_arm(VALK_FAULT_MALLOC, 0, false, 0);
  }
  printf("# %llu points\n", (unsigned long long) points);
  ASSERT_GT(lost, 0);
  ASSERT(run_child());
  child_end();
  stop();
}
