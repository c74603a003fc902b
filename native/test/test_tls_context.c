#include <pthread.h>

#include <openssl/rand.h>

#include "tls_peer.h"

static const int versions[] = {TLS1_3_VERSION, TLS1_2_VERSION};

/* ---- session tickets ---- */

static _Atomic uint64_t fake_now_s = 1000000;

static uint64_t fake_clock(void) {
  return fake_now_s;
}

/* Shakes hands with |*session| (or none), which it replaces by the newest. True when it was
 * resumed. */
static bool resumes(valk_tls_context_t *context, int version, SSL_SESSION **session) {
  peer_t peer;
  ASSERT_OK(
      peer_open(&peer, context,
                &(peer_options_t){.version = version, .alpn = PEER_ALPN_H2, .session = *session}));
  ASSERT_TRUE(peer_shake_hands(&peer));
  ASSERT_TRUE(valk_tls_is_h2(peer.tls));
  ASSERT_STR_EQ(valk_tls_servername(peer.tls), "example.test");
  peer_echo(&peer, "resumed or not");
  bool resumed = valk_tls_resumed(peer.tls);
  ASSERT_EQ(resumed, SSL_session_reused(peer.client) != 0);
  if (peer.session || resumed) {
    /* TLS 1.2 clients are told of no session when a resumption renews its ticket. */
    peer_keep_session(&peer, version, session);
  }
  peer_close(&peer);
  return resumed;
}

/* Keys come as the old ones age. What is in the places of those that have not come yet, everybody
 * could seal tickets with. */
TEST(tls_tickets_of_keys_that_were_never_made_are_refused) {
  for (int i = 0; i < 2; i++) {
    valk_tls_context_t *context = peer_context(peer_ec_key());
    valk_tls_context_t *forger = peer_context(peer_ec_key());
    fake_now_s = 100; /* a machine that has started just now */
    context->now_s = forger->now_s = fake_clock;
    context->ticket_keys[0].created_s = fake_now_s;
    memset(&forger->ticket_keys[0], 0, sizeof(forger->ticket_keys[0]));
    forger->ticket_keys[0].is_made = true;
    SSL_SESSION *session = NULL;
    ASSERT_FALSE(resumes(forger, versions[i], &session));
    ASSERT_TRUE(resumes(forger, versions[i], &session));
    ASSERT_FALSE(resumes(context, versions[i], &session));
    SSL_SESSION_free(session);
    fake_now_s = 1000000;
    valk_tls_context_unref(forger);
    valk_tls_context_unref(context);
  }
}

TEST(tls_tickets_resume_a_session) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  valk_tls_context_t *stranger = peer_context(peer_ec_key());
  for (int i = 0; i < 2; i++) {
    SSL_SESSION *session = NULL;
    ASSERT_FALSE(resumes(context, versions[i], &session));
    ASSERT_NOT_NULL(session);
    if (versions[i] == TLS1_3_VERSION) {
      ASSERT_LE(test_ticket_life_s(session), VALK_TLS_TICKET_LIFETIME_S);
      ASSERT_GT(test_ticket_life_s(session), VALK_TLS_TICKET_LIFETIME_S - 60);
    }
    for (int n = 0; n < 3; n++) {
      ASSERT_TRUE(resumes(context, versions[i], &session));
    }
    /* Another server's tickets are not ours. */
    ASSERT_FALSE(resumes(stranger, versions[i], &session));
    SSL_SESSION_free(session);
  }
  valk_tls_context_unref(stranger);
  valk_tls_context_unref(context);
}

TEST(tls_ticket_keys_rotate) {
  for (int i = 0; i < 2; i++) {
    valk_tls_context_t *context = peer_context(peer_ec_key());
    context->now_s = fake_clock;
    context->ticket_keys[0].created_s = fake_now_s;
    uint64_t start_s = fake_now_s;
    SSL_SESSION *first = NULL;
    ASSERT_FALSE(resumes(context, versions[i], &first));
    valk__tls_ticket_key_t key = context->ticket_keys[0];

    fake_now_s = start_s + 3599;
    SSL_SESSION *second = NULL;
    ASSERT_FALSE(resumes(context, versions[i], &second));
    ASSERT_MEM_EQ(context->ticket_keys[0].name, key.name, sizeof key.name);

    /* After an hour new tickets are written with a new key, and old ones are still good. */
    fake_now_s = start_s + 3600;
    SSL_SESSION *old = SSL_SESSION_dup(first); /* a client uses a session once */
    ASSERT_TRUE(resumes(context, versions[i], &first));
    ASSERT_NE(memcmp(context->ticket_keys[0].name, key.name, sizeof key.name), 0);
    SSL_SESSION *stale = SSL_SESSION_dup(old);
    fake_now_s = start_s + 7199;
    ASSERT_TRUE(resumes(context, versions[i], &old));

    /* After two, not; the ticket that was renewed is. */
    SSL_SESSION *renewed = first;
    fake_now_s = start_s + 7200;
    ASSERT_FALSE(resumes(context, versions[i], &second));
    ASSERT_FALSE(resumes(context, versions[i], &stale));
    ASSERT_TRUE(resumes(context, versions[i], &renewed));
    ASSERT_TRUE(resumes(context, versions[i], &second));

    /* After a long silence no key is left that a ticket could name. */
    fake_now_s += 100 * 3600;
    ASSERT_FALSE(resumes(context, versions[i], &second));
    ASSERT_TRUE(resumes(context, versions[i], &second));
    SSL_SESSION_free(renewed);
    SSL_SESSION_free(second);
    SSL_SESSION_free(old);
    SSL_SESSION_free(stale);
    valk_tls_context_unref(context);
  }
}

static void *shake_hands_often(void *argument) {
  SSL_SESSION *session = NULL;
  for (int i = 0; i < 10; i++) {
    fake_now_s += 1200;
    resumes(argument, versions[i % 2], &session);
    if (i % 2) {
      SSL_SESSION_free(session);
      session = NULL;
    }
  }
  SSL_SESSION_free(session);
  return NULL;
}

TEST(tls_context_serves_several_threads) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  context->now_s = fake_clock;
  context->ticket_keys[0].created_s = fake_now_s;
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) {
    ASSERT_OK(pthread_create(&threads[i], NULL, shake_hands_often, context));
  }
  for (int i = 0; i < 4; i++) {
    ASSERT_OK(pthread_join(threads[i], NULL));
  }
  valk_tls_context_unref(context);
}

TEST(tls_context_outlives_its_owner) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  peer_t peer;
  ASSERT_OK(peer_open(&peer, context, &(peer_options_t){.alpn = PEER_ALPN_H2}));
  valk_tls_context_unref(context);
  ASSERT_TRUE(peer_shake_hands(&peer));
  ASSERT_EQ(peer.sessions, 1u);
  peer_echo(&peer, "still there");
  peer_close(&peer);
  valk_tls_free(NULL);
  valk_tls_context_unref(NULL);
}

/* ---- key and certificate ---- */

typedef struct {
  char *key;
  char *certificate;
} pem_t;

static pem_t make_pem(EVP_PKEY *key, const char *passphrase) {
  X509 *certificate = peer_certificate(key, "localhost", NULL, NULL);
  pem_t pem = {peer_key_pem(key, passphrase), peer_certificate_pem(certificate)};
  X509_free(certificate);
  EVP_PKEY_free(key);
  return pem;
}

static void free_pem(pem_t pem) {
  free(pem.key);
  free(pem.certificate);
}

/* Makes a context that must fail and say |sentence|. */
static void refuses(const char *key, const char *certificate, const char *sentence) {
  valk_tls_options_t options = peer_options(key, certificate);
  valk_tls_context_t *context = NULL;
  char error[256] = "";
  ASSERT_EQ(valk_tls_context_new(&options, &context, error, sizeof error), VALK_ETLS);
  ASSERT_NULL(context);
  ASSERT_MSG(strstr(error, sentence), "expected \"%s\", have \"%s\"", sentence, error);
  ASSERT_EQ(ERR_peek_error(), 0u);
  /* And without room for it. */
  ASSERT_EQ(valk_tls_context_new(&options, &context, NULL, 0), VALK_ETLS);
}

TEST(tls_bad_pem_is_explained) {
  pem_t good = make_pem(peer_ec_key(), NULL);
  pem_t other = make_pem(EVP_EC_gen("P-256"), NULL);
  pem_t locked = make_pem(EVP_EC_gen("P-256"), "secret");
  pem_t small = make_pem(EVP_RSA_gen(1024), NULL);

  refuses("", good.certificate, "the key is missing");
  refuses(good.key, "", "the certificate is missing");
  refuses("garbage", good.certificate, "the key is not valid PEM");
  refuses(good.key, "garbage", "the certificate is not valid PEM");
  refuses(good.certificate, good.key, "the key's PEM holds no private key but a CERTIFICATE");
  refuses(good.key, good.key, "the certificate's PEM holds no certificate but a PRIVATE KEY");
  refuses(other.key, good.certificate, "the key does not match the certificate");
  refuses(small.key, good.certificate, "the key does not match the certificate");
  refuses(locked.key, locked.certificate, "the key is protected by a passphrase");
  refuses(small.key, small.certificate, "the certificate cannot be used: ee key too small");
  refuses("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", good.certificate,
          "the key cannot be read");

  /* A broken block: cut short, then one whose text is changed, at the end of a chain. */
  char *broken = strdup(good.certificate);
  broken[strlen(broken) / 2] = '\0';
  refuses(good.key, broken, "the certificate is not valid PEM");
  size_t size = strlen(good.certificate) + strlen(broken) + 1;
  char *chain = malloc(size);
  snprintf(chain, size, "%s%s", good.certificate, broken);
  refuses(good.key, chain, "certificate 2 of the chain is not valid PEM");
  strcpy(broken, good.key);
  broken[strlen(broken) / 2] = '\0';
  refuses(broken, good.certificate, "the key is not valid PEM");
  free(chain);
  free(broken);

  size_t long_size = (1u << 20) + 2;
  char *longest = malloc(long_size);
  memset(longest, '\n', long_size - 1);
  longest[long_size - 1] = '\0';
  refuses(longest, good.certificate, "the key is longer than 1 MiB");
  refuses(good.key, longest, "the certificate is longer than 1 MiB");
  free(longest);

  valk_tls_options_t none = peer_options(good.key, good.certificate);
  none.key = NULL;
  none.key_length = 0;
  valk_tls_context_t *context = NULL;
  char error[8] = "";
  ASSERT_EQ(valk_tls_context_new(&none, &context, error, sizeof error), VALK_ETLS);
  ASSERT_STR_EQ(error, "the key"); /* cut where the room ends */
  free_pem(good);
  free_pem(other);
  free_pem(locked);
  free_pem(small);
}

TEST(tls_pem_forms_that_are_taken) {
  ASSERT_OK(valk_tls_init());
  EVP_PKEY *keys[] = {EVP_EC_gen("P-256"), EVP_EC_gen("P-384"), EVP_RSA_gen(2048),
                      test_ed25519_key()};
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    ASSERT(EVP_PKEY_up_ref(keys[i]));
    pem_t pem = make_pem(keys[i], NULL);
    BIO *bio = BIO_new(BIO_s_mem());
    /* The key in its older form, if it has one, and with what `openssl ecparam -genkey` writes
     * before it. */
    if (EVP_PKEY_id(keys[i]) == EVP_PKEY_ED25519) {
      ASSERT(PEM_write_bio_PrivateKey(bio, keys[i], NULL, NULL, 0, NULL, NULL));
    } else {
      ASSERT(EVP_PKEY_id(keys[i]) != EVP_PKEY_EC || PEM_write_bio_Parameters(bio, keys[i]));
      ASSERT(PEM_write_bio_PrivateKey_traditional(bio, keys[i], NULL, NULL, 0, NULL, NULL));
    }
    char *traditional = peer_bio_text(bio);
    EVP_PKEY_free(keys[i]);
    const char *forms[] = {pem.key, traditional};
    for (int f = 0; f < 2; f++) {
      valk_tls_options_t options = peer_options(forms[f], pem.certificate);
      valk_tls_context_t *context = NULL;
      char error[256] = "";
      ASSERT_MSG(valk_tls_context_new(&options, &context, error, sizeof error) == 0, "%s", error);
      for (int v = 0; v < 2; v++) {
        SSL_SESSION *session = NULL;
        ASSERT_FALSE(resumes(context, versions[v], &session));
        SSL_SESSION_free(session);
      }
      valk_tls_context_unref(context);
    }
    free(traditional);
    free_pem(pem);
  }
}

/* ---- what is not TLS ---- */

static void refuses_bytes(valk_tls_context_t *context, const char *text, size_t length,
                          const char *error) {
  peer_t peer;
  ASSERT_OK(peer_open(&peer, context, &(peer_options_t){.alpn = PEER_ALPN_H2}));
  ASSERT_EQ(peer_feed(&peer, (const uint8_t *) text, length), VALK_TLS_FAILED);
  ASSERT_STR_EQ(valk_tls_error(peer.tls), error);
  /* It stays so, and whatever is asked of it. */
  ASSERT_EQ(peer_feed(&peer, (const uint8_t *) text, length), VALK_TLS_FAILED);
  ASSERT_EQ(peer_write(&peer, (const uint8_t *) "x", 1, VALK_TLS_RECORD_MAX), VALK_TLS_FAILED);
  size_t written = 0;
  ASSERT_EQ(peer_shutdown(&peer, 256, &written), VALK_TLS_FAILED);
  ASSERT_EQ(written, 0u);
  ASSERT_FALSE(valk_tls_handshaken(peer.tls));
  ASSERT_EQ(ERR_peek_error(), 0u);
  peer_close(&peer);
}

TEST(tls_garbage_is_refused) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  static const char http[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
  static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  static const char ssh[] = "SSH-2.0-OpenSSH_9.2\r\n";
  refuses_bytes(context, http, sizeof http - 1, "plain HTTP");
  refuses_bytes(context, preface, sizeof preface - 1, "not TLS");
  refuses_bytes(context, ssh, sizeof ssh - 1, "not TLS");

  /* Random bytes, then such that look like a record or a ClientHello. */
  for (int i = 0; i < 300; i++) {
    uint8_t bytes[600];
    ASSERT_EQ(RAND_bytes(bytes, sizeof bytes), 1);
    if (i % 3 > 0) {
      memcpy(bytes, "\x16\x03\x01\x02\x00", 5);
    }
    if (i % 3 > 1) {
      memcpy(bytes + 5, "\x01\x00\x01\xfc\x03\x03", 6);
    }
    peer_t peer;
    ASSERT_OK(peer_open(&peer, context, &(peer_options_t){.alpn = PEER_ALPN_H2}));
    peer_feed(&peer, bytes, sizeof bytes);
    ASSERT_FALSE(valk_tls_handshaken(peer.tls));
    peer_close(&peer);
  }
  valk_tls_context_unref(context);
}

TEST(tls_damaged_record_fails_and_its_alert_waits_for_room) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  for (int i = 0; i < 2; i++) {
    peer_t peer;
    ASSERT_OK(
        peer_open(&peer, context, &(peer_options_t){.version = versions[i], .alpn = PEER_ALPN_H2}));
    ASSERT_TRUE(peer_shake_hands(&peer));
    ASSERT_EQ(SSL_write(peer.client, "damaged", 7), 7);
    char *data = NULL;
    long length = BIO_get_mem_data(peer.to_server, &data);
    data[length - 1] ^= 1;
    valk_tls_input_t input = {(uint8_t *) data, (size_t) length, 0};
    ASSERT_EQ(peer_read(&peer, &input, 0), VALK_TLS_FAILED);
    ASSERT_STR_EQ(valk_tls_error(peer.tls), "bad record");
    ASSERT_EQ(peer.received_length, 0u);
    ASSERT_TRUE(valk_tls_pending_output(peer.tls));
    valk_tls_input_t nothing = {NULL, 0, 0};
    ASSERT_EQ(peer_read(&peer, &nothing, 256), VALK_TLS_FAILED);
    ASSERT_FALSE(valk_tls_pending_output(peer.tls));
    char byte;
    ASSERT_LE(SSL_read(peer.client, &byte, 1), 0);
    ASSERT_EQ(ERR_GET_REASON(ERR_peek_error()), SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
    peer_close(&peer);
  }
  valk_tls_context_unref(context);
}

/* ---- memory ---- */

/* What OpenSSL makes once and keeps, for the process or the thread, is made here and charged to
 * nobody. */
static void warm_up(valk_tls_context_t *context, int version) {
  SSL_SESSION *session = NULL;
  ASSERT_FALSE(resumes(context, version, &session));
  SSL_SESSION_free(session);
}

TEST(tls_idle_connection_holds_little) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  for (int i = 0; i < 2; i++) {
    warm_up(context, versions[i]);
    valk_ledger_t *ledger = valk_ledger_new(0);
    peer_t peer;
    ASSERT_OK(peer_open(
        &peer, context,
        &(peer_options_t){.version = versions[i], .alpn = PEER_ALPN_H2, .ledger = ledger}));
    ASSERT_TRUE(peer_shake_hands(&peer));
    peer_echo(&peer, "hello");
    /* 14 to 16 KiB in OpenSSL 3.0: its record buffers are given back between calls. */
    printf("%s: %zu bytes idle, %zu at most\n", valk_tls_version(peer.tls), ledger->used,
           ledger->peak);
    ASSERT_LT(ledger->used, 24u * 1024);
    ASSERT_LT(ledger->peak, 128u * 1024);
    peer_close(&peer);
    valk_ledger_close(ledger);
  }
  valk_tls_context_unref(context);
}

/* Under slow tools not each point; there are fewer here than FAULT_STEP is meant for. */
static uint64_t stride(void) {
  const char *value = getenv("FAULT_STEP");
  return value != NULL ? strtoull(value, NULL, 10) / 6 + 1 : 1;
}

/* A handshake, an echo and a close in which one allocation of the machine fails. True when it did
 * fail. */
static bool run_with_fault(valk_tls_context_t *context, int version, uint64_t nth, bool sticky) {
  valk_ledger_t *ledger = valk_ledger_new(0);
  ASSERT(ledger);
  peer_t peer;
  int opened = peer_open(&peer, context,
                         &(peer_options_t){.version = version,
                                           .alpn = PEER_ALPN_H2,
                                           .ledger = ledger,
                                           .fail_at = nth,
                                           .fail_all_after = sticky});
  if (opened != 0) {
    ASSERT_EQ(opened, VALK_ENOMEM);
    ASSERT_NULL(peer.tls);
  } else if (peer_shake_hands(&peer)) {
    ASSERT_EQ(SSL_write(peer.client, "ping", 4), 4);
    valk_tls_result_t result = peer_carry(&peer);
    if (result == VALK_TLS_WANT_INPUT) {
      result = peer_write(&peer, (const uint8_t *) "pong", 4, VALK_TLS_RECORD_MAX);
      ASSERT(result == VALK_TLS_OK || peer.faulted);
    }
    size_t written = 0;
    result = peer_shutdown(&peer, 256, &written);
    ASSERT(result == VALK_TLS_OK || (peer.faulted && result == VALK_TLS_FAILED));
  }
  bool faulted = peer.faulted;
  ASSERT(faulted || (valk_tls_handshaken(peer.tls) && !valk_tls_error(peer.tls)));
  peer_close(&peer);
  /* What OpenSSL keeps for the thread (errors, random numbers) goes; what it may still hold is
   * places in its cache of algorithms. */
  OPENSSL_thread_stop();
  ASSERT_LT(ledger->used, 1024u);
  valk_ledger_close(ledger);
  return faulted;
}

static void fail_each_allocation(int version, bool sticky) {
  valk_tls_context_t *context = peer_context(peer_ec_key());
  warm_up(context, version);
  ASSERT_FALSE(run_with_fault(context, version, 0, false));
  uint64_t nth = 1;
  while (run_with_fault(context, version, nth, sticky)) {
    nth += stride();
  }
  /* Of TLS 1.2 AWS-LC takes about a hundred. */
  ASSERT_GT(nth, VALK__TLS_AWSLC ? 50u : 100u);
  ASSERT_FALSE(run_with_fault(context, version, 0, false));
  valk_tls_context_unref(context);
}

TEST(tls_13_each_allocation_may_fail) {
  fail_each_allocation(TLS1_3_VERSION, false);
}

TEST(tls_12_each_allocation_may_fail) {
  fail_each_allocation(TLS1_2_VERSION, false);
}

TEST(tls_13_all_later_allocations_may_fail) {
  fail_each_allocation(TLS1_3_VERSION, true);
}

TEST(tls_context_each_allocation_may_fail) {
  pem_t pem = make_pem(peer_ec_key(), NULL);
  valk_tls_options_t options = peer_options(pem.key, pem.certificate);
  valk_certificate_t other = {"other.test", pem.key, strlen(pem.key), pem.certificate,
                              strlen(pem.certificate)};
  options.contexts = &other;
  options.context_count = 1;
  options.request_certificate = true;
  options.ca = pem.certificate;
  options.ca_length = strlen(pem.certificate);
  valk_tls_context_t *context = NULL;
  char error[256];
  ASSERT_OK(valk_tls_context_new(&options, &context, error, sizeof error));
  valk_tls_context_unref(context);
  for (uint64_t nth = 1;; nth = test_next_fault(nth, stride())) {
    valk__fault_arm(VALK_FAULT_MALLOC, nth, false, 0);
    int result = valk_tls_context_new(&options, &context, error, sizeof error);
    bool passed = valk__fault_count(VALK_FAULT_MALLOC) < nth;
    valk__fault_arm(VALK_FAULT_MALLOC, 0, false, 0);
    ASSERT_EQ(result == 0, context != NULL);
    ASSERT(result == 0 || result == VALK_ENOMEM || result == VALK_ETLS);
    ASSERT(result == 0 || error[0] != '\0');
    valk_tls_context_unref(context);
    if (passed) {
      ASSERT_OK(result);
      ASSERT_GT(nth, 100u);
      break;
    }
  }
  free_pem(pem);
}
