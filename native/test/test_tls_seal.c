/* Records that go straight into a TCP buffer: against a client of the library's, and against the
 * example of RFC 8448. */
#include "tls_peer.h"

static void fill(uint8_t *bytes, size_t length, unsigned seed) {
  for (size_t i = 0; i < length; i++) {
    bytes[i] = (uint8_t) ((i * 2654435761u + seed) >> 13);
  }
}

/* Records of many sizes, several in a row. */
static void send_down(peer_t *peer, unsigned rounds) {
  static const size_t sizes[] = {1, 15, 16, 17, 1000, VALK_TLS_PLAIN_MAX};
  static uint8_t plain[VALK_TLS_PLAIN_MAX], back[VALK_TLS_PLAIN_MAX];
  for (unsigned i = 0; i < rounds; i++) {
    size_t length = sizes[i % (sizeof sizes / sizeof *sizes)];
    fill(plain, length, i);
    ASSERT_EQ(peer_write(peer, plain, length, VALK_TLS_RECORD_MAX), VALK_TLS_OK);
    ASSERT_EQ(SSL_read(peer->client, back, sizeof back), (int) length);
    ASSERT_MEM_EQ(back, plain, length);
  }
}

static unsigned changes; /* of keys that the client was told of */

static void on_message(int writing, int version, int type, const void *bytes, size_t length,
                       SSL *client, void *data) {
  (void) version;
  (void) client;
  (void) data;
  changes += !writing && type == SSL3_RT_HANDSHAKE && length > 0 &&
             *(const uint8_t *) bytes == SSL3_MT_KEY_UPDATE;
}

TEST(tls_seal_takes_records_over_with_13) {
  static const struct {
    peer_options_t options;
    bool seals;
  } cases[] = {
    {{.version = TLS1_3_VERSION, .suites = "TLS_AES_128_GCM_SHA256"}, true},
    {{.version = TLS1_3_VERSION, .suites = "TLS_AES_256_GCM_SHA384"}, true},
    {{.version = TLS1_3_VERSION, .suites = "TLS_CHACHA20_POLY1305_SHA256"}, true},
#if TEST_HAS_FRAGMENTS
    {{.version = TLS1_3_VERSION, .fragment_mode = TLSEXT_max_fragment_length_512}, true},
#endif
    {{.version = TLS1_2_VERSION}, false},
  };
  valk_tls_context_t *context = peer_context(peer_ec_key());
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    peer_options_t options = cases[i].options;
    options.alpn = PEER_ALPN_H2;
    peer_t peer;
    ASSERT_OK(peer_open(&peer, context, &options));
    ASSERT_NULL(peer.tls->traffic.suite);
    ASSERT_TRUE(peer_shake_hands(&peer));
    ASSERT_EQ(peer.tls->traffic.suite != NULL, cases[i].seals);
    ASSERT_EQ(peer.tls->ssl == NULL, cases[i].seals);
    if (options.fragment_mode == 0) {
      send_down(&peer, 60);
    }
    peer_echo(&peer, "both ways");
    size_t written = 0;
    ASSERT_EQ(peer_shutdown(&peer, 64, &written), VALK_TLS_OK);
    char byte;
    ASSERT_EQ(SSL_read(peer.client, &byte, 1), 0);
    ASSERT_EQ(SSL_get_error(peer.client, 0), SSL_ERROR_ZERO_RETURN);
    ASSERT_EQ(peer_write(&peer, (const uint8_t *) "x", 1, VALK_TLS_RECORD_MAX), VALK_TLS_FAILED);
    peer_close(&peer);
  }
  valk_tls_context_unref(context);
}

TEST(tls_seal_follows_each_change_of_keys) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  peer_t peer;
  ASSERT_OK(peer_open(&peer, context, &(peer_options_t){.alpn = PEER_ALPN_H2}));
  ASSERT_TRUE(peer_shake_hands(&peer));
  for (int i = 0; i < 5; i++) {
    send_down(&peer, 7);
    ASSERT_EQ(SSL_key_update(peer.client, SSL_KEY_UPDATE_REQUESTED), 1);
    ASSERT(test_flush(peer.client));
    ASSERT_EQ(peer_carry(&peer), VALK_TLS_WANT_INPUT);
    send_down(&peer, 7);
  }
  peer_close(&peer);
  valk_tls_context_unref(context);
}

TEST(tls_seal_changes_a_key_that_has_written_enough) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  context->key_records = 5;
  peer_t peer;
  ASSERT_OK(peer_open(&peer, context, &(peer_options_t){.alpn = PEER_ALPN_H2}));
  ASSERT_TRUE(peer_shake_hands(&peer));
  changes = 0;
  SSL_set_msg_callback(peer.client, on_message);
  send_down(&peer, 50);
  /* The first key has written a ticket, too; the others' first record is data. */
  ASSERT_EQ(changes, 10u);
  ASSERT_EQ(valk_tls_rekeys(peer.tls), 0u);
  peer_echo(&peer, "both ways");
  peer_close(&peer);
  valk_tls_context_unref(context);
}

/* A change of keys in which an allocation fails is the connection's end. */
TEST(tls_seal_each_allocation_of_a_change_of_keys_may_fail) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  unsigned failed = 0;
  for (uint64_t nth = 1;; nth++) {
    peer_t peer;
    ASSERT_OK(peer_open(&peer, context, &(peer_options_t){.alpn = PEER_ALPN_H2}));
    ASSERT_TRUE(peer_shake_hands(&peer));
    peer.fault_left = nth;
    ASSERT_EQ(SSL_key_update(peer.client, SSL_KEY_UPDATE_REQUESTED), 1);
    ASSERT(test_flush(peer.client));
    valk_tls_result_t result = peer_carry(&peer);
    if (result == VALK_TLS_WANT_INPUT) {
      result = peer_write(&peer, (const uint8_t *) "one", 3, VALK_TLS_RECORD_MAX);
    }
    bool faulted = peer.faulted;
    peer.fault_left = 0;
    if (result == VALK_TLS_OK) {
      char back[4] = "";
      ASSERT_EQ(SSL_read(peer.client, back, 3), 3);
      ASSERT_STR_EQ(back, "one");
      send_down(&peer, 7);
      peer_echo(&peer, "after");
    } else {
      ASSERT_EQ(result, VALK_TLS_FAILED);
      ASSERT(faulted);
      failed++;
    }
    peer_close(&peer);
    if (!faulted) {
      break;
    }
  }
  ASSERT_GT(failed, 0u);
  printf("# %u failed\n", failed);
  valk_tls_context_unref(context);
}

/* RFC 8448, section 3: the server's secret, and its second record under it. */
static const uint8_t example_secret[] = {
    0xa1, 0x1a, 0xf9, 0xf0, 0x55, 0x31, 0xf8, 0x56, 0xad, 0x47, 0x11, 0x6b, 0x45, 0xa9, 0x50, 0x32,
    0x82, 0x04, 0xb4, 0xf4, 0x4b, 0xfb, 0x6b, 0x3a, 0x4b, 0x4f, 0x1f, 0x3f, 0xcb, 0x63, 0x16, 0x43};
static const uint8_t example_record[] = {
    0x17, 0x03, 0x03, 0x00, 0x43, 0x2e, 0x93, 0x7e, 0x11, 0xef, 0x4a, 0xc7, 0x40, 0xe5, 0x38,
    0xad, 0x36, 0x00, 0x5f, 0xc4, 0xa4, 0x69, 0x32, 0xfc, 0x32, 0x25, 0xd0, 0x5f, 0x82, 0xaa,
    0x1b, 0x36, 0xe3, 0x0e, 0xfa, 0xf9, 0x7d, 0x90, 0xe6, 0xdf, 0xfc, 0x60, 0x2d, 0xcb, 0x50,
    0x1a, 0x59, 0xa8, 0xfc, 0xc4, 0x9c, 0x4b, 0xf2, 0xe5, 0xf0, 0xa2, 0x1c, 0x00, 0x47, 0xc2,
    0xab, 0xf3, 0x32, 0x54, 0x0d, 0xd0, 0x32, 0xe1, 0x67, 0xc2, 0x95, 0x5d};

static valk__tls_suites_t suites;

static valk__tls_key_t example_key(uint64_t sequence) {
  ASSERT_OK(valk_tls_init());
  ASSERT(valk__tls_suites_init(&suites));
  const valk__tls_suite_t *suite = valk__tls_suite(&suites, 0x1301);
  ASSERT_NOT_NULL(suite);
  ASSERT_NULL(valk__tls_suite(&suites, 0x1304));
  valk__tls_key_t key = {.context = NULL};
  ASSERT(valk__tls_key_set(&key, suite, example_secret, true));
  key.sequence = sequence;
  return key;
}

TEST(tls_seal_writes_the_record_of_the_example) {
  valk__tls_key_t key = example_key(1);
  uint8_t plain[50], out[sizeof plain + VALK__TLS_SEAL_OVERHEAD];
  for (unsigned i = 0; i < sizeof plain; i++) {
    plain[i] = (uint8_t) i;
  }
  ASSERT(valk__tls_seal(&key, SSL3_RT_APPLICATION_DATA, plain, sizeof plain, out));
  ASSERT_EQ(sizeof out, sizeof example_record);
  ASSERT_MEM_EQ(out, example_record, sizeof out);
  /* The next one has another number. */
  uint8_t other[sizeof out];
  ASSERT(valk__tls_seal(&key, SSL3_RT_APPLICATION_DATA, plain, sizeof plain, other));
  ASSERT_NE(memcmp(out + 5, other + 5, sizeof plain), 0);
  valk__tls_key_end(&key);
  valk__tls_suites_free(&suites);
}

TEST(tls_seal_ends_with_the_last_number) {
  valk__tls_key_t key = example_key(UINT64_MAX - 1);
  uint8_t out[64];
  ASSERT(valk__tls_seal(&key, SSL3_RT_APPLICATION_DATA, (const uint8_t *) "a", 1, out));
  ASSERT_FALSE(valk__tls_seal(&key, SSL3_RT_APPLICATION_DATA, (const uint8_t *) "a", 1, out));
  valk__tls_key_end(&key);
  valk__tls_suites_free(&suites);
}
