/* For tests of the TLS machine: a client of the library in memory, the wire between the two, and
 * certificates made on the spot. */
#ifndef VALK_TEST_TLS_PEER_H
#define VALK_TEST_TLS_PEER_H

#include <openssl/bio.h>
#include <openssl/pem.h>

#include "../core/fault.h"
#include "../core/ledger.h"
#include "../core/tls.h"
#include "../core/tls_internal.h"
#include "../include/valk.h"
#include "library.h"
#include "test.h"

/* The library leaves OpenSSL's tables to the end of the process. A memory checker that knows a
 * block by its beginning only would take them, each behind its ledger's header, for lost. */
__attribute__((constructor)) static void peer_clean_at_exit(void) {
  atexit(OPENSSL_cleanup);
}

/* ---- certificates ---- */

/* |key|, signed by |issuer| (NULL: by itself) and good for a day. */
static inline X509 *peer_certificate(EVP_PKEY *key, const char *name, const X509 *issuer,
                                     EVP_PKEY *issuer_key) {
  const EVP_MD *digest = EVP_PKEY_id(key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256();
  X509 *certificate = X509_new();
  ASSERT(certificate);
  ASSERT(X509_set_version(certificate, X509_VERSION_3));
  ASSERT(ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1));
  ASSERT(X509_gmtime_adj(X509_getm_notBefore(certificate), -3600));
  ASSERT(X509_gmtime_adj(X509_getm_notAfter(certificate), 86400));
  ASSERT(X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                                    (const unsigned char *) name, -1, -1, 0));
  ASSERT(X509_set_issuer_name(certificate, X509_get_subject_name(issuer ? issuer : certificate)));
  ASSERT(X509_set_pubkey(certificate, key));
  ASSERT(X509_sign(certificate, issuer_key ? issuer_key : key, digest) > 0);
  return certificate;
}

static inline char *peer_bio_text(BIO *bio) {
  char *data = NULL;
  long length = BIO_get_mem_data(bio, &data);
  char *text = malloc((size_t) length + 1);
  ASSERT(text);
  memcpy(text, data, (size_t) length);
  text[length] = '\0';
  BIO_free(bio);
  return text;
}

/* |passphrase| may be NULL. The caller frees the text. */
static inline char *peer_key_pem(EVP_PKEY *key, const char *passphrase) {
  BIO *bio = BIO_new(BIO_s_mem());
  ASSERT(PEM_write_bio_PKCS8PrivateKey(bio, key, passphrase ? EVP_aes_128_cbc() : NULL, passphrase,
                                       passphrase ? (int) strlen(passphrase) : 0, NULL, NULL));
  return peer_bio_text(bio);
}

static inline char *peer_certificate_pem(X509 *certificate) {
  BIO *bio = BIO_new(BIO_s_mem());
  ASSERT(PEM_write_bio_X509(bio, certificate));
  return peer_bio_text(bio);
}

static inline valk_tls_options_t peer_options(const char *key, const char *certificate) {
  return (valk_tls_options_t){.key = key,
                              .key_length = strlen(key),
                              .certificate = certificate,
                              .certificate_length = strlen(certificate)};
}

/* A context over a self-signed certificate for |key|, which it frees. */
static inline valk_tls_context_t *peer_context(EVP_PKEY *key) {
  X509 *certificate = peer_certificate(key, "localhost", NULL, NULL);
  char *key_pem = peer_key_pem(key, NULL);
  char *certificate_pem = peer_certificate_pem(certificate);
  valk_tls_options_t options = peer_options(key_pem, certificate_pem);
  valk_tls_context_t *context = NULL;
  char error[256] = "";
  int result = valk_tls_context_new(&options, &context, error, sizeof error);
  ASSERT_MSG(result == 0, "context: %d, %s", result, error);
  free(key_pem);
  free(certificate_pem);
  X509_free(certificate);
  EVP_PKEY_free(key);
  return context;
}

static inline EVP_PKEY *peer_ec_key(void) {
  ASSERT_OK(valk_tls_init());
  EVP_PKEY *key = EVP_EC_gen("P-256");
  ASSERT(key);
  return key;
}

/* ---- a client and a machine, and the wire between them ---- */

#define PEER_ALPN_H2 "\x02h2"

typedef struct {
  int version;           /* TLS1_3_VERSION, TLS1_2_VERSION; 0: whatever both have */
  const char *alpn;      /* as on the wire; NULL: none offered */
  const char *ciphers;   /* TLS 1.2 */
  const char *suites;    /* TLS 1.3 */
  SSL_SESSION *session;  /* to resume */
  uint8_t fragment_mode; /* TLSEXT_max_fragment_length_... */
  size_t input_step;     /* ciphertext given in one call; 0: all there is */
  size_t output_room;    /* room lent in one call; 0: a whole TCP buffer */
  valk_ledger_t *ledger; /* entered around each call of the machine */
  uint64_t fail_at;      /* the allocation of the machine that fails; 0: none */
  bool fail_all_after;
} peer_options_t;

typedef struct {
  peer_options_t options;
  SSL_CTX *client_context;
  SSL *client;
  BIO *to_client;
  BIO *to_server;
  SSL_SESSION *session; /* the newest that the server gave */
  unsigned sessions;
  valk_tls_t *tls;
  valk_tls_result_t last; /* of the machine's last read */
  unsigned want_output;
  uint8_t *received; /* plaintext that came to the server */
  size_t received_length;
  size_t received_size;
  uint64_t fault_left;
  bool faulted;
} peer_t;

static inline int peer_on_session(SSL *client, SSL_SESSION *session) {
  peer_t *peer = SSL_get_app_data(client);
  SSL_SESSION_free(peer->session);
  peer->session = session;
  peer->sessions++;
  return 1;
}

/* Brackets of every call of the machine: whose memory it is, and which allocation fails. */
static inline void peer_enter(peer_t *peer) {
  if (peer->fault_left > 0) {
    valk__fault_arm(VALK_FAULT_MALLOC, peer->fault_left, peer->options.fail_all_after, 0);
  }
  if (peer->options.ledger) {
    valk_ledger_enter(peer->options.ledger);
  }
}

static inline void peer_leave(peer_t *peer) {
  if (peer->options.ledger) {
    valk_ledger_enter(NULL);
  }
  if (peer->fault_left > 0) {
    uint64_t passes = valk__fault_count(VALK_FAULT_MALLOC);
    valk__fault_arm(VALK_FAULT_MALLOC, 0, false, 0);
    if (passes < peer->fault_left) {
      peer->fault_left -= passes;
    } else {
      peer->faulted = true;
      peer->fault_left = peer->options.fail_all_after ? 1 : 0;
    }
  }
}

/* 0, or what valk_tls_new returned: the client is there all the same. */
static inline int peer_open(peer_t *peer, valk_tls_context_t *context,
                            const peer_options_t *options) {
  *peer = (peer_t){.options = *options, .fault_left = options->fail_at};
  peer->client_context = SSL_CTX_new(TLS_client_method());
  ASSERT(peer->client_context);
  SSL_CTX_set_session_cache_mode(peer->client_context,
                                 SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(peer->client_context, peer_on_session);
  peer->client = SSL_new(peer->client_context);
  ASSERT(peer->client);
  SSL_set_app_data(peer->client, peer);
  /* The test's clients may be older than the host's policy lets them be. */
  SSL_set_security_level(peer->client, 0);
  ASSERT(test_take_every_signature(peer->client));
  if (options->version != 0) {
    ASSERT(SSL_set_min_proto_version(peer->client, options->version));
    ASSERT(SSL_set_max_proto_version(peer->client, options->version));
  }
  if (options->alpn) {
    unsigned length = (unsigned) strlen(options->alpn);
    ASSERT_OK(SSL_set_alpn_protos(peer->client, (const uint8_t *) options->alpn, length));
  }
  ASSERT(!options->ciphers || SSL_set_cipher_list(peer->client, options->ciphers));
  ASSERT(!options->suites || SSL_set_ciphersuites(peer->client, options->suites));
  ASSERT(!options->session || SSL_set_session(peer->client, options->session));
  ASSERT(SSL_set_tlsext_host_name(peer->client, "example.test"));
  if (options->fragment_mode != 0) {
    ASSERT(SSL_set_tlsext_max_fragment_length(peer->client, options->fragment_mode));
  }
  peer->to_client = BIO_new(BIO_s_mem());
  peer->to_server = BIO_new(BIO_s_mem());
  ASSERT(peer->to_client && peer->to_server);
  SSL_set_bio(peer->client, peer->to_client, peer->to_server);
  SSL_set_connect_state(peer->client);
  peer_enter(peer);
  int result = valk_tls_new(context, &peer->tls);
  peer_leave(peer);
  return result;
}

/* Replaces |*session| by the newest that the client has, which it may use beyond this connection.
 */
static inline void peer_keep_session(peer_t *peer, int version, SSL_SESSION **session) {
  SSL_SESSION_free(*session);
  *session = version == TLS1_3_VERSION ? peer->session : SSL_get1_session(peer->client);
  peer->session = version == TLS1_3_VERSION ? NULL : peer->session;
}

static inline void peer_close(peer_t *peer) {
  peer_enter(peer);
  valk_tls_free(peer->tls);
  peer_leave(peer);
  /* A client that ends without a word would forget its session. */
  SSL_set_shutdown(peer->client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_free(peer->client);
  SSL_CTX_free(peer->client_context);
  SSL_SESSION_free(peer->session);
  free(peer->received);
}

static inline void peer_keep(peer_t *peer, const uint8_t *plain, size_t length) {
  if (peer->received_length + length > peer->received_size) {
    peer->received_size = (peer->received_length + length) * 2;
    peer->received = realloc(peer->received, peer->received_size);
    ASSERT(peer->received);
  }
  if (length > 0) {
    memcpy(peer->received + peer->received_length, plain, length);
  }
  peer->received_length += length;
}

/* One call of valk_tls_read with |room| bytes of output, which go to the client. */
static inline valk_tls_result_t peer_read(peer_t *peer, valk_tls_input_t *input, size_t room) {
  static _Thread_local uint8_t plain[VALK_TLS_PLAIN_MAX];
  uint8_t *space = room > 0 ? malloc(room) : NULL; /* of exact size, so that ASan guards its end */
  valk_tls_output_t output = {space, room, 0};
  size_t length = 0;
  size_t used = input->used;
  peer_enter(peer);
  peer->last = valk_tls_read(peer->tls, input, &output, plain, sizeof plain, &length);
  peer_leave(peer);
  ASSERT_LE(output.length, room);
  ASSERT_LE(used, input->used);
  ASSERT_LE(input->used, input->length);
  ASSERT(length == 0 || peer->last == VALK_TLS_OK);
  peer_keep(peer, plain, length);
  if (output.length > 0) {
    ASSERT_EQ(BIO_write(peer->to_client, space, (int) output.length), (int) output.length);
  }
  free(space);
  return peer->last;
}

/* Gives the machine |length| bytes, step by step, until it wants more, is closed or has failed. */
static inline valk_tls_result_t peer_feed(peer_t *peer, const uint8_t *bytes, size_t length) {
  size_t room = peer->options.output_room ? peer->options.output_room : VALK_TCP_BUFFER_SIZE;
  size_t step = peer->options.input_step ? peer->options.input_step : length;
  size_t begin = 0;
  do {
    size_t part = length - begin < step ? length - begin : step;
    valk_tls_input_t input = {bytes + begin, part, 0};
    for (valk_tls_result_t result;
         (result = peer_read(peer, &input, room)) != VALK_TLS_WANT_INPUT;) {
      if (result == VALK_TLS_CLOSED || result == VALK_TLS_FAILED) {
        return result;
      }
      peer->want_output += result == VALK_TLS_WANT_OUTPUT;
    }
    ASSERT_EQ(input.used, part);
    ASSERT_FALSE(valk_tls_pending_output(peer->tls));
    begin += part;
  } while (begin < length);
  return VALK_TLS_WANT_INPUT;
}

/* Carries what the client has written to the machine. */
static inline valk_tls_result_t peer_carry(peer_t *peer) {
  char *data = NULL;
  long length = BIO_get_mem_data(peer->to_server, &data);
  uint8_t *copy = malloc((size_t) length + 1);
  ASSERT(copy);
  memcpy(copy, data, (size_t) length);
  ASSERT(BIO_reset(peer->to_server) == 1);
  valk_tls_result_t result = peer_feed(peer, copy, (size_t) length);
  free(copy);
  return result;
}

/* Shakes hands until both sides are done, or one has failed. True when both are done. */
static inline bool peer_shake_hands(peer_t *peer) {
  for (int round = 0; round < 10; round++) {
    ERR_clear_error();
    int done = SSL_do_handshake(peer->client);
    bool client_failed = done != 1 && SSL_get_error(peer->client, done) == SSL_ERROR_SSL;
    valk_tls_result_t result = peer_carry(peer);
    if (done == 1 && valk_tls_handshaken(peer->tls)) {
      /* TLS 1.3 tickets come after the client's handshake. */
      char byte;
      ASSERT_EQ(SSL_read(peer->client, &byte, 1), -1);
      return result == VALK_TLS_WANT_INPUT;
    }
    if (result == VALK_TLS_FAILED || client_failed) {
      /* Let the client see the alert. */
      SSL_do_handshake(peer->client);
      return false;
    }
  }
  FAIL("the handshake does not end");
}

/* Encrypts with an output of exactly |room| bytes, which goes to the client. */
static inline valk_tls_result_t peer_write(peer_t *peer, const uint8_t *plain, size_t length,
                                           size_t room) {
  uint8_t *space = room > 0 ? malloc(room) : NULL;
  valk_tls_output_t output = {space, room, 0};
  peer_enter(peer);
  valk_tls_result_t result = valk_tls_write(peer->tls, plain, length, &output);
  peer_leave(peer);
  ASSERT_LE(output.length, room);
  if (output.length > 0) {
    ASSERT_EQ(BIO_write(peer->to_client, space, (int) output.length), (int) output.length);
  }
  free(space);
  return result;
}

static inline valk_tls_result_t peer_shutdown(peer_t *peer, size_t room, size_t *written) {
  uint8_t space[256];
  valk_tls_output_t output = {room > 0 ? space : NULL, room, 0};
  ASSERT_LE(room, sizeof space);
  peer_enter(peer);
  valk_tls_result_t result = valk_tls_shutdown(peer->tls, &output);
  peer_leave(peer);
  *written = output.length;
  if (output.length > 0) {
    ASSERT_EQ(BIO_write(peer->to_client, space, (int) output.length), (int) output.length);
  }
  return result;
}

/* The client sends |text|, the machine echoes what it got, the client reads the same. */
static inline void peer_echo(peer_t *peer, const char *text) {
  int length = (int) strlen(text);
  char back[256] = "";
  ASSERT_LT(length, (int) sizeof back);
  peer->received_length = 0;
  ASSERT_EQ(SSL_write(peer->client, text, length), length);
  ASSERT_EQ(peer_carry(peer), VALK_TLS_WANT_INPUT);
  ASSERT_EQ(peer->received_length, (size_t) length);
  ASSERT_MEM_EQ(peer->received, (const uint8_t *) text, (size_t) length);
  ASSERT_EQ(peer_write(peer, peer->received, peer->received_length, VALK_TLS_RECORD_MAX),
            VALK_TLS_OK);
  ASSERT_EQ(SSL_read(peer->client, back, sizeof back), length);
  ASSERT_STR_EQ(back, text);
}

/* ---- a key and its certificate ---- */

typedef struct {
  EVP_PKEY *evp;
  X509 *x509;
  char *key, *certificate;
} peer_pair_t;

static inline peer_pair_t peer_make_pair(const char *name) {
  peer_pair_t pair;
  pair.evp = peer_ec_key();
  pair.x509 = peer_certificate(pair.evp, name, NULL, NULL);
  pair.key = peer_key_pem(pair.evp, NULL);
  pair.certificate = peer_certificate_pem(pair.x509);
  return pair;
}

static inline void peer_free_pair(peer_pair_t *pair) {
  EVP_PKEY_free(pair->evp);
  X509_free(pair->x509);
  free(pair->key);
  free(pair->certificate);
}

static inline valk_certificate_t peer_named(const char *name, const peer_pair_t *pair) {
  return (valk_certificate_t){name, pair->key, strlen(pair->key), pair->certificate,
                              strlen(pair->certificate)};
}

#endif
