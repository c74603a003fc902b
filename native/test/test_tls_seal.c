/* Records that go straight into a TCP buffer: against a client of OpenSSL's, and against the
 * example of RFC 8448. With an OpenSSL that keeps its records to itself there is nothing to test
 * but that it does. */
#include <linux/tls.h>

#include "tls_peer.h"

static bool seals(int version) {
  return VALK__TLS_SEALS && version == TLS1_3_VERSION;
}

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

TEST(tls_seal_is_chosen_where_it_can_be) {
  static const struct {
    peer_options_t options;
    bool seals;
  } cases[] = {
      {{.version = TLS1_3_VERSION, .suites = "TLS_AES_128_GCM_SHA256"}, true},
      {{.version = TLS1_3_VERSION, .suites = "TLS_AES_256_GCM_SHA384"}, true},
      {{.version = TLS1_3_VERSION, .suites = "TLS_CHACHA20_POLY1305_SHA256"}, true},
      {{.version = TLS1_3_VERSION, .fragment_mode = TLSEXT_max_fragment_length_512}, false},
      {{.version = TLS1_2_VERSION}, false},
  };
  valk_tls_context_t *context = peer_context(peer_ec_key());
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    peer_options_t options = cases[i].options;
    options.alpn = PEER_ALPN_H2;
    peer_t peer;
    ASSERT_OK(peer_open(&peer, context, &options));
    ASSERT_FALSE(valk__tls_seals(peer.tls));
    ASSERT_TRUE(peer_shake_hands(&peer));
    ASSERT_EQ(valk__tls_seals(peer.tls), VALK__TLS_SEALS && cases[i].seals);
    ASSERT_EQ(valk__tls_opens(peer.tls), valk__tls_seals(peer.tls));
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
    ASSERT_EQ(SSL_do_handshake(peer.client), 1);
    ASSERT_EQ(peer_carry(&peer), VALK_TLS_WANT_INPUT);
    send_down(&peer, 7);
    ASSERT_EQ(valk__tls_seals(peer.tls), seals(TLS1_3_VERSION));
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
  ASSERT_EQ(changes, seals(TLS1_3_VERSION) ? 10u : 0u);
  ASSERT_EQ(valk_tls_rekeys(peer.tls), 0u);
  peer_echo(&peer, "both ways");
  peer_close(&peer);
  valk_tls_context_unref(context);
}

/* A change of keys in which an allocation fails is either whole or the connection's end; where
 * memory for the cipher alone is missing the records are OpenSSL's again. */
TEST(tls_seal_each_allocation_of_a_change_of_keys_may_fail) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  unsigned failed = 0, went_on = 0;
  for (uint64_t nth = 1;; nth++) {
    peer_t peer;
    ASSERT_OK(peer_open(&peer, context, &(peer_options_t){.alpn = PEER_ALPN_H2}));
    ASSERT_TRUE(peer_shake_hands(&peer));
    peer.fault_left = nth;
    ASSERT_EQ(SSL_key_update(peer.client, SSL_KEY_UPDATE_REQUESTED), 1);
    ASSERT_EQ(SSL_do_handshake(peer.client), 1);
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
      went_on += faulted;
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
  printf("# %u failed, %u went on\n", failed, went_on);
  valk_tls_context_unref(context);
}

/* RFC 8448, section 3: the server's application data, its second record under that key. */
static const uint8_t example_key[] = {0x9f, 0x02, 0x28, 0x3b, 0x6c, 0x9c, 0x07, 0xef,
                                      0xc2, 0x6b, 0xb9, 0xf2, 0xac, 0x92, 0xe3, 0x56};
static const uint8_t example_iv[] = {0xcf, 0x78, 0x2b, 0x88, 0xdd, 0x83,
                                     0x54, 0x9a, 0xad, 0xf1, 0xe9, 0x84};
static const uint8_t example_record[] = {
    0x17, 0x03, 0x03, 0x00, 0x43, 0x2e, 0x93, 0x7e, 0x11, 0xef, 0x4a, 0xc7, 0x40, 0xe5, 0x38,
    0xad, 0x36, 0x00, 0x5f, 0xc4, 0xa4, 0x69, 0x32, 0xfc, 0x32, 0x25, 0xd0, 0x5f, 0x82, 0xaa,
    0x1b, 0x36, 0xe3, 0x0e, 0xfa, 0xf9, 0x7d, 0x90, 0xe6, 0xdf, 0xfc, 0x60, 0x2d, 0xcb, 0x50,
    0x1a, 0x59, 0xa8, 0xfc, 0xc4, 0x9c, 0x4b, 0xf2, 0xe5, 0xf0, 0xa2, 0x1c, 0x00, 0x47, 0xc2,
    0xab, 0xf3, 0x32, 0x54, 0x0d, 0xd0, 0x32, 0xe1, 0x67, 0xc2, 0x95, 0x5d};

static struct tls12_crypto_info_aes_gcm_128 example(uint64_t sequence) {
  struct tls12_crypto_info_aes_gcm_128 info = {
      .info = {.version = TLS_1_3_VERSION, .cipher_type = TLS_CIPHER_AES_GCM_128}};
  memcpy(info.key, example_key, sizeof info.key);
  memcpy(info.salt, example_iv, sizeof info.salt);
  memcpy(info.iv, example_iv + sizeof info.salt, sizeof info.iv);
  for (unsigned i = 0; i < 8; i++) {
    info.rec_seq[i] = (uint8_t) (sequence >> (56 - 8 * i));
  }
  return info;
}

static valk__tls_ciphers_t ciphers;

static void make_ciphers(void) {
  ASSERT_OK(valk_tls_init());
  ASSERT(valk__tls_ciphers_init(&ciphers));
}

TEST(tls_seal_writes_the_record_of_the_example) {
  make_ciphers();
  valk__tls_key_t key = {.context = NULL};
  struct tls12_crypto_info_aes_gcm_128 info = example(1);
  ASSERT(valk__tls_key_set(&key, &ciphers, &info, true));
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
  valk__tls_ciphers_free(&ciphers);
}

TEST(tls_seal_ends_with_the_last_number) {
  make_ciphers();
  valk__tls_key_t key = {.context = NULL};
  struct tls12_crypto_info_aes_gcm_128 info = example(UINT64_MAX - 1);
  ASSERT(valk__tls_key_set(&key, &ciphers, &info, true));
  uint8_t out[64];
  ASSERT(valk__tls_seal(&key, SSL3_RT_APPLICATION_DATA, (const uint8_t *) "a", 1, out));
  ASSERT_FALSE(valk__tls_seal(&key, SSL3_RT_APPLICATION_DATA, (const uint8_t *) "a", 1, out));
  valk__tls_key_end(&key);
  valk__tls_ciphers_free(&ciphers);
}

TEST(tls_seal_takes_only_what_it_knows) {
  make_ciphers();
  valk__tls_key_t key = {.context = NULL};
  struct tls12_crypto_info_aes_gcm_128 info = example(0);
  info.info.version = TLS_1_2_VERSION;
  ASSERT_FALSE(valk__tls_key_set(&key, &ciphers, &info, true));
  info = example(0);
  info.info.cipher_type = TLS_CIPHER_AES_CCM_128;
  ASSERT_FALSE(valk__tls_key_set(&key, &ciphers, &info, true));
  ASSERT_NULL(key.context);
  info = example(0);
  valk__fault_arm(VALK_FAULT_MALLOC, 1, false, 0);
  ASSERT_FALSE(valk__tls_key_set(&key, &ciphers, &info, true));
  valk__fault_arm(VALK_FAULT_MALLOC, 0, false, 0);
  ASSERT_NULL(key.context);
  /* One that was taken is let go of with one that is not. */
  ASSERT(valk__tls_key_set(&key, &ciphers, &info, true));
  info.info.version = TLS_1_2_VERSION;
  ASSERT_FALSE(valk__tls_key_set(&key, &ciphers, &info, true));
  ASSERT_NULL(key.context);
  valk__tls_ciphers_free(&ciphers);
}
