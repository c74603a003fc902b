/* Each allocation fails of what certificates by server name and certificates of clients add to a
 * context, and of a handshake that uses both. */
#include "tls_peer.h"

static const int versions[] = {TLS1_3_VERSION, TLS1_2_VERSION};

/* A fallback, a certificate of the name that the peers ask for, one by wildcard; clients must show
 * the certificate of |client|. */
typedef struct {
  peer_pair_t fallback, exact, client;
  char *ca;
  valk_certificate_t contexts[2];
  valk_tls_options_t options;
} world_t;

static void make_world(world_t *world) {
  world->fallback = peer_make_pair("fallback");
  world->exact = peer_make_pair("exact");
  world->client = peer_make_pair("client");
  size_t size = strlen(world->client.certificate) + strlen(world->fallback.certificate) + 1;
  world->ca = malloc(size);
  ASSERT(world->ca);
  snprintf(world->ca, size, "%s%s", world->client.certificate, world->fallback.certificate);
  world->contexts[0] = peer_named("example.test", &world->exact);
  world->contexts[1] = peer_named("*.a.test", &world->exact);
  world->options = peer_options(world->fallback.key, world->fallback.certificate);
  world->options.contexts = world->contexts;
  world->options.context_count = 2;
  world->options.request_certificate = world->options.reject_unauthorized = true;
  world->options.ca = world->ca;
  world->options.ca_length = size - 1;
}

static void free_world(world_t *world) {
  peer_free_pair(&world->fallback);
  peer_free_pair(&world->exact);
  peer_free_pair(&world->client);
  free(world->ca);
}

static valk_tls_context_t *make(const valk_tls_options_t *options) {
  char error[256] = "";
  valk_tls_context_t *context;
  int status = valk_tls_context_new(options, &context, error, sizeof error);
  ASSERT_MSG(status == 0, "%s", error);
  return context;
}

/* A handshake with names and both certificates, in which allocation |nth| of the machine fails (0:
 * none). True when it did. */
static bool shake_hands(const world_t *world, valk_tls_context_t *context, int version,
                        uint64_t nth) {
  valk_ledger_t *ledger = valk_ledger_new(0);
  ASSERT(ledger);
  peer_t peer;
  peer_options_t options = {
      .version = version, .alpn = PEER_ALPN_H2, .ledger = ledger, .fail_at = nth};
  int opened = peer_open(&peer, context, &options);
  ASSERT(SSL_use_certificate(peer.client, world->client.x509));
  ASSERT(SSL_use_PrivateKey(peer.client, world->client.evp));
  if (opened != 0) {
    ASSERT_EQ(opened, VALK_ENOMEM);
    ASSERT_NULL(peer.tls);
  } else if (peer_shake_hands(&peer)) {
    /* Whatever failed, nobody is taken for somebody, or served with the wrong certificate. */
    ASSERT_EQ(X509_cmp(test_peer_certificate(peer.client), world->exact.x509), 0);
    ASSERT_GT(valk_tls_peer_certificate(peer.tls, NULL, 0), 0u);
    ASSERT_NULL(valk_tls_authorization_error(peer.tls));
  } else {
    ASSERT(peer.faulted);
  }
  bool faulted = peer.faulted;
  peer_close(&peer);
  /* What OpenSSL keeps for the thread goes; what it may still hold is places in its cache of
   * algorithms, which the handshakes without fault have filled. */
  OPENSSL_thread_stop();
  ASSERT(nth == 0 || ledger->used < 1024);
  valk_ledger_close(ledger);
  return faulted;
}

static uint64_t stride(void) {
  const char *value = getenv("FAULT_STEP");
  return value != NULL ? strtoull(value, NULL, 10) : 1;
}

TEST(tls_with_names_and_client_certificates_each_allocation_of_a_handshake_may_fail) {
  world_t world;
  make_world(&world);
  valk_tls_context_t *context = make(&world.options);
  for (int i = 0; i < 2; i++) {
    for (int warm = 0; warm < 3; warm++) {
      ASSERT_FALSE(shake_hands(&world, context, versions[i], 0));
    }
    /* The first two hundred one by one, later ones by samples. */
    uint64_t nth = 1;
    while (shake_hands(&world, context, versions[i], nth)) {
      nth += stride() + nth / 200;
    }
    ASSERT_GT(nth, 100u);
    ASSERT_FALSE(shake_hands(&world, context, versions[i], 0));
  }
  valk_tls_context_unref(context);
  free_world(&world);
}

TEST(tls_with_names_and_client_certificates_each_allocation_of_a_context_may_fail) {
  static const valk_fault_kind_t kinds[] = {VALK_FAULT_MALLOC, VALK_FAULT_LOCK};
  world_t world;
  make_world(&world);
  valk_tls_context_t *previous = make(&world.options);
  world.options.previous = previous;
  valk_tls_context_unref(make(&world.options));
  for (size_t i = 0; i < 2; i++) {
    unsigned failures = 0;
    for (uint64_t nth = 1;; nth = test_next_fault(nth, stride())) {
      valk_tls_context_t *context = NULL;
      char error[256] = "";
      valk__fault_arm(kinds[i], nth, false, 0);
      int result = valk_tls_context_new(&world.options, &context, error, sizeof error);
      bool met = valk__fault_count(kinds[i]) >= nth;
      valk__fault_arm(kinds[i], 0, false, 0);
      ASSERT_EQ(result == 0, context != NULL);
      ASSERT_EQ(result, met ? VALK_ENOMEM : 0);
      ASSERT_STR_EQ(error, met ? "no memory for the TLS context" : "");
      failures += result != 0;
      valk_tls_context_unref(context);
      if (!met) {
        break;
      }
    }
    ASSERT_GT(failures, 0u);
    printf("# %u failures\n", failures);
  }
  ASSERT_FALSE(shake_hands(&world, previous, TLS1_3_VERSION, 0));
  valk_tls_context_unref(previous);
  free_world(&world);
}
