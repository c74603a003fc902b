#include "tls_peer.h"

#define ALPN_HTTP1 "\x08http/1.1"
#define MIB (1024u * 1024u)

static const int versions[] = {TLS1_3_VERSION, TLS1_2_VERSION};

/* Repeats with no period that a lost or doubled record could hide in. */
static uint8_t pattern(size_t offset) {
  return (uint8_t) ((offset * 2654435761u) >> 17 ^ offset >> 20);
}

static void fill(uint8_t *bytes, size_t offset, size_t length) {
  for (size_t i = 0; i < length; i++) {
    bytes[i] = pattern(offset + i);
  }
}

/* ---- shaking hands ---- */

TEST(tls_13_handshake) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  peer_t peer;
  ASSERT_OK(peer_open(&peer, context, &(peer_options_t){.alpn = PEER_ALPN_H2}));
  ASSERT_FALSE(valk_tls_handshaken(peer.tls));
  ASSERT_FALSE(valk_tls_is_h2(peer.tls));
  ASSERT_TRUE(peer_shake_hands(&peer));
  ASSERT_TRUE(valk_tls_is_h2(peer.tls));
  ASSERT_FALSE(valk_tls_resumed(peer.tls));
  ASSERT_STR_EQ(valk_tls_version(peer.tls), "TLSv1.3");
  ASSERT_STR_EQ(valk_tls_cipher(peer.tls), "TLS_AES_128_GCM_SHA256");
  ASSERT_STR_EQ(valk_tls_servername(peer.tls), "example.test");
  ASSERT_NULL(valk_tls_error(peer.tls));
  ASSERT_EQ(peer.sessions, 1u);
  peer_echo(&peer, "hello");
  peer_close(&peer);
  valk_tls_context_unref(context);
}

TEST(tls_12_handshake) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  peer_t peer;
  ASSERT_OK(peer_open(&peer, context,
                      &(peer_options_t){.version = TLS1_2_VERSION, .alpn = PEER_ALPN_H2}));
  ASSERT_TRUE(peer_shake_hands(&peer));
  ASSERT_TRUE(valk_tls_is_h2(peer.tls));
  ASSERT_STR_EQ(valk_tls_version(peer.tls), "TLSv1.2");
  ASSERT_STR_EQ(valk_tls_cipher(peer.tls), "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
  ASSERT_STR_EQ(valk_tls_servername(peer.tls), "example.test");
  peer_echo(&peer, "hello");
  peer_close(&peer);
  valk_tls_context_unref(context);
}

TEST(tls_input_may_come_byte_by_byte) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  for (int i = 0; i < 2; i++) {
    peer_t peer;
    ASSERT_OK(peer_open(
        &peer, context,
        &(peer_options_t){.version = versions[i], .alpn = PEER_ALPN_H2, .input_step = 1}));
    ASSERT_TRUE(peer_shake_hands(&peer));
    peer_echo(&peer, "one byte at a time");
    peer_close(&peer);
  }
  valk_tls_context_unref(context);
}

/* A chain of twenty certificates: a handshake flight far larger than any span lent here. */
static valk_tls_context_t *long_chain_context(void) {
  EVP_PKEY *key = peer_ec_key();
  EVP_PKEY *issuer_key = EVP_EC_gen("P-521");
  X509 *issuer = peer_certificate(issuer_key, "issuer", NULL, NULL);
  X509 *leaf = peer_certificate(key, "localhost", issuer, issuer_key);
  char *leaf_pem = peer_certificate_pem(leaf);
  char *issuer_pem = peer_certificate_pem(issuer);
  char *key_pem = peer_key_pem(key, NULL);
  char *chain = calloc(1, strlen(leaf_pem) + 19 * strlen(issuer_pem) + 1);
  ASSERT(chain);
  strcat(chain, leaf_pem);
  for (int i = 0; i < 19; i++) {
    strcat(chain, issuer_pem);
  }
  valk_tls_options_t options = peer_options(key_pem, chain);
  valk_tls_context_t *context = NULL;
  char error[256] = "";
  ASSERT_MSG(valk_tls_context_new(&options, &context, error, sizeof error) == 0, "%s", error);
  free(chain);
  free(key_pem);
  free(leaf_pem);
  free(issuer_pem);
  X509_free(leaf);
  X509_free(issuer);
  EVP_PKEY_free(issuer_key);
  EVP_PKEY_free(key);
  return context;
}

TEST(tls_flight_goes_out_through_any_span) {
  valk_tls_context_t *context = long_chain_context();
  static const size_t rooms[] = {1, 63, 64, 65, 100, 4095, 4096, 8192};
  for (int i = 0; i < 2; i++) {
    for (size_t r = 0; r < sizeof rooms / sizeof *rooms; r++) {
      peer_t peer;
      ASSERT_OK(peer_open(&peer, context,
                          &(peer_options_t){.version = versions[i],
                                            .alpn = PEER_ALPN_H2,
                                            .output_room = rooms[r]}));
      ASSERT_TRUE(peer_shake_hands(&peer));
      ASSERT_EQ(sk_X509_num(SSL_get_peer_cert_chain(peer.client)), 20);
      ASSERT_GT(peer.want_output, 0u);
      peer_echo(&peer, "whole");
      peer_close(&peer);
    }
  }
  valk_tls_context_unref(context);
}

TEST(tls_without_room_nothing_is_lost) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  peer_t peer;
  ASSERT_OK(peer_open(&peer, context, &(peer_options_t){.alpn = PEER_ALPN_H2}));
  ASSERT_EQ(SSL_do_handshake(peer.client), -1);
  char *hello = NULL;
  long length = BIO_get_mem_data(peer.to_server, &hello);
  valk_tls_input_t input = {(uint8_t *) hello, (size_t) length, 0};
  for (int i = 0; i < 3; i++) {
    ASSERT_EQ(peer_read(&peer, &input, 0), VALK_TLS_WANT_OUTPUT);
    ASSERT_TRUE(valk_tls_pending_output(peer.tls));
    ASSERT_EQ(input.used, (size_t) length);
    ASSERT_EQ(BIO_pending(peer.to_client), 0);
  }
  ASSERT_EQ(BIO_reset(peer.to_server), 1);
  ASSERT_TRUE(peer_shake_hands(&peer));
  ASSERT_FALSE(valk_tls_pending_output(peer.tls));
  peer_echo(&peer, "after");
  peer_close(&peer);
  valk_tls_context_unref(context);
}

TEST(tls_cipher_order) {
  static const struct {
    int version;
    const char *offered;
    const char *chosen;
  } cases[] = {
      {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"},
      {TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256",
       "TLS_CHACHA20_POLY1305_SHA256"},
      {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"},
      {TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"},
      {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256",
       "TLS_AES_256_GCM_SHA384"},
      /* OpenSSL's own order, and so that of many clients. */
      {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256",
       "TLS_AES_128_GCM_SHA256"},
      {TLS1_2_VERSION,
       "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256",
       "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
      {TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305",
       "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"},
      {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305",
       "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"},
      {TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256",
       "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
      {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256",
       "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"},
      {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA", NULL},
      {TLS1_2_VERSION, "AES128-GCM-SHA256", NULL},
  };
  valk_tls_context_t *context = peer_context(peer_ec_key());
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    peer_options_t options = {.version = cases[i].version, .alpn = PEER_ALPN_H2};
    *(options.version == TLS1_3_VERSION ? &options.suites : &options.ciphers) = cases[i].offered;
    peer_t peer;
    ASSERT_OK(peer_open(&peer, context, &options));
    ASSERT_EQ(peer_shake_hands(&peer), cases[i].chosen != NULL);
    if (cases[i].chosen) {
      ASSERT_STR_EQ(valk_tls_cipher(peer.tls), cases[i].chosen);
    } else {
      ASSERT_EQ(peer.last, VALK_TLS_FAILED);
      ASSERT_STR_EQ(valk_tls_error(peer.tls), "no shared cipher suite");
    }
    peer_close(&peer);
  }
  valk_tls_context_unref(context);
}

TEST(tls_11_is_refused) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  peer_t peer;
  ASSERT_OK(
      peer_open(&peer, context, &(peer_options_t){.version = TLS1_1_VERSION, .ciphers = "ALL"}));
  ASSERT_FALSE(peer_shake_hands(&peer));
  ASSERT_STR_EQ(valk_tls_error(peer.tls), "unsupported protocol version");
  peer_close(&peer);
  valk_tls_context_unref(context);
}

/* ---- application protocol ---- */

TEST(tls_alpn) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  for (int i = 0; i < 2; i++) {
    peer_t peer;
    ASSERT_OK(
        peer_open(&peer, context,
                  &(peer_options_t){.version = versions[i], .alpn = ALPN_HTTP1 PEER_ALPN_H2}));
    ASSERT_TRUE(peer_shake_hands(&peer));
    ASSERT_TRUE(valk_tls_is_h2(peer.tls));
    peer_close(&peer);

    ASSERT_OK(peer_open(&peer, context, &(peer_options_t){.version = versions[i]}));
    ASSERT_TRUE(peer_shake_hands(&peer));
    ASSERT_FALSE(valk_tls_is_h2(peer.tls));
    size_t written = 0;
    ASSERT_EQ(peer_shutdown(&peer, 256, &written), VALK_TLS_OK);
    ASSERT_GT(written, 0u);
    peer_close(&peer);

    ASSERT_OK(
        peer_open(&peer, context, &(peer_options_t){.version = versions[i], .alpn = ALPN_HTTP1}));
    ASSERT_FALSE(peer_shake_hands(&peer));
    ASSERT_EQ(peer.last, VALK_TLS_FAILED);
    ASSERT_STR_EQ(valk_tls_error(peer.tls), "no application protocol");
    ASSERT_EQ(ERR_GET_REASON(ERR_peek_error()), SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL);
    peer_close(&peer);
  }
  valk_tls_context_unref(context);
}

/* ---- records ---- */

TEST(tls_records_fill_a_buffer) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  static const struct {
    int version;
    size_t overhead;
  } cases[] = {{TLS1_3_VERSION, 5 + 1 + 16}, {TLS1_2_VERSION, 5 + 8 + 16}};
  ASSERT_EQ(VALK_TCP_BUFFER_SIZE, 33418u);
  ASSERT_EQ(VALK_TLS_RECORD_MAX, 16709u);
  for (int i = 0; i < 2; i++) {
    peer_t peer;
    ASSERT_OK(peer_open(&peer, context,
                        &(peer_options_t){.version = cases[i].version, .alpn = PEER_ALPN_H2}));
    ASSERT_TRUE(peer_shake_hands(&peer));
    uint8_t *plain = malloc(2 * VALK_TLS_PLAIN_MAX);
    uint8_t *buffer = malloc(VALK_TCP_BUFFER_SIZE);
    ASSERT(plain && buffer);
    fill(plain, 0, 2 * VALK_TLS_PLAIN_MAX);
    valk_tls_output_t output = {buffer, VALK_TCP_BUFFER_SIZE, 0};
    size_t record = VALK_TLS_PLAIN_MAX + cases[i].overhead;
    for (size_t n = 0; n < 2; n++) {
      ASSERT_EQ(
          valk_tls_write(peer.tls, plain + n * VALK_TLS_PLAIN_MAX, VALK_TLS_PLAIN_MAX, &output),
          VALK_TLS_OK);
      ASSERT_EQ(output.length, (n + 1) * record);
      const uint8_t *header = buffer + n * record;
      ASSERT_EQ(header[0], SSL3_RT_APPLICATION_DATA);
      ASSERT_EQ((size_t) (header[3] << 8 | header[4]), record - 5);
    }
    if (cases[i].version == TLS1_3_VERSION) {
      ASSERT_EQ(output.length, 32812u);
      ASSERT_EQ(output.length - 32 * 1024, 44u);
    }
    /* No third one, and no part of one. */
    ASSERT_EQ(valk_tls_write(peer.tls, plain, 1, &output), VALK_TLS_WANT_OUTPUT);
    ASSERT_EQ(output.length, 2 * record);
    ASSERT_FALSE(valk_tls_pending_output(peer.tls));
    ASSERT_EQ(BIO_write(peer.to_client, buffer, (int) output.length), (int) output.length);
    uint8_t *back = malloc(2 * VALK_TLS_PLAIN_MAX);
    ASSERT_EQ(SSL_read(peer.client, back, VALK_TLS_PLAIN_MAX), (int) VALK_TLS_PLAIN_MAX);
    ASSERT_EQ(SSL_read(peer.client, back + VALK_TLS_PLAIN_MAX, VALK_TLS_PLAIN_MAX),
              (int) VALK_TLS_PLAIN_MAX);
    ASSERT_MEM_EQ(back, plain, 2 * VALK_TLS_PLAIN_MAX);
    free(back);
    free(buffer);
    free(plain);
    peer_close(&peer);
  }
  valk_tls_context_unref(context);
}

TEST(tls_write_wants_room_for_a_record) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  peer_t peer;
  ASSERT_OK(peer_open(&peer, context, &(peer_options_t){.alpn = PEER_ALPN_H2}));
  ASSERT_EQ(peer_write(&peer, (const uint8_t *) "early", 5, VALK_TLS_RECORD_MAX),
            VALK_TLS_WANT_INPUT);
  ASSERT_TRUE(peer_shake_hands(&peer));
  int pending = (int) BIO_pending(peer.to_client);
  ASSERT_EQ(peer_write(&peer, (const uint8_t *) "no", 2, 0), VALK_TLS_WANT_OUTPUT);
  ASSERT_EQ(peer_write(&peer, (const uint8_t *) "no", 2, VALK_TLS_RECORD_MAX - 1),
            VALK_TLS_WANT_OUTPUT);
  ASSERT_EQ((int) BIO_pending(peer.to_client), pending);
  ASSERT_EQ(peer_write(&peer, (const uint8_t *) "yes", 3, VALK_TLS_RECORD_MAX), VALK_TLS_OK);
  char back[16] = "";
  ASSERT_EQ(SSL_read(peer.client, back, sizeof back), 3);
  ASSERT_STR_EQ(back, "yes");
  peer_close(&peer);
  valk_tls_context_unref(context);
}

#if TEST_HAS_FRAGMENTS
TEST(tls_smaller_fragments_are_never_cut) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  static uint8_t plain[VALK_TLS_PLAIN_MAX];
  static uint8_t back[VALK_TLS_PLAIN_MAX];
  fill(plain, 0, sizeof plain);
  for (int i = 0; i < 2; i++) {
    for (uint8_t mode = TLSEXT_max_fragment_length_512; mode <= TLSEXT_max_fragment_length_4096;
         mode++) {
      peer_t peer;
      ASSERT_OK(peer_open(
          &peer, context,
          &(peer_options_t){.version = versions[i], .alpn = PEER_ALPN_H2, .fragment_mode = mode}));
      ASSERT_TRUE(peer_shake_hands(&peer));
      size_t room = VALK_TLS_RECORD_MAX;
      while (peer_write(&peer, plain, sizeof plain, room) == VALK_TLS_WANT_OUTPUT) {
        room++;
      }
      ASSERT_LE(room, 17408u); /* what tls.h says: two such writes need two TCP buffers */
      ASSERT_FALSE(valk_tls_pending_output(peer.tls));
      for (size_t done = 0; done < sizeof back;) {
        int count = SSL_read(peer.client, back + done, (int) (sizeof back - done));
        ASSERT_GT(count, 0);
        done += (size_t) count;
      }
      ASSERT_MEM_EQ(back, plain, sizeof plain);
      peer_close(&peer);
    }
  }
  valk_tls_context_unref(context);
}
#endif

static void send_up(peer_t *peer, size_t total) {
  static uint8_t plain[50000];
  for (size_t sent = 0; sent < total;) {
    size_t length = total - sent < sizeof plain ? total - sent : sizeof plain;
    fill(plain, sent, length);
    ASSERT_EQ(SSL_write(peer->client, plain, (int) length), (int) length);
    peer->received_length = 0;
    ASSERT_EQ(peer_carry(peer), VALK_TLS_WANT_INPUT);
    ASSERT_EQ(peer->received_length, length);
    ASSERT_MEM_EQ(peer->received, plain, length);
    sent += length;
  }
}

static void send_down(peer_t *peer, size_t total) {
  static uint8_t plain[VALK_TLS_PLAIN_MAX];
  static uint8_t back[VALK_TLS_PLAIN_MAX];
  size_t length = 1;
  for (size_t sent = 0; sent < total; sent += length) {
    /* Of all sizes, every other one full. */
    length = length == VALK_TLS_PLAIN_MAX ? 1 + sent % VALK_TLS_PLAIN_MAX : VALK_TLS_PLAIN_MAX;
    fill(plain, sent, length);
    ASSERT_EQ(peer_write(peer, plain, length, VALK_TLS_RECORD_MAX), VALK_TLS_OK);
    ASSERT_EQ(SSL_read(peer->client, back, sizeof back), (int) length);
    ASSERT_MEM_EQ(back, plain, length);
  }
}

TEST(tls_ten_mib_each_way) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  for (int i = 0; i < 2; i++) {
    peer_t peer;
    ASSERT_OK(peer_open(
        &peer, context,
        &(peer_options_t){.version = versions[i], .alpn = PEER_ALPN_H2, .input_step = 9999}));
    ASSERT_TRUE(peer_shake_hands(&peer));
    send_up(&peer, 10 * MIB);
    send_down(&peer, 10 * MIB);
    peer_close(&peer);
  }
  valk_tls_context_unref(context);
}

TEST(tls_plaintext_may_be_taken_in_pieces) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  peer_t peer;
  ASSERT_OK(peer_open(&peer, context, &(peer_options_t){.alpn = PEER_ALPN_H2}));
  ASSERT_TRUE(peer_shake_hands(&peer));
  static uint8_t plain[VALK_TLS_PLAIN_MAX];
  fill(plain, 0, sizeof plain);
  ASSERT_EQ(SSL_write(peer.client, plain, sizeof plain), (int) sizeof plain);
  char *data = NULL;
  long length = BIO_get_mem_data(peer.to_server, &data);
  valk_tls_input_t input = {(uint8_t *) data, (size_t) length, 0};
  size_t total = 0;
  for (;;) {
    uint8_t piece[1000];
    size_t count = 0;
    valk_tls_output_t output = {NULL, 0, 0};
    valk_tls_result_t result =
        valk_tls_read(peer.tls, &input, &output, piece, sizeof piece, &count);
    if (result == VALK_TLS_WANT_INPUT) {
      break;
    }
    ASSERT_EQ(result, VALK_TLS_OK);
    ASSERT_LE(total + count, sizeof plain);
    ASSERT_MEM_EQ(piece, plain + total, count);
    total += count;
  }
  ASSERT_EQ(total, sizeof plain);
  peer_close(&peer);
  valk_tls_context_unref(context);
}

/* ---- what a peer may do later ---- */

TEST(tls_close_notify_from_the_peer) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  for (int i = 0; i < 2; i++) {
    peer_t peer;
    ASSERT_OK(
        peer_open(&peer, context, &(peer_options_t){.version = versions[i], .alpn = PEER_ALPN_H2}));
    ASSERT_TRUE(peer_shake_hands(&peer));
    ASSERT_EQ(SSL_write(peer.client, "last", 4), 4);
    ASSERT_EQ(SSL_shutdown(peer.client), 0);
    ASSERT_EQ(peer_carry(&peer), VALK_TLS_CLOSED);
    ASSERT_EQ(peer.received_length, 4u);
    /* Closed is closed, however often it is asked; our own way stays open (RFC 8446, section 6.1).
     */
    ASSERT_EQ(peer_carry(&peer), VALK_TLS_CLOSED);
    ASSERT_EQ(peer_write(&peer, (const uint8_t *) "answer", 6, VALK_TLS_RECORD_MAX), VALK_TLS_OK);
    size_t written = 0;
    ASSERT_EQ(peer_shutdown(&peer, 256, &written), VALK_TLS_OK);
    ASSERT_GT(written, 0u);
    char back[16] = "";
    ASSERT_EQ(SSL_read(peer.client, back, sizeof back), 6);
    ASSERT_STR_EQ(back, "answer");
    ASSERT_EQ(SSL_read(peer.client, back, sizeof back), 0);
    ASSERT_TRUE(SSL_get_shutdown(peer.client) & SSL_RECEIVED_SHUTDOWN);
    ASSERT_NULL(valk_tls_error(peer.tls));
    peer_close(&peer);
  }
  valk_tls_context_unref(context);
}

TEST(tls_close_notify_from_us) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  for (int i = 0; i < 2; i++) {
    peer_t peer;
    size_t written = 0;
    ASSERT_OK(
        peer_open(&peer, context, &(peer_options_t){.version = versions[i], .alpn = PEER_ALPN_H2}));
    ASSERT_EQ(peer_shutdown(&peer, 256, &written), VALK_TLS_OK);
    ASSERT_EQ(written, 0u); /* nothing to close before the handshake */
    ASSERT_TRUE(peer_shake_hands(&peer));
    ASSERT_EQ(peer_shutdown(&peer, 0, &written), VALK_TLS_WANT_OUTPUT);
    ASSERT_TRUE(valk_tls_pending_output(peer.tls));
    ASSERT_EQ(peer_shutdown(&peer, 10, &written), VALK_TLS_WANT_OUTPUT);
    ASSERT_EQ(written, 10u);
    ASSERT_EQ(peer_shutdown(&peer, 256, &written), VALK_TLS_OK);
    ASSERT_GT(written, 0u);
    ASSERT_EQ(peer_shutdown(&peer, 256, &written), VALK_TLS_OK);
    ASSERT_EQ(written, 0u); /* once */
    char byte;
    ASSERT_EQ(SSL_read(peer.client, &byte, 1), 0);
    ASSERT_TRUE(SSL_get_shutdown(peer.client) & SSL_RECEIVED_SHUTDOWN);
    /* What the client still has on its way is read. */
    ASSERT_EQ(SSL_write(peer.client, "late", 4), 4);
    ASSERT_EQ(peer_carry(&peer), VALK_TLS_WANT_INPUT);
    ASSERT_EQ(peer.received_length, 4u);
    ASSERT_EQ(SSL_shutdown(peer.client), 1);
    ASSERT_EQ(peer_carry(&peer), VALK_TLS_CLOSED);
    peer_close(&peer);
  }
  valk_tls_context_unref(context);
}

#if TEST_WARNS_OF_RENEGOTIATION
TEST(tls_renegotiation_is_refused) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  peer_t peer;
  ASSERT_OK(peer_open(&peer, context,
                      &(peer_options_t){.version = TLS1_2_VERSION, .alpn = PEER_ALPN_H2}));
  ASSERT_TRUE(peer_shake_hands(&peer));
  ASSERT_EQ(valk_tls_rekeys(peer.tls), 0u);
  ASSERT_EQ(SSL_renegotiate(peer.client), 1);
  ASSERT_EQ(SSL_do_handshake(peer.client), -1);
  ASSERT_EQ(SSL_get_error(peer.client, -1), SSL_ERROR_WANT_READ);
  /* The connection goes on: it is the client that gives up. */
  ASSERT_EQ(peer_carry(&peer), VALK_TLS_WANT_INPUT);
  ASSERT_EQ(valk_tls_rekeys(peer.tls), 1u);
  ASSERT_EQ(SSL_do_handshake(peer.client), -1);
  ASSERT_EQ(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
  peer_close(&peer);
  valk_tls_context_unref(context);
}
#endif

/* Where the ticket found no room the handshake goes on, and close_notify does not get in between.
 */
TEST(tls_shutdown_waits_for_the_ticket) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  peer_t peer;
  size_t written = 0;
  ASSERT_OK(peer_open(&peer, context,
                      &(peer_options_t){.version = TLS1_3_VERSION, .alpn = PEER_ALPN_H2}));
  ASSERT_EQ(SSL_do_handshake(peer.client), -1);
  ASSERT_EQ(peer_carry(&peer), VALK_TLS_WANT_INPUT);
  ASSERT_EQ(SSL_do_handshake(peer.client), 1);
  char *data = NULL;
  long length = BIO_get_mem_data(peer.to_server, &data);
  valk_tls_input_t input = {(uint8_t *) data, (size_t) length, 0};
  ASSERT_EQ(peer_read(&peer, &input, 10), VALK_TLS_WANT_OUTPUT);
  ASSERT_EQ(BIO_reset(peer.to_server), 1);
  ASSERT_FALSE(valk_tls_handshaken(peer.tls));
  ASSERT_EQ(peer_shutdown(&peer, 256, &written), VALK_TLS_OK);
  ASSERT_EQ(written, 0u);
  valk_tls_input_t nothing = {NULL, 0, 0};
  ASSERT_EQ(peer_read(&peer, &nothing, VALK_TLS_RECORD_MAX), VALK_TLS_OK);
  ASSERT_TRUE(valk_tls_handshaken(peer.tls));
  peer_echo(&peer, "behind it");
  ASSERT_EQ(peer.sessions, 1u);
  peer_close(&peer);
  valk_tls_context_unref(context);
}

TEST(tls_key_update_is_answered) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  peer_t peer;
  ASSERT_OK(peer_open(&peer, context, &(peer_options_t){.alpn = PEER_ALPN_H2}));
  ASSERT_TRUE(peer_shake_hands(&peer));
  ASSERT_EQ(SSL_key_update(peer.client, SSL_KEY_UPDATE_REQUESTED), 1);
  ASSERT(test_flush(peer.client));
  peer_echo(&peer, "under new keys");
  ASSERT_EQ(valk_tls_rekeys(peer.tls), 1u);

  /* It goes before the next record and needs no call of its own. */
  ASSERT_EQ(SSL_key_update(peer.client, SSL_KEY_UPDATE_REQUESTED), 1);
  ASSERT(test_flush(peer.client));
  char *data = NULL;
  long length = BIO_get_mem_data(peer.to_server, &data);
  valk_tls_input_t input = {(uint8_t *) data, (size_t) length, 0};
  ASSERT_EQ(peer_read(&peer, &input, 0), VALK_TLS_OK);
  ASSERT_EQ(peer_read(&peer, &input, 0), VALK_TLS_WANT_INPUT);
  ASSERT_EQ(BIO_reset(peer.to_server), 1);
  ASSERT_FALSE(valk_tls_pending_output(peer.tls));
  static uint8_t plain[VALK_TLS_PLAIN_MAX];
  static uint8_t back[VALK_TLS_PLAIN_MAX];
  fill(plain, 0, sizeof plain);
  ASSERT_EQ(peer_write(&peer, plain, sizeof plain, VALK_TLS_RECORD_MAX), VALK_TLS_OK);
  ASSERT_EQ(SSL_read(peer.client, back, sizeof back), (int) sizeof back);
  ASSERT_MEM_EQ(back, plain, sizeof plain);
  peer_echo(&peer, "again");
  peer_close(&peer);
  valk_tls_context_unref(context);
}

/* One answer is enough for as many as come before the next data (RFC 8446, section 4.6.3), and it
 * needs no room before. */
TEST(tls_key_updates_are_answered_at_once) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  peer_t peer;
  ASSERT_OK(peer_open(&peer, context, &(peer_options_t){.alpn = PEER_ALPN_H2}));
  ASSERT_TRUE(peer_shake_hands(&peer));
  for (int i = 0; i < 50; i++) {
    /* A client may hold its next request back until the answer: each is as if it had come. */
    ASSERT_EQ(SSL_key_update(peer.client, SSL_KEY_UPDATE_REQUESTED), 1);
    ASSERT_EQ(SSL_write(peer.client, "y", 1), 1);
  }
  char *data = NULL;
  long length = BIO_get_mem_data(peer.to_server, &data);
  valk_tls_input_t input = {(uint8_t *) data, (size_t) length, 0};
  peer.received_length = 0;
  while (peer_read(&peer, &input, 0) == VALK_TLS_OK) {
  }
  ASSERT_EQ(peer.last, VALK_TLS_WANT_INPUT);
  ASSERT_EQ(input.used, input.length);
  ASSERT_GT(peer.received_length, 0u);
  ASSERT_GT(valk_tls_rekeys(peer.tls), 0u);
  ASSERT_FALSE(valk_tls_pending_output(peer.tls));
  ASSERT_EQ(BIO_reset(peer.to_server), 1);
  int pending = (int) BIO_pending(peer.to_client);
  ASSERT_EQ(peer_write(&peer, (const uint8_t *) "x", 1, 256), VALK_TLS_WANT_OUTPUT);
  ASSERT_EQ((int) BIO_pending(peer.to_client), pending);
  ASSERT_EQ(peer_write(&peer, (const uint8_t *) "x", 1, VALK_TLS_RECORD_MAX), VALK_TLS_OK);
  ASSERT_EQ((int) BIO_pending(peer.to_client), pending + 5 + 22 + 1 + 22);
  char byte = 0;
  ASSERT_EQ(SSL_read(peer.client, &byte, 1), 1);
  ASSERT_EQ(byte, 'x');
  peer_echo(&peer, "after fifty");
  peer_close(&peer);
  valk_tls_context_unref(context);
}
