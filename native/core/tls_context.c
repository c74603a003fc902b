#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#include "../include/valk.h"
#include "fault.h"
#include "ledger.h"
#include "tls_internal.h"

/* Of a key's or a chain's PEM: far above any real one. */
#define PEM_LENGTH_MAX (1u << 20)

/* The server's order, but that a client which puts ChaCha20 first gets it. OpenSSL has an option
 * for that. With AWS-LC the client's order would hold for TLS 1.3, and a common one has ChaCha20
 * before AES-128: there is one suite, and on_client_hello puts another one in its place. */
#define CIPHERS_TLS12                                                                              \
  "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                                     \
  "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                                     \
  "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#if VALK__TLS_AWSLC
#define CHACHA_TLS12                                                                               \
  "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"                                     \
  "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                                     \
  "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
#define CIPHERS_TLS13 "TLS_AES_128_GCM_SHA256"
#else
#define CIPHERS_TLS13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#endif
#define GROUPS "X25519:P-256:P-384"

/* ---- OpenSSL itself ---- */

static pthread_once_t init_once = PTHREAD_ONCE_INIT;
static int init_result;

static void init_openssl(void) {
  init_result = valk_ledger_install();
  if (init_result != 0) {
    return;
  }
  /* No openssl.cnf may change what is offered here, and the process may end while engine threads
   * still run: OpenSSL's exit handler would pull its tables from under them. */
  uint64_t options = OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT;
  if (!OPENSSL_init_crypto(options, NULL) || !OPENSSL_init_ssl(options, NULL)) {
    init_result = VALK_ETLS;
  }
}

int valk_tls_init(void) {
  pthread_once(&init_once, init_openssl);
  return init_result;
}

/* Far above what AWS-LC has of random state for a thread. */
#define RANDOM_STATE_MAX (64u << 10)

bool valk__tls_begin_thread(void) {
#if VALK__TLS_AWSLC
  /* Without memory for a thread's random states AWS-LC ends the process: they are made while there
   * is plenty, and charged to nobody. */
  static _Thread_local bool begun;
  if (!begun) {
    valk_ledger_t *ledger = valk_ledger_enter(NULL);
    void *room = OPENSSL_malloc(RANDOM_STATE_MAX);
    if (room) {
      uint8_t byte;
      OPENSSL_free(room);
      valk_ledger_vital(true);
      begun = RAND_bytes(&byte, 1) == 1 && RAND_priv_bytes(&byte, 1) == 1;
      valk_ledger_vital(false);
    }
    valk_ledger_enter(ledger);
  }
  return begun;
#else
  return true;
#endif
}

/* ---- failures ---- */

typedef struct {
  char *text;
  size_t size;
} sentence_t;

/* Writes the sentence and gives the code to return: VALK_ENOMEM when that is what lies behind. */
__attribute__((format(printf, 2, 3))) static int explain(const sentence_t *sentence,
                                                         const char *format, ...) {
  int result = VALK_ETLS;
  for (unsigned long code; (code = ERR_get_error()) != 0;) {
    if (ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE) {
      result = VALK_ENOMEM;
    }
  }
  if (sentence->size > 0) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence->text, sentence->size,
              result == VALK_ENOMEM ? "no memory for the TLS context" : format, arguments);
    va_end(arguments);
  }
  return result;
}

static const char *last_reason(void) {
  unsigned long code = ERR_peek_last_error();
  const char *reason = code ? ERR_reason_error_string(code) : NULL;
  return reason ? reason : "unknown reason";
}

/* ---- PEM ---- */

int valk__tls_refuse_passphrase(char *buffer, int size, int writing, void *asked) {
  (void) buffer;
  (void) size;
  (void) writing;
  *(bool *) asked = true;
  return -1;
}

/* The name of the first block ("CERTIFICATE"), or false when there is none that is whole. */
static bool first_block_name(const char *pem, size_t length, char *name, size_t size) {
  BIO *bio = BIO_new_mem_buf(pem, (int) length);
  char *found = NULL;
  char *header = NULL;
  unsigned char *data = NULL;
  long data_length = 0;
  bool whole = bio && PEM_read_bio(bio, &found, &header, &data, &data_length) == 1;
  if (whole) {
    snprintf(name, size, "%s", found);
    OPENSSL_cleanse(data, (size_t) data_length);
  }
  OPENSSL_free(found);
  OPENSSL_free(header);
  OPENSSL_free(data);
  BIO_free(bio);
  return whole;
}

static int read_key(const valk_certificate_t *options, EVP_PKEY **key, const sentence_t *sentence) {
  if (!options->key || options->key_length == 0) {
    return explain(sentence, "the key is missing");
  }
  if (options->key_length > PEM_LENGTH_MAX) {
    return explain(sentence, "the key is longer than 1 MiB");
  }
  bool asked = false;
  BIO *bio = BIO_new_mem_buf(options->key, (int) options->key_length);
  *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, valk__tls_refuse_passphrase, &asked) : NULL;
  BIO_free(bio);
  if (*key) {
    ERR_clear_error();
    return 0;
  }
  if (asked) {
    return explain(sentence, "the key is protected by a passphrase: give it decrypted");
  }
  char reason[128];
  char name[64];
  snprintf(reason, sizeof reason, "%s", last_reason());
  if (!first_block_name(options->key, options->key_length, name, sizeof name)) {
    return explain(sentence, "the key is not valid PEM");
  }
  if (!strstr(name, "PRIVATE KEY")) {
    return explain(sentence, "the key's PEM holds no private key but a %s", name);
  }
  return explain(sentence, "the key cannot be read: %s", reason);
}

static int read_chain(const valk_certificate_t *options, X509 **leaf, STACK_OF(X509) * *chain,
                      const sentence_t *sentence) {
  if (!options->certificate || options->certificate_length == 0) {
    return explain(sentence, "the certificate is missing");
  }
  if (options->certificate_length > PEM_LENGTH_MAX) {
    return explain(sentence, "the certificate is longer than 1 MiB");
  }
  BIO *bio = BIO_new_mem_buf(options->certificate, (int) options->certificate_length);
  *chain = sk_X509_new_null();
  if (!bio || !*chain) {
    BIO_free(bio);
    return explain(sentence, "the certificate cannot be read");
  }
  bool asked = false;
  unsigned count = 0;
  for (X509 *certificate;
       (certificate = PEM_read_bio_X509(bio, NULL, valk__tls_refuse_passphrase, &asked)) != NULL;
       count++) {
    if (count == 0) {
      *leaf = certificate;
    } else if (sk_X509_push(*chain, certificate) == 0) {
      X509_free(certificate);
      break;
    }
  }
  unsigned long code = ERR_peek_last_error();
  BIO_free(bio);
  bool no_more = ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
  if (count > 0 && no_more) {
    ERR_clear_error();
    return 0;
  }
  char name[64];
  if (count == 0 && no_more &&
      first_block_name(options->certificate, options->certificate_length, name, sizeof name)) {
    return explain(sentence, "the certificate's PEM holds no certificate but a %s", name);
  }
  return count == 0 ? explain(sentence, "the certificate is not valid PEM")
                    : explain(sentence, "certificate %u of the chain is not valid PEM", count + 1);
}

static bool use_pair(SSL_CTX *ssl_context, X509 *leaf, EVP_PKEY *key, STACK_OF(X509) * chain) {
#if VALK__TLS_AWSLC
  /* 5.1.0's SSL_CTX_use_cert_and_key writes to NULL where it has no memory for the chain. */
  return SSL_CTX_use_certificate(ssl_context, leaf) == 1 &&
         SSL_CTX_use_PrivateKey(ssl_context, key) == 1 &&
         SSL_CTX_set1_chain(ssl_context, chain) == 1;
#else
  return SSL_CTX_use_cert_and_key(ssl_context, leaf, key, chain, 1) == 1;
#endif
}

static int use_certificate(SSL_CTX *ssl_context, const valk_certificate_t *options,
                           const sentence_t *sentence) {
  EVP_PKEY *key = NULL;
  X509 *leaf = NULL;
  STACK_OF(X509) *chain = NULL;
  int result = read_key(options, &key, sentence);
  if (result == 0) {
    result = read_chain(options, &leaf, &chain, sentence);
  }
  if (result == 0 && !X509_check_private_key(leaf, key)) {
    result = explain(sentence, "the key does not match the certificate");
  }
  const char *weakness = result == 0 ? valk__tls_weakness(leaf, true) : NULL;
  for (size_t i = 0; result == 0 && !weakness && i < (size_t) sk_X509_num(chain); i++) {
    weakness = valk__tls_weakness(sk_X509_value(chain, (int) i), false);
  }
  if (weakness) {
    result = explain(sentence, "the certificate cannot be used: %s", weakness);
  }
  if (result == 0 && !use_pair(ssl_context, leaf, key, chain)) {
    char reason[128];
    snprintf(reason, sizeof reason, "%s", last_reason()); /* "ee key too small", "ca md too weak" */
    result = explain(sentence, "the certificate cannot be used: %s", reason);
  }
  EVP_PKEY_free(key);
  X509_free(leaf);
  sk_X509_pop_free(chain, X509_free);
  return result;
}

/* ---- session tickets (RFC 5077, RFC 8446 section 4.6.1) ---- */

static uint64_t monotonic_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t) now.tv_sec + valk__fault_ahead_ms() / 1000;
}

static bool make_ticket_key(valk__tls_ticket_key_t *key, uint64_t now_s) {
  key->created_s = now_s;
  key->is_made = RAND_bytes(key->name, sizeof key->name) == 1 &&
                 RAND_priv_bytes(key->cipher_key, sizeof key->cipher_key) == 1 &&
                 RAND_priv_bytes(key->mac_key, sizeof key->mac_key) == 1;
  return key->is_made;
}

/* Rotation waits for the first ticket that needs it: no timer, and no key that nobody uses. */
static void rotate_ticket_keys(valk_tls_context_t *context, uint64_t now_s) {
  valk__tls_ticket_key_t *keys = context->ticket_keys;
  if (now_s - keys[0].created_s < VALK_TLS_TICKET_ROTATION_S) {
    return;
  }
  valk__tls_ticket_key_t fresh;
  if (make_ticket_key(&fresh, now_s)) {
    memmove(keys + 1, keys, (VALK_TLS_TICKET_KEYS - 1) * sizeof *keys);
    keys[0] = fresh;
  }
  OPENSSL_cleanse(&fresh, sizeof fresh);
}

/* Copies the key to write with (|name| NULL) or the one called |name|. Its place, or -1. */
static int find_ticket_key(valk_tls_context_t *context, const uint8_t *name,
                           valk__tls_ticket_key_t *key) {
  uint64_t now_s = context->now_s();
  int found = -1;
  pthread_mutex_lock(&context->ticket_lock);
  rotate_ticket_keys(context, now_s);
  for (unsigned i = 0; i < VALK_TLS_TICKET_KEYS && found < 0; i++) {
    const valk__tls_ticket_key_t *candidate = &context->ticket_keys[i];
    bool right = name ? memcmp(candidate->name, name, sizeof candidate->name) == 0 : i == 0;
    if (right && candidate->is_made && now_s - candidate->created_s < VALK_TLS_TICKET_LIFETIME_S) {
      *key = *candidate;
      found = (int) i;
    }
  }
  pthread_mutex_unlock(&context->ticket_lock);
  return found;
}

/* Has |cipher| and |mac| protect a ticket with |key|. */
#if VALK__TLS_AWSLC
typedef HMAC_CTX ticket_mac_t;
#define set_ticket_callback SSL_CTX_set_tlsext_ticket_key_cb

static bool use_ticket_key(const valk_tls_context_t *context, const valk__tls_ticket_key_t *key,
                           const uint8_t *iv, EVP_CIPHER_CTX *cipher, ticket_mac_t *mac,
                           int writing) {
  return EVP_CipherInit_ex(cipher, context->ticket_cipher, NULL, key->cipher_key, iv, writing) &&
         HMAC_Init_ex(mac, key->mac_key, sizeof key->mac_key, EVP_sha256(), NULL);
}
#else
typedef EVP_MAC_CTX ticket_mac_t;
#define set_ticket_callback SSL_CTX_set_tlsext_ticket_key_evp_cb

static bool use_ticket_key(const valk_tls_context_t *context, valk__tls_ticket_key_t *key,
                           const uint8_t *iv, EVP_CIPHER_CTX *cipher, ticket_mac_t *mac,
                           int writing) {
  char digest[] = "SHA256";
  OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac_key, sizeof key->mac_key),
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_end(),
  };
  return EVP_CipherInit_ex2(cipher, context->ticket_cipher, key->cipher_key, iv, writing, NULL) &&
         EVP_MAC_CTX_set_params(mac, parameters);
}
#endif

/* As set_ticket_callback wants it: 1: go on; 2: go on, and renew the ticket; 0: no such key, shake
 * hands in full; -1: failure. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     ticket_mac_t *mac, int writing) {
  valk_tls_context_t *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
  valk__tls_ticket_key_t key;
  int place = find_ticket_key(context, writing ? NULL : name, &key);
  if (place < 0) {
    return writing ? -1 : 0;
  }
  /* TLS 1.3 clients use a ticket once (RFC 8446, appendix C.4): each resumption brings the next. */
  int result = !writing && (place > 0 || SSL_version(ssl) == TLS1_3_VERSION) ? 2 : 1;
  if (writing) {
    memcpy(name, key.name, sizeof key.name);
    if (RAND_bytes(iv, EVP_CIPHER_iv_length(context->ticket_cipher)) != 1) {
      result = -1;
    }
  }
  if (result > 0 && !use_ticket_key(context, &key, iv, cipher, mac, writing)) {
    result = -1;
  }
  OPENSSL_cleanse(&key, sizeof key);
  return result;
}

/* ---- extensions ---- */

static int on_alpn(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_length,
                   const unsigned char *offered, unsigned offered_length, void *data) {
  (void) ssl;
  (void) data;
  /* A list of names, each after its length (RFC 7301, section 3.1); OpenSSL has checked its form.
   */
  for (unsigned i = 0; i < offered_length; i += 1u + offered[i]) {
    if (offered[i] == 2 && offered[i + 1] == 'h' && offered[i + 2] == '2') {
      *chosen = offered + i + 1;
      *chosen_length = 2;
      return SSL_TLSEXT_ERR_OK;
    }
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

#if VALK__TLS_AWSLC

/* What signs and is taken in a handshake: what AWS-LC begins with, but without SHA-1, which a
 * client of TLS 1.2 could ask for, and with Ed25519 for clients' certificates too. OpenSSL's
 * security level says as much. */
static const uint16_t signatures[] = {
    SSL_SIGN_ED25519,
    SSL_SIGN_ECDSA_SECP256R1_SHA256,
    SSL_SIGN_RSA_PSS_RSAE_SHA256,
    SSL_SIGN_RSA_PKCS1_SHA256,
    SSL_SIGN_ECDSA_SECP384R1_SHA384,
    SSL_SIGN_RSA_PSS_RSAE_SHA384,
    SSL_SIGN_RSA_PKCS1_SHA384,
    SSL_SIGN_ECDSA_SECP521R1_SHA512,
    SSL_SIGN_RSA_PSS_RSAE_SHA512,
    SSL_SIGN_RSA_PKCS1_SHA512,
    SSL_SIGN_MLDSA44,
    SSL_SIGN_MLDSA65,
    SSL_SIGN_MLDSA87,
};

static bool choose_signatures(SSL_CTX *ssl_context) {
  size_t count = sizeof signatures / sizeof *signatures;
  return SSL_CTX_set_signing_algorithm_prefs(ssl_context, signatures, count) &&
         SSL_CTX_set_verify_algorithm_prefs(ssl_context, signatures, count);
}

/* Chooses for a client that puts ChaCha20 before all else that is here, or has no AES-128. */
static enum ssl_select_cert_result_t on_client_hello(const SSL_CLIENT_HELLO *hello) {
  bool aes_128 = false, aes_256 = false, chacha = false;
  bool chacha_first_13 = false, chacha_first_12 = false, first = true;
  for (size_t i = 0; i + 1 < hello->cipher_suites_len; i += 2) {
    switch (hello->cipher_suites[i] << 8 | hello->cipher_suites[i + 1]) {
    case 0x1301:
      aes_128 = true;
      break;
    case 0x1302:
      aes_256 = true;
      break;
    case 0x1303:
      chacha = true;
      chacha_first_13 |= first;
      break;
    case 0xcca8: /* ECDHE-RSA, ECDHE-ECDSA (RFC 7905) */
    case 0xcca9:
      chacha_first_12 |= first;
      break;
    case 0xc02b: /* with AES-GCM (RFC 5289) */
    case 0xc02c:
    case 0xc02f:
    case 0xc030:
      break;
    default:
      continue;
    }
    first = false;
  }
  int done = 1;
  if (chacha && (chacha_first_13 || (!aes_128 && !aes_256))) {
    done = SSL_set_ciphersuites(hello->ssl, "TLS_CHACHA20_POLY1305_SHA256");
  } else if (aes_256 && !aes_128) {
    done = SSL_set_ciphersuites(hello->ssl, "TLS_AES_256_GCM_SHA384");
  } else if (chacha_first_12) {
    done = SSL_set_cipher_list(hello->ssl, CHACHA_TLS12);
  }
  return done == 1 ? ssl_select_cert_success : ssl_select_cert_error;
}

#endif

/* ---- the context ---- */

static bool configure(SSL_CTX *ssl_context) {
  SSL_CTX_set_options(ssl_context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                       SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  /* Buffers exist while they hold something. The chain is sent as it was given, not looked for in a
   * trust store at each handshake. */
  SSL_CTX_set_mode(ssl_context,
                   SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY | SSL_MODE_NO_AUTO_CHAIN);
#if !VALK__TLS_AWSLC
  /* Said here because its default depends on who built OpenSSL: RSA of 2048 bits and more, no
   * SHA-1. AWS-LC has no levels: see valk__tls_weakness. */
  SSL_CTX_set_security_level(ssl_context, 2);
#endif
  SSL_CTX_set_session_cache_mode(ssl_context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_timeout(ssl_context, VALK_TLS_TICKET_LIFETIME_S);
  SSL_CTX_set_alpn_select_cb(ssl_context, on_alpn, NULL);
  SSL_CTX_set_tlsext_servername_callback(ssl_context, valk__tls_on_servername);
  SSL_CTX_set_info_callback(ssl_context, valk__tls_on_info);
#if VALK__TLS_AWSLC
  SSL_CTX_set_select_certificate_cb(ssl_context, on_client_hello);
  /* Of TLS 1.3, as the timeout above is of TLS 1.2: what clients are told of a ticket's life. */
  SSL_CTX_set_session_psk_dhe_timeout(ssl_context, VALK_TLS_TICKET_LIFETIME_S);
  if (!choose_signatures(ssl_context)) {
    return false;
  }
#endif
  valk__tls_hand_over_watch(ssl_context);
  return SSL_CTX_set_min_proto_version(ssl_context, TLS1_2_VERSION) &&
         SSL_CTX_set_cipher_list(ssl_context, CIPHERS_TLS12) &&
         SSL_CTX_set_ciphersuites(ssl_context, CIPHERS_TLS13) &&
         SSL_CTX_set1_groups_list(ssl_context, GROUPS) &&
         /* An HTTP/2 client comes back on one connection: a second ticket would go unused. */
         SSL_CTX_set_num_tickets(ssl_context, 1) && set_ticket_callback(ssl_context, on_ticket);
}

/* An SSL_CTX with all that |options| say, and |certificate|. */
static int make_ssl_context(valk_tls_context_t *context, const valk_tls_options_t *options,
                            const valk_certificate_t *certificate, SSL_CTX **result,
                            const sentence_t *sentence) {
  SSL_CTX *ssl_context = *result = SSL_CTX_new(TLS_server_method());
  if (!ssl_context || !SSL_CTX_set_app_data(ssl_context, context) || !configure(ssl_context)) {
    char reason[128];
    snprintf(reason, sizeof reason, "%s", last_reason());
    return explain(sentence, "the TLS context cannot be made: %s", reason);
  }
  char why[256] = "";
  int status = valk__tls_verify_clients(context, ssl_context, options, why, sizeof why);
  if (status != 0) {
    return explain(sentence, "%s", why);
  }
  return use_certificate(ssl_context, certificate, sentence);
}

static int make_named(valk_tls_context_t *context, const valk_tls_options_t *options,
                      const sentence_t *sentence) {
  if (!valk__tls_names_new(context, options)) {
    ERR_raise(ERR_LIB_SSL, ERR_R_MALLOC_FAILURE);
    return explain(sentence, "no memory for the TLS context");
  }
  for (size_t i = 0; i < options->context_count; i++) {
    const valk_certificate_t *given = &options->contexts[i];
    valk__tls_named_t *named = context->named;
    while (strcmp(named->name, given->name) != 0) {
      named++;
    }
    char why[256] = "";
    int status = make_ssl_context(context, options, given, &named->ssl_context,
                                  &(sentence_t){why, sizeof why});
    if (status != 0) {
      explain(sentence, "of %.200s: %s", given->name, why);
      return status;
    }
  }
  return 0;
}

/* The keys of |context|, or those that it goes on with. */
static bool begin_tickets(valk_tls_context_t *context, valk_tls_context_t *previous) {
  if (!previous) {
    return make_ticket_key(&context->ticket_keys[0], context->now_s());
  }
  pthread_mutex_lock(&previous->ticket_lock);
  memcpy(context->ticket_keys, previous->ticket_keys, sizeof context->ticket_keys);
  context->now_s = previous->now_s;
  pthread_mutex_unlock(&previous->ticket_lock);
  return true;
}

static void free_context(valk_tls_context_t *context) {
  valk__tls_verify_clients_end(context->ssl_context);
  valk__tls_names_free(context);
  valk__tls_trust_free(context);
  SSL_CTX_free(context->ssl_context);
#if !VALK__TLS_AWSLC
  EVP_CIPHER_free(context->ticket_cipher);
#endif
  valk__tls_suites_free(&context->suites);
  BIO_meth_free(context->bio_method);
  pthread_mutex_destroy(&context->ticket_lock);
  OPENSSL_clear_free(context, sizeof *context);
}

int valk_tls_context_new(const valk_tls_options_t *options, valk_tls_context_t **result,
                         char *error, size_t error_size) {
  *result = NULL;
  sentence_t sentence = {error, error_size};
  if (valk_tls_init() != 0) {
    return explain(&sentence, "OpenSSL cannot be initialised, or was used before this library");
  }
  ERR_clear_error();
  uint32_t failures = valk_ledger_openssl_failures();
  valk_tls_context_t *context = valk__tls_begin_thread() ? OPENSSL_zalloc(sizeof *context) : NULL;
  if (!context) {
    ERR_raise(ERR_LIB_SSL, ERR_R_MALLOC_FAILURE);
    return explain(&sentence, "no memory for the TLS context");
  }
  atomic_init(&context->references, 1);
  if (valk__fault(VALK_FAULT_LOCK) || pthread_mutex_init(&context->ticket_lock, NULL) != 0) {
    OPENSSL_free(context);
    ERR_raise(ERR_LIB_SSL, ERR_R_MALLOC_FAILURE);
    return explain(&sentence, "no memory for the TLS context");
  }
  context->now_s = monotonic_s;
  context->key_records = VALK__TLS_KEY_RECORDS;
  context->bio_method = valk__tls_bio_method_new();
#if VALK__TLS_AWSLC
  context->ticket_cipher = EVP_aes_256_cbc();
#else
  context->ticket_cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
#endif
  int status = 0;
  if (!context->bio_method || !context->ticket_cipher || !valk__tls_suites_init(&context->suites) ||
      !begin_tickets(context, options->previous)) {
    char reason[128];
    snprintf(reason, sizeof reason, "%s", last_reason());
    status = explain(&sentence, "the TLS context cannot be made: %s", reason);
  }
  if (status == 0) {
    char why[256] = "";
    status = valk__tls_trust_new(context, options, why, sizeof why);
    if (status != 0) {
      explain(&sentence, "%s", why);
    }
  }
  const valk_certificate_t fallback = {NULL, options->key, options->key_length,
                                       options->certificate, options->certificate_length};
  if (status == 0) {
    status = make_ssl_context(context, options, &fallback, &context->ssl_context, &sentence);
  }
  if (status == 0) {
    status = make_named(context, options, &sentence);
  }
  /* Also when OpenSSL made do: it takes a certificate whose key it had no memory to decode, and
   * then could not verify a client by it as long as the context lives. */
  if (valk_ledger_openssl_failures() != failures) {
    ERR_raise(ERR_LIB_SSL, ERR_R_MALLOC_FAILURE);
    status = explain(&sentence, "no memory for the TLS context");
  }
  if (status != 0) {
    free_context(context);
    return status;
  }
  *result = context;
  return 0;
}

void valk_tls_context_ref(valk_tls_context_t *context) {
  atomic_fetch_add_explicit(&context->references, 1, memory_order_relaxed);
}

void valk_tls_context_unref(valk_tls_context_t *context) {
  if (context && atomic_fetch_sub_explicit(&context->references, 1, memory_order_acq_rel) == 1) {
    free_context(context);
  }
}
