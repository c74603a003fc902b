/* Records that a hostile client may send and a library's never does: made here with the secrets
 * that it tells. */
#include <openssl/hmac.h>

#include "tls_peer.h"

/* From the key log (RFC 9850): of TLS 1.3 CLIENT_TRAFFIC_SECRET_0, of TLS 1.2 the master secret. */
static uint8_t secret[48];
static size_t secret_length;

static void on_key_log(const SSL *client, const char *line) {
  (void) client;
  if (strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) == 0 ||
      strncmp(line, "CLIENT_RANDOM ", 14) == 0) {
    const char *hex = strrchr(line, ' ') + 1;
    secret_length = strlen(hex) / 2;
    ASSERT_LE(secret_length, sizeof secret);
    for (size_t i = 0; i < secret_length; i++) {
      const char byte[] = {hex[2 * i], hex[2 * i + 1], '\0'};
      secret[i] = (uint8_t) strtoul(byte, NULL, 16);
    }
  }
}

static void hmac(const void *data, size_t length, uint8_t *out) {
  ASSERT(HMAC(EVP_sha256(), secret, (int) secret_length, data, length, out, NULL));
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

/* One block of HKDF-Expand-Label, the first. */
static void expand(const char *label, uint8_t *out, size_t length) {
  uint8_t info[64], block[32];
  int size = snprintf((char *) info, sizeof info, "%c%c%ctls13 %s%c%c", 0, (int) length,
                      (int) (6 + strlen(label)), label, 0, 1);
  hmac(info, (size_t) size, block);
  memcpy(out, block, length);
}

/* The client's |sequence|-th record: |bytes|, |type| and |padding| zeros, sealed; the record's
 * size.
 */
static size_t make_padded_13(uint8_t sequence, uint8_t type, const void *bytes, size_t length,
                             size_t padding, uint8_t *record) {
  static uint8_t plain[VALK_TLS_RECORD_MAX];
  uint8_t key[16];
  uint8_t nonce[12];
  expand("key", key, sizeof key);
  expand("iv", nonce, sizeof nonce);
  nonce[11] ^= sequence;
  ASSERT_LE(length + 1 + padding + 16, sizeof plain);
  memcpy(plain, bytes, length);
  plain[length] = type;
  memset(plain + length + 1, 0, padding);
  size_t size = length + 1 + padding;
  const uint8_t header[] = {SSL3_RT_APPLICATION_DATA, 3, 3, (uint8_t) ((size + 16) >> 8),
                            (uint8_t) (size + 16)};
  memcpy(record, header, sizeof header);
  seal(key, nonce, header, sizeof header, plain, size, record + sizeof header);
  return sizeof header + size + 16;
}

/* A part of a handshake message. */
static size_t make_record_13(uint8_t sequence, const char *bytes, size_t length, uint8_t *record) {
  return make_padded_13(sequence, SSL3_RT_HANDSHAKE, bytes, length, 0, record);
}

static void open_13(peer_t *peer, valk_tls_context_t *context) {
  ASSERT_OK(peer_open(peer, context, &(peer_options_t){.alpn = PEER_ALPN_H2}));
  SSL_CTX_set_keylog_callback(peer->client_context, on_key_log);
  ASSERT_TRUE(peer_shake_hands(peer));
}

/* What the client is told before the connection ends, and the machine's word for it. */
static void ends_with(peer_t *peer, const uint8_t *record, size_t length, int alert,
                      const char *error) {
  ASSERT_EQ(peer_feed(peer, record, length), VALK_TLS_FAILED);
  if (error != NULL) {
    ASSERT_STR_EQ(valk_tls_error(peer->tls), error);
  }
  ASSERT_FALSE(valk_tls_pending_output(peer->tls));
  char byte;
  ERR_clear_error();
  ASSERT_LE(SSL_read(peer->client, &byte, 1), 0);
  ASSERT_EQ(ERR_GET_REASON(ERR_peek_last_error()), SSL_AD_REASON_OFFSET + alert);
  ASSERT_EQ(peer_feed(peer, record, length), VALK_TLS_FAILED);
  ASSERT_EQ(peer_write(peer, (const uint8_t *) "x", 1, VALK_TLS_RECORD_MAX), VALK_TLS_FAILED);
}

static uint8_t large[VALK_TLS_RECORD_MAX];
static uint8_t crafted[2 * VALK_TLS_RECORD_MAX];

TEST(tls_bad_records_end_the_connection) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  for (int i = 0;; i++) {
    peer_t peer;
    open_13(&peer, context);
    size_t length = make_padded_13(0, SSL3_RT_APPLICATION_DATA, "hello", 5, 0, crafted);
    int alert = SSL_AD_UNEXPECTED_MESSAGE;
    const char *error = NULL;
    switch (i) {
    case 0: /* of the ciphertext, of the type, of the tag: a bit of each */
    case 1:
    case 2:
      crafted[i == 0 ? 5 : i == 1 ? 10 : length - 1] ^= 1;
      alert = SSL_AD_BAD_RECORD_MAC;
      error = "bad record";
      break;
    case 3: /* sealed as another one */
      length = make_padded_13(1, SSL3_RT_APPLICATION_DATA, "hello", 5, 0, crafted);
      alert = SSL_AD_BAD_RECORD_MAC;
      error = "bad record";
      break;
    case 4: /* what a client may send before its handshake ends */
      memcpy(crafted, "\x14\3\3\0\1\1", length = 6);
      break;
    case 5: /* no type at all */
      length = make_padded_13(0, 0, "", 0, 20, crafted);
      break;
    case 6: /* one that is none */
      length = make_padded_13(0, 99, "hello", 5, 0, crafted);
      break;
    case 7: /* more than a record may hold, and more than its length may say */
      length = make_padded_13(0, SSL3_RT_APPLICATION_DATA, large, 16385, 0, crafted);
      alert = SSL_AD_RECORD_OVERFLOW;
      break;
    case 8:
      memcpy(crafted, "\x17\3\3\x41\1", 5);
      length = 5;
      alert = SSL_AD_RECORD_OVERFLOW;
      break;
    case 9: /* data inside a message */
      length = make_record_13(0, "\x18\0\0\1", 4, crafted);
      length += make_padded_13(1, SSL3_RT_APPLICATION_DATA, "hello", 5, 0, crafted + length);
      break;
    default:
      peer_close(&peer);
      valk_tls_context_unref(context);
      return;
    }
    printf("# case %d\n", i);
    ends_with(&peer, crafted, length, alert, error);
    ASSERT_EQ(peer.received_length, 0u);
    peer_close(&peer);
  }
}

TEST(tls_records_may_be_padded) {
  static const struct {
    size_t length, padding;
  } cases[] = {{1, 0}, {1, 1}, {5, 1000}, {16384, 0}, {16000, 384}, {1, 16383}, {0, 300}};
  valk_tls_context_t *context = peer_context(peer_ec_key());
  peer_t peer;
  open_13(&peer, context);
  for (size_t i = 0; i < sizeof large; i++) {
    large[i] = (uint8_t) (i * 7 >> 3);
  }
  for (uint8_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    peer.received_length = 0;
    peer.options.input_step = i % 2 ? 777 : 0;
    size_t length = make_padded_13(i, SSL3_RT_APPLICATION_DATA, large, cases[i].length,
                                   cases[i].padding, crafted);
    ASSERT_EQ(peer_feed(&peer, crafted, length), VALK_TLS_WANT_INPUT);
    ASSERT_EQ(peer.received_length, cases[i].length);
    ASSERT_MEM_EQ(peer.received, large, cases[i].length);
  }
  peer_close(&peer);
  valk_tls_context_unref(context);
}

/* Records with nothing in them cost as others do: not endlessly many in a row. */
TEST(tls_empty_records_are_bounded) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  peer_t peer;
  open_13(&peer, context);
  for (uint8_t i = 0; i < 99; i++) {
    size_t length = make_padded_13(i, SSL3_RT_APPLICATION_DATA, "x", i % 33 == 32, 0, crafted);
    ASSERT_EQ(peer_feed(&peer, crafted, length), VALK_TLS_WANT_INPUT);
  }
  ASSERT_EQ(peer.received_length, 3u);
  for (uint8_t i = 99; i < 99 + 32; i++) {
    size_t length = make_padded_13(i, SSL3_RT_APPLICATION_DATA, "", 0, 0, crafted);
    ASSERT_EQ(peer_feed(&peer, crafted, length), VALK_TLS_WANT_INPUT);
  }
  size_t length = make_padded_13(131, SSL3_RT_APPLICATION_DATA, "", 0, 0, crafted);
  ends_with(&peer, crafted, length, SSL_AD_UNEXPECTED_MESSAGE, NULL);
  peer_close(&peer);
  valk_tls_context_unref(context);
}

/* A record that comes in part waits in memory of its connection. */
TEST(tls_without_memory_for_half_a_record_the_connection_ends) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  valk_ledger_t *ledger = valk_ledger_new(0);
  peer_t peer;
  open_13(&peer, context);
  peer.options.ledger = ledger;
  size_t length = make_padded_13(0, SSL3_RT_APPLICATION_DATA, large, 10000, 0, crafted);
  ASSERT_EQ(peer_feed(&peer, crafted, 6000), VALK_TLS_WANT_INPUT);
  ASSERT_GT(ledger->used, 6000u);
  ASSERT_EQ(peer_feed(&peer, crafted + 6000, length - 6000), VALK_TLS_WANT_INPUT);
  ASSERT_EQ(peer.received_length, 10000u);
  ASSERT_LT(ledger->used, 6000u);
  length = make_padded_13(1, SSL3_RT_APPLICATION_DATA, large, 10000, 0, crafted);
  peer.options.fail_all_after = true;
  peer.fault_left = 1;
  ASSERT_EQ(peer_feed(&peer, crafted, 6000), VALK_TLS_FAILED);
  ASSERT_STR_EQ(valk_tls_error(peer.tls), "out of memory");
  peer.fault_left = 0;
  peer_close(&peer);
  ASSERT_EQ(ledger->used, 0u);
  valk_ledger_close(ledger);
  valk_tls_context_unref(context);
}

TEST(tls_message_may_come_in_parts) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  peer_t peer;
  open_13(&peer, context);
  uint8_t record[64];
  /* KeyUpdate, update_requested: its header, then its one byte (RFC 8446, section 4.6.3). */
  size_t length = make_record_13(0, "\x18\0\0\1", 4, record);
  ASSERT_EQ(peer_feed(&peer, record, length), VALK_TLS_WANT_INPUT);
  ASSERT_EQ(peer_write(&peer, (const uint8_t *) "before", 6, VALK_TLS_RECORD_MAX), VALK_TLS_OK);
  char back[16] = "";
  ASSERT_EQ(SSL_read(peer.client, back, sizeof back), 6);
  ASSERT_STR_EQ(back, "before");
  length = make_record_13(1, "\1", 1, record);
  ASSERT_EQ(peer_feed(&peer, record, length), VALK_TLS_WANT_INPUT);
  ASSERT_EQ(valk_tls_rekeys(peer.tls), 1u);
  ASSERT_EQ(peer_write(&peer, (const uint8_t *) "behind", 6, VALK_TLS_RECORD_MAX), VALK_TLS_OK);
  ASSERT_EQ(SSL_read(peer.client, back, sizeof back), 6);
  ASSERT_STR_EQ(back, "behind");
  peer_close(&peer);
  valk_tls_context_unref(context);
}

/* A caller that bounds them need not pay for all that came at once. */
TEST(tls_key_updates_are_taken_one_by_one) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  peer_t peer;
  open_13(&peer, context);
  size_t length = make_record_13(0, "\x18\0\0\1\0", 5, crafted);
  memcpy(crafted + length, crafted, length); /* whose key is not right, but that is found later */
  valk_tls_input_t input = {crafted, 2 * length, 0};
  ASSERT_EQ(peer_read(&peer, &input, 256), VALK_TLS_OK);
  ASSERT_EQ(valk_tls_rekeys(peer.tls), 1u);
  ASSERT_EQ(input.used, length);
  ASSERT_EQ(peer_read(&peer, &input, 256), VALK_TLS_FAILED);
  ASSERT_STR_EQ(valk_tls_error(peer.tls), "bad record");
  peer_close(&peer);
  valk_tls_context_unref(context);
}

/* What may not come after a handshake, of messages and alerts. */
TEST(tls_bad_messages_end_the_connection) {
  static const struct {
    uint8_t type;
    const char *bytes;
    size_t length;
    int alert; /* 0: none is sent */
    const char *error;
  } cases[] = {
      {SSL3_RT_HANDSHAKE, "\x01\0\0\0", 4, SSL_AD_UNEXPECTED_MESSAGE, "unexpected message"},
      {SSL3_RT_HANDSHAKE, "\x18\0\0\2\0", 5, SSL_AD_UNEXPECTED_MESSAGE, "unexpected message"},
      {SSL3_RT_HANDSHAKE, "\x18\0\0\1\2", 5, SSL_AD_ILLEGAL_PARAMETER, "unexpected message"},
      /* More in the record of a key update, a message of nothing, one that is too long. */
      {SSL3_RT_HANDSHAKE, "\x18\0\0\1\0\x18", 6, SSL_AD_UNEXPECTED_MESSAGE, NULL},
      {SSL3_RT_HANDSHAKE, "", 0, SSL_AD_UNEXPECTED_MESSAGE, NULL},
      {SSL3_RT_HANDSHAKE, "\x18\0\0\1\0\x18\0\0\1\0", 10, SSL_AD_UNEXPECTED_MESSAGE, NULL},
      {SSL3_RT_ALERT, "", 0, SSL_AD_UNEXPECTED_MESSAGE, "unexpected message"},
      {SSL3_RT_ALERT, "\1", 1, SSL_AD_DECODE_ERROR, "unexpected message"},
      {SSL3_RT_ALERT, "\1\0\1\0", 4, SSL_AD_DECODE_ERROR, "unexpected message"},
      {SSL3_RT_ALERT, "\2\x28", 2, 0, "alert of the peer"},
      {SSL3_RT_ALERT, "\1\x28", 2, 0, "alert of the peer"},
      {SSL3_RT_CHANGE_CIPHER_SPEC, "\1", 1, SSL_AD_UNEXPECTED_MESSAGE, "unexpected message"},
  };
  valk_tls_context_t *context = peer_context(peer_ec_key());
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    peer_t peer;
    printf("# case %zu\n", i);
    open_13(&peer, context);
    size_t length = make_padded_13(0, cases[i].type, cases[i].bytes, cases[i].length, 0, crafted);
    if (cases[i].alert != 0) {
      ends_with(&peer, crafted, length, cases[i].alert, cases[i].error);
    } else {
      int pending = (int) BIO_pending(peer.to_client);
      ASSERT_EQ(peer_feed(&peer, crafted, length), VALK_TLS_FAILED);
      ASSERT_STR_EQ(valk_tls_error(peer.tls), cases[i].error);
      ASSERT_EQ((int) BIO_pending(peer.to_client), pending);
    }
    peer_close(&peer);
  }
  valk_tls_context_unref(context);
}

/* user_canceled says nothing (RFC 8446, section 6.1), but not endlessly often. */
TEST(tls_warnings_are_bounded) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  peer_t peer;
  open_13(&peer, context);
  for (uint8_t i = 0; i < 4; i++) {
    size_t length = make_padded_13(i, SSL3_RT_ALERT, "\1\x5a", 2, 0, crafted);
    ASSERT_EQ(peer_feed(&peer, crafted, length), VALK_TLS_WANT_INPUT);
  }
  size_t length = make_padded_13(4, SSL3_RT_ALERT, "\1\x5a", 2, 0, crafted);
  ends_with(&peer, crafted, length, SSL_AD_UNEXPECTED_MESSAGE, NULL);
  peer_close(&peer);
  valk_tls_context_unref(context);
}

/* An alert that the caller had no room for waits, behind our own close_notify too, and goes alone
 * after it never. */
TEST(tls_alerts_wait_for_room) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  for (int shut = 0; shut < 2; shut++) {
    peer_t peer;
    size_t written = 0;
    open_13(&peer, context);
    if (shut) {
      ASSERT_EQ(peer_shutdown(&peer, 256, &written), VALK_TLS_OK);
      ASSERT_EQ(written, 24u);
    }
    size_t length = make_record_13(0, "\x01\0\0\0", 4, crafted);
    valk_tls_input_t input = {crafted, length, 0};
    ASSERT_EQ(peer_read(&peer, &input, 0), VALK_TLS_FAILED);
    ASSERT_EQ(valk_tls_pending_output(peer.tls), !shut);
    int pending = (int) BIO_pending(peer.to_client);
    valk_tls_input_t nothing = {NULL, 0, 0};
    ASSERT_EQ(peer_read(&peer, &nothing, 10), VALK_TLS_FAILED);
    ASSERT_EQ(peer_read(&peer, &nothing, 256), VALK_TLS_FAILED);
    ASSERT_EQ((int) BIO_pending(peer.to_client), pending + (shut ? 0 : 24));
    ASSERT_FALSE(valk_tls_pending_output(peer.tls));
    peer_close(&peer);
  }
  valk_tls_context_unref(context);
}

/* ---- TLS 1.2 (RFC 5246, section 6.3; RFC 5288) ---- */

/* RFC 5246, section 5. */
static void prf(const char *label, const uint8_t *seed, size_t seed_length, uint8_t *out,
                size_t length) {
  uint8_t chain[32 + 128], block[32];
  size_t size = strlen(label) + seed_length;
  ASSERT_LE(size, 128u);
  memcpy(chain + 32, label, strlen(label));
  memcpy(chain + 32 + strlen(label), seed, seed_length);
  hmac(chain + 32, size, chain);
  while (length > 0) {
    hmac(chain, 32 + size, block);
    size_t part = length < sizeof block ? length : sizeof block;
    memcpy(out, block, part);
    out += part;
    length -= part;
    hmac(chain, 32, chain);
  }
}

/* An empty ClientHello as the client's |sequence|-th record; the record's size. The first record of
 * an epoch was the client's Finished. */
static size_t make_hello_12(SSL *client, uint8_t sequence, uint8_t *record) {
  uint8_t seed[64];
  ASSERT_EQ(SSL_get_server_random(client, seed, 32), 32u);
  ASSERT_EQ(SSL_get_client_random(client, seed + 32, 32), 32u);
  uint8_t keys[2 * 16 + 2 * 4]; /* the client's key, the server's, and their nonces' first parts */
  prf("key expansion", seed, sizeof seed, keys, sizeof keys);
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

#if TEST_WARNS_OF_RENEGOTIATION
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
#else
TEST(tls_renegotiation_ends_the_connection) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  uint8_t record[64];
  peer_t peer;
  open_12(&peer, context);
  size_t length = make_hello_12(peer.client, 1, record);
  ends_with(&peer, record, length, SSL_AD_NO_RENEGOTIATION, NULL);
  peer_close(&peer);
  valk_tls_context_unref(context);
}
#endif
