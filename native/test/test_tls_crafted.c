/* Records that a hostile client may send and OpenSSL's never does: made here with the secrets that
 * it tells. */
#include <openssl/core_names.h>
#include <openssl/kdf.h>

#include "tls_peer.h"

/* From the key log (RFC 9850): of TLS 1.3 CLIENT_TRAFFIC_SECRET_0, of TLS 1.2 the master secret. */
static uint8_t secret[48];
static size_t secret_length;

static void on_key_log(const SSL *client, const char *line) {
  (void) client;
  if (strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) == 0 ||
      strncmp(line, "CLIENT_RANDOM ", 14) == 0) {
    ASSERT(OPENSSL_hexstr2buf_ex(secret, sizeof secret, &secret_length, strrchr(line, ' ') + 1, 0));
  }
}

static void derive(const char *function, const OSSL_PARAM *parameters, uint8_t *out,
                   size_t length) {
  EVP_KDF *kdf = EVP_KDF_fetch(NULL, function, NULL);
  EVP_KDF_CTX *context = EVP_KDF_CTX_new(kdf);
  ASSERT_EQ(EVP_KDF_derive(context, out, length, parameters), 1);
  EVP_KDF_CTX_free(context);
  EVP_KDF_free(kdf);
}

/* AES-128-GCM: the sealed bytes and their tag. */
static void seal(const uint8_t *key, const uint8_t *nonce, const uint8_t *head, size_t head_length,
                 const uint8_t *plain, size_t length, uint8_t *out) {
  EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
  int count = 0;
  ASSERT_EQ(EVP_EncryptInit_ex(cipher, EVP_aes_128_gcm(), NULL, key, nonce), 1);
  ASSERT_EQ(EVP_EncryptUpdate(cipher, NULL, &count, head, (int) head_length), 1);
  ASSERT_EQ(EVP_EncryptUpdate(cipher, out, &count, plain, (int) length), 1);
  ASSERT_EQ(EVP_EncryptFinal_ex(cipher, out + count, &count), 1);
  ASSERT_EQ(EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, 16, out + length), 1);
  EVP_CIPHER_CTX_free(cipher);
}

/* ---- TLS 1.3 (RFC 8446, sections 5.2 and 7.3) ---- */

static void expand(const char *label, uint8_t *out, size_t length) {
  int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char[]){"SHA256"}, 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, secret, secret_length),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, (char[]){"tls13 "}, 6),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, (char *) label, strlen(label)),
      OSSL_PARAM_construct_end(),
  };
  derive("TLS13-KDF", parameters, out, length);
}

/* A part of a handshake message as the client's |sequence|-th record; the record's size. */
static size_t make_record_13(uint8_t sequence, const char *bytes, size_t length, uint8_t *record) {
  uint8_t key[16];
  uint8_t nonce[12];
  uint8_t plain[32];
  expand("key", key, sizeof key);
  expand("iv", nonce, sizeof nonce);
  nonce[11] ^= sequence;
  memcpy(plain, bytes, length);
  plain[length++] = SSL3_RT_HANDSHAKE;
  const uint8_t header[] = {SSL3_RT_APPLICATION_DATA, 3, 3, 0, (uint8_t) (length + 16)};
  memcpy(record, header, sizeof header);
  seal(key, nonce, header, sizeof header, plain, length, record + sizeof header);
  return sizeof header + length + 16;
}

TEST(tls_message_in_part_holds_writes) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  peer_t peer;
  ASSERT_OK(peer_open(&peer, context, &(peer_options_t){.alpn = PEER_ALPN_H2}));
  SSL_CTX_set_keylog_callback(peer.client_context, on_key_log);
  ASSERT_TRUE(peer_shake_hands(&peer));
  uint8_t record[64];
  size_t written = 0;
  /* KeyUpdate, update_requested: its header, then its one byte (RFC 8446, section 4.6.3). */
  size_t length = make_record_13(0, "\x18\0\0\1", 4, record);
  ASSERT_EQ(peer_feed(&peer, record, length), VALK_TLS_WANT_INPUT);
  for (int i = 0; i < 3; i++) {
    ASSERT_EQ(peer_write(&peer, (const uint8_t *) "held", 4, VALK_TLS_RECORD_MAX),
              VALK_TLS_WANT_INPUT);
    ASSERT_EQ(peer_write(&peer, (const uint8_t *) "h", 1, 0), VALK_TLS_WANT_OUTPUT);
  }
  ASSERT_EQ(peer_shutdown(&peer, 256, &written), VALK_TLS_OK);
  ASSERT_EQ(written, 0u);
  length = make_record_13(1, "\1", 1, record);
  ASSERT_EQ(peer_feed(&peer, record, length), VALK_TLS_WANT_INPUT);
  ASSERT_EQ(valk_tls_rekeys(peer.tls), 1u);
  ASSERT_EQ(peer_write(&peer, (const uint8_t *) "free", 4, VALK_TLS_RECORD_MAX), VALK_TLS_OK);
  char back[16] = "";
  ASSERT_EQ(SSL_read(peer.client, back, sizeof back), 4);
  ASSERT_STR_EQ(back, "free");
  peer_close(&peer);
  valk_tls_context_unref(context);
}

/* ---- TLS 1.2 (RFC 5246, section 6.3; RFC 5288) ---- */

/* An empty ClientHello as the client's |sequence|-th record; the record's size. The first record of
 * an epoch was the client's Finished. */
static size_t make_hello_12(SSL *client, uint8_t sequence, uint8_t *record) {
  uint8_t seed[64];
  ASSERT_EQ(SSL_get_server_random(client, seed, 32), 32u);
  ASSERT_EQ(SSL_get_client_random(client, seed + 32, 32), 32u);
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char[]){"SHA256"}, 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, secret, secret_length),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, (char[]){"key expansion"}, 13),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed, sizeof seed),
      OSSL_PARAM_construct_end(),
  };
  uint8_t keys[2 * 16 + 2 * 4]; /* the client's key, the server's, and their nonces' first parts */
  derive("TLS1-PRF", parameters, keys, sizeof keys);
  uint8_t nonce[12] = {[11] = sequence};
  memcpy(nonce, keys + 32, 4);
  const uint8_t head[13] = {[7] = sequence, SSL3_RT_HANDSHAKE, 3, 3, 0, 4};
  const uint8_t header[] = {SSL3_RT_HANDSHAKE, 3, 3, 0, 8 + 4 + 16};
  memcpy(record, header, sizeof header);
  memcpy(record + 5, nonce + 4, 8);
  seal(keys, nonce, head, sizeof head, (const uint8_t *) "\1\0\0\0", 4, record + 13);
  return 13 + 4 + 16;
}

static void open_12(peer_t *peer, valk_tls_context_t *context) {
  ASSERT_OK(
      peer_open(peer, context, &(peer_options_t){.version = TLS1_2_VERSION, .alpn = PEER_ALPN_H2}));
  SSL_CTX_set_keylog_callback(peer->client_context, on_key_log);
  ASSERT_TRUE(peer_shake_hands(peer));
}

TEST(tls_renegotiation_again_and_again) {
  enum { HELLOS = 20, SIZE = 33 };
  valk_tls_context_t *context = peer_context(peer_ec_key());
  uint8_t records[HELLOS * SIZE];
  peer_t peer;

  /* With room each attempt is refused, counted, and does no harm. */
  open_12(&peer, context);
  for (uint8_t i = 0; i < HELLOS; i++) {
    ASSERT_EQ(make_hello_12(peer.client, (uint8_t) (i + 1), records + i * SIZE), SIZE);
  }
  ASSERT_EQ(peer_feed(&peer, records, sizeof records), VALK_TLS_WANT_INPUT);
  ASSERT_EQ(valk_tls_rekeys(peer.tls), HELLOS);
  ASSERT_EQ(peer_write(&peer, (const uint8_t *) "still", 5, VALK_TLS_RECORD_MAX), VALK_TLS_OK);
  peer_close(&peer);

  /* Without it the first warning waits, and what is written goes behind it. */
  open_12(&peer, context);
  make_hello_12(peer.client, 1, records);
  valk_tls_input_t one = {records, SIZE, 0};
  ASSERT_EQ(peer_read(&peer, &one, 0), VALK_TLS_WANT_OUTPUT);
  ASSERT_TRUE(valk_tls_pending_output(peer.tls));
  int pending = (int) BIO_pending(peer.to_client);
  ASSERT_EQ(peer_write(&peer, (const uint8_t *) "x", 1, VALK_TLS_RECORD_MAX), VALK_TLS_WANT_OUTPUT);
  ASSERT_EQ(peer_write(&peer, (const uint8_t *) "x", 1, VALK_TLS_RECORD_MAX), VALK_TLS_OK);
  ASSERT_EQ((int) BIO_pending(peer.to_client), pending + 31 + 30);
  peer_close(&peer);

  /* A flood of them that leaves no room for its warnings ends the connection. */
  open_12(&peer, context);
  for (uint8_t i = 0; i < HELLOS; i++) {
    make_hello_12(peer.client, (uint8_t) (i + 1), records + i * SIZE);
  }
  valk_tls_input_t flood = {records, sizeof records, 0};
  ASSERT_EQ(peer_read(&peer, &flood, 0), VALK_TLS_FAILED);
  ASSERT_STR_EQ(valk_tls_error(peer.tls), "too many alerts");
  valk_tls_input_t nothing = {NULL, 0, 0};
  ASSERT_EQ(peer_read(&peer, &nothing, 256), VALK_TLS_FAILED);
  ASSERT_FALSE(valk_tls_pending_output(peer.tls));
  peer_close(&peer);
  valk_tls_context_unref(context);
}
