/* What tests use of OpenSSL 3 and AWS-LC does not have, or has by another name. */
#ifndef VALK_TEST_LIBRARY_H
#define VALK_TEST_LIBRARY_H

#include "../core/tls_library.h"

/* A client that asks for smaller fragments (RFC 6066, section 4) is OpenSSL's alone. */
#define TEST_HAS_FRAGMENTS (!VALK__TLS_AWSLC)
/* AWS-LC takes an attempt to renegotiate for the connection's end; OpenSSL answers with a warning.
 */
#define TEST_WARNS_OF_RENEGOTIATION (!VALK__TLS_AWSLC)

#if VALK__TLS_AWSLC

#include <openssl/ec_key.h>
#include <openssl/rsa.h>

#define SSL_set_security_level(ssl, level) ((void) (ssl), (void) (level))
#define SSL_set_tlsext_max_fragment_length(ssl, mode) ((void) (ssl), (void) (mode), 0)
#define SSL_get0_peer_CA_list SSL_get_client_CA_list
#define OPENSSL_thread_stop() ((void) 0)
/* Its clients may use one again. */
#define SSL_SESSION_dup(session) (SSL_SESSION_up_ref(session), (session))

static inline EVP_PKEY *EVP_EC_gen(const char *curve) {
  EC_KEY *ec = EC_KEY_new_by_curve_name(EC_curve_nist2nid(curve));
  EVP_PKEY *key = EVP_PKEY_new();
  if (!ec || !key || !EC_KEY_generate_key(ec) || !EVP_PKEY_assign_EC_KEY(key, ec)) {
    EC_KEY_free(ec);
    EVP_PKEY_free(key);
    return NULL;
  }
  return key;
}

static inline EVP_PKEY *EVP_RSA_gen(int bits) {
  EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_RSA, NULL);
  EVP_PKEY *key = NULL;
  if (!context || !EVP_PKEY_keygen_init(context) ||
      !EVP_PKEY_CTX_set_rsa_keygen_bits(context, bits) || !EVP_PKEY_keygen(context, &key)) {
    key = NULL;
  }
  EVP_PKEY_CTX_free(context);
  return key;
}

#endif

/* Of a client: NULL where there is none. Valid while |ssl| is. */
static inline X509 *test_peer_certificate(const SSL *ssl) {
  X509 *certificate = SSL_get1_peer_certificate(ssl);
  X509_free(certificate);
  return certificate;
}

/* Sends what a client has to say beside data: OpenSSL says it as part of a handshake, AWS-LC when
 * it writes. */
static inline bool test_flush(SSL *ssl) {
#if VALK__TLS_AWSLC
  return SSL_write(ssl, "", 0) == 0;
#else
  return SSL_do_handshake(ssl) == 1;
#endif
}

/* What a client of TLS 1.3 was told of its ticket's life; of AWS-LC what is left of it since the
 * client's first message. */
static inline unsigned long test_ticket_life_s(const SSL_SESSION *session) {
#if VALK__TLS_AWSLC
  return SSL_SESSION_get_timeout(session);
#else
  return SSL_SESSION_get_ticket_lifetime_hint(session);
#endif
}

/* Has a client take every signature that a certificate may have. */
static inline bool test_take_every_signature(SSL *ssl) {
#if VALK__TLS_AWSLC
  static const uint16_t all[] = {SSL_SIGN_ED25519, SSL_SIGN_ECDSA_SECP256R1_SHA256,
                                 SSL_SIGN_ECDSA_SECP384R1_SHA384, SSL_SIGN_RSA_PSS_RSAE_SHA256,
                                 SSL_SIGN_RSA_PKCS1_SHA256};
  return SSL_set_verify_algorithm_prefs(ssl, all, sizeof all / sizeof *all) == 1;
#else
  (void) ssl;
  return true;
#endif
}

static inline EVP_PKEY *test_ed25519_key(void) {
  EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_ED25519, NULL);
  EVP_PKEY *key = NULL;
  if (!context || !EVP_PKEY_keygen_init(context) || !EVP_PKEY_keygen(context, &key)) {
    key = NULL;
  }
  EVP_PKEY_CTX_free(context);
  return key;
}

#endif
