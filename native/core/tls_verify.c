/* Certificates of clients: asked for, verified, shown. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "../include/valk.h"
#include "tls_internal.h"

#define CA_LENGTH_MAX (4u << 20)

#if VALK__TLS_AWSLC

#define RSA_BITS_MIN 2048
#define CURVE_BITS_MIN 224

/* What it was signed with; of RSASSA-PSS the parameters say it (RFC 4055, section 3.1). */
static int digest_of(const X509 *certificate) {
  int digest = NID_undef;
  if (X509_get_signature_nid(certificate) != NID_rsassaPss) {
    (void) OBJ_find_sigid_algs(X509_get_signature_nid(certificate), &digest, NULL);
    return digest;
  }
  const X509_ALGOR *algorithm = NULL;
  const void *value = NULL;
  int type = V_ASN1_UNDEF;
  X509_get0_signature(NULL, &algorithm, certificate);
  X509_ALGOR_get0(NULL, &type, &value, algorithm);
  if (type != V_ASN1_SEQUENCE) {
    return NID_sha1; /* the default */
  }
  const uint8_t *der = ASN1_STRING_get0_data(value);
  RSA_PSS_PARAMS *parameters = d2i_RSA_PSS_PARAMS(NULL, &der, ASN1_STRING_length(value));
  if (parameters && parameters->hashAlgorithm) {
    digest = OBJ_obj2nid(parameters->hashAlgorithm->algorithm);
  } else {
    digest = NID_sha1;
  }
  RSA_PSS_PARAMS_free(parameters);
  return digest;
}

const char *valk__tls_weakness(X509 *certificate, bool leaf) {
  const EVP_PKEY *key = X509_get0_pubkey(certificate);
  int type = key ? EVP_PKEY_id(key) : EVP_PKEY_NONE;
  /* RSA, RSA that is for PSS alone, and DSA are as strong as their length says. */
  int least = type == EVP_PKEY_EC || type == EVP_PKEY_ED25519 ? CURVE_BITS_MIN : RSA_BITS_MIN;
  if (!key || EVP_PKEY_bits(key) < least) {
    return leaf ? "ee key too small" : "ca key too small";
  }
  bool self_signed =
      X509_NAME_cmp(X509_get_subject_name(certificate), X509_get_issuer_name(certificate)) == 0;
  int digest = digest_of(certificate);
  return !self_signed && (digest == NID_md5 || digest == NID_sha1) ? "ca md too weak" : NULL;
}

/* Of each certificate of a client's chain that is good otherwise. */
static int verify_strength(int verified, X509_STORE_CTX *store) {
  if (verified && valk__tls_weakness(X509_STORE_CTX_get_current_cert(store),
                                     X509_STORE_CTX_get_error_depth(store) == 0)) {
    X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
    return 0;
  }
  return verified;
}

#else

const char *valk__tls_weakness(X509 *certificate, bool leaf) {
  (void) certificate, (void) leaf;
  return NULL;
}

#define verify_strength NULL

#endif

/* With rejectUnauthorized off: the handshake goes on, and the result is kept for who asks. */
static int accept_any(int verified, X509_STORE_CTX *store) {
#if VALK__TLS_AWSLC
  (void) verify_strength(verified, store);
#else
  (void) verified, (void) store;
#endif
  return 1;
}

static int no_memory(char *error, size_t error_size) {
  snprintf(error, error_size, "no memory for the TLS context");
  ERR_raise(ERR_LIB_SSL, ERR_R_MALLOC_FAILURE);
  return VALK_ENOMEM;
}

/* ---- names of authorities: one stack of them, which each SSL_CTX has a copy of ---- */

#if VALK__TLS_AWSLC

static valk__tls_names_t *names_new(void) {
  return sk_CRYPTO_BUFFER_new_null();
}

static void names_free(valk__tls_names_t *names) {
  sk_CRYPTO_BUFFER_pop_free(names, CRYPTO_BUFFER_free);
}

static bool add_name(valk__tls_names_t *names, X509 *certificate) {
  uint8_t *der = NULL;
  int length = i2d_X509_NAME(X509_get_subject_name(certificate), &der);
  CRYPTO_BUFFER *name = length > 0 ? CRYPTO_BUFFER_new(der, (size_t) length, NULL) : NULL;
  OPENSSL_free(der);
  if (name && sk_CRYPTO_BUFFER_push(names, name) > 0) {
    return true;
  }
  CRYPTO_BUFFER_free(name);
  return false;
}

static bool tell_names(SSL_CTX *ssl_context, valk__tls_names_t *names) {
  valk__tls_names_t *copy = sk_CRYPTO_BUFFER_dup(names);
  if (!copy) {
    return false;
  }
  for (size_t i = 0; i < sk_CRYPTO_BUFFER_num(copy); i++) {
    CRYPTO_BUFFER_up_ref(sk_CRYPTO_BUFFER_value(copy, i));
  }
  SSL_CTX_set0_client_CAs(ssl_context, copy);
  return true;
}

void valk__tls_verify_clients_end(SSL_CTX *ssl_context) {
  (void) ssl_context; /* the names are counted */
}

#else

static valk__tls_names_t *names_new(void) {
  return sk_X509_NAME_new_null();
}

static void names_free(valk__tls_names_t *names) {
  sk_X509_NAME_pop_free(names, X509_NAME_free);
}

static bool add_name(valk__tls_names_t *names, const X509 *certificate) {
  X509_NAME *name = X509_NAME_dup(X509_get_subject_name(certificate));
  if (name && sk_X509_NAME_push(names, name) > 0) {
    return true;
  }
  X509_NAME_free(name);
  return false;
}

/* Over names that are shared: valk__tls_verify_clients_end takes them out again, since OpenSSL
 * would free them with the stack. */
static bool tell_names(SSL_CTX *ssl_context, const valk__tls_names_t *names) {
  valk__tls_names_t *copy = sk_X509_NAME_dup(names);
  if (!copy) {
    return false;
  }
  SSL_CTX_set_client_CA_list(ssl_context, copy);
  return true;
}

void valk__tls_verify_clients_end(SSL_CTX *ssl_context) {
  valk__tls_names_t *names = ssl_context ? SSL_CTX_get_client_CA_list(ssl_context) : NULL;
  if (names) {
    sk_X509_NAME_zero(names);
  }
}

#endif

int valk__tls_trust_new(valk_tls_context_t *context, const valk_tls_options_t *options, char *error,
                        size_t error_size) {
  if (!options->request_certificate || options->ca_length == 0) {
    return 0;
  }
  if (options->ca_length > CA_LENGTH_MAX) {
    snprintf(error, error_size, "ca is longer than 4 MiB");
    return VALK_ETLS;
  }
  context->trust = X509_STORE_new();
  context->trust_names = names_new();
  BIO *bio = BIO_new_mem_buf(options->ca, (int) options->ca_length);
  if (!context->trust || !context->trust_names || !bio) {
    BIO_free(bio);
    return no_memory(error, error_size);
  }
  unsigned count = 0;
  bool failed = false;
  bool asked = false;
  for (X509 *certificate;
       !failed && (certificate = PEM_read_bio_X509(bio, NULL, valk__tls_refuse_passphrase, &asked));
       count++) {
    /* Reads its extensions now: at first use they would be read at the cost of a connection, whose
     * lack of memory would be remembered as a fault of the certificate. */
    (void) X509_check_purpose(certificate, -1, 0);
    failed = !X509_STORE_add_cert(context->trust, certificate) ||
             !add_name(context->trust_names, certificate);
    X509_free(certificate);
  }
  unsigned long code = ERR_peek_last_error();
  BIO_free(bio);
  bool no_more = ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
  if (!failed && no_more && count > 0) {
    ERR_clear_error();
    return 0;
  }
  if (ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE) {
    return no_memory(error, error_size);
  }
  if (count == 0) {
    snprintf(error, error_size, "ca holds no certificate in PEM");
  } else {
    snprintf(error, error_size, "certificate %u of ca cannot be used", count + (failed ? 0 : 1));
  }
  return VALK_ETLS;
}

void valk__tls_trust_free(valk_tls_context_t *context) {
  X509_STORE_free(context->trust);
  names_free(context->trust_names);
}

int valk__tls_verify_clients(const valk_tls_context_t *context, SSL_CTX *ssl_context,
                             const valk_tls_options_t *options, char *error, size_t error_size) {
  /* A ticket holds what its client proved: it is good only where the same is asked for. */
  unsigned char session_context[SSL_MAX_SID_CTX_LENGTH] = "valk";
  unsigned length = 4;
  if (options->request_certificate) {
    if (!EVP_Digest(options->ca ? options->ca : "", options->ca ? options->ca_length : 0,
                    session_context, &length, EVP_sha256(), NULL)) {
      return no_memory(error, error_size);
    }
    session_context[0] = options->reject_unauthorized ? 'r' : 'a';
    SSL_CTX_set_verify(ssl_context,
                       options->reject_unauthorized
                           ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
                           : SSL_VERIFY_PEER,
                       options->reject_unauthorized ? verify_strength : accept_any);
    SSL_CTX_set_max_cert_list(ssl_context, VALK_TLS_PEER_CHAIN_MAX);
  }
  if (!SSL_CTX_set_session_id_context(ssl_context, session_context, length)) {
    return no_memory(error, error_size);
  }
  if (context->trust) {
    if (!tell_names(ssl_context, context->trust_names)) {
      return no_memory(error, error_size);
    }
    SSL_CTX_set1_cert_store(ssl_context, context->trust);
  }
  return 0;
}

int valk__tls_waive(SSL *ssl) {
  static const unsigned char session_context[] = "valk-waived";
  SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
  return SSL_set_session_id_context(ssl, session_context, sizeof session_context) ? 0 : VALK_ENOMEM;
}

/* node:tls's names, which are OpenSSL's without X509_V_ERR_. */
static const char *verify_error(const SSL *ssl, bool shown) {
  if (SSL_get_verify_mode(ssl) == SSL_VERIFY_NONE) {
    return NULL;
  }
  if (!shown) {
    return "UNABLE_TO_GET_ISSUER_CERT";
  }
#define CASE(name)                                                                                 \
  case X509_V_ERR_##name:                                                                          \
    return #name
  switch (SSL_get_verify_result(ssl)) {
  case X509_V_OK:
    return NULL;
    CASE(UNABLE_TO_GET_ISSUER_CERT);
    CASE(UNABLE_TO_GET_CRL);
    CASE(UNABLE_TO_DECRYPT_CERT_SIGNATURE);
    CASE(UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY);
    CASE(CERT_SIGNATURE_FAILURE);
    CASE(CERT_NOT_YET_VALID);
    CASE(CERT_HAS_EXPIRED);
    CASE(ERROR_IN_CERT_NOT_BEFORE_FIELD);
    CASE(ERROR_IN_CERT_NOT_AFTER_FIELD);
    CASE(OUT_OF_MEM);
    CASE(DEPTH_ZERO_SELF_SIGNED_CERT);
    CASE(SELF_SIGNED_CERT_IN_CHAIN);
    CASE(UNABLE_TO_GET_ISSUER_CERT_LOCALLY);
    CASE(UNABLE_TO_VERIFY_LEAF_SIGNATURE);
    CASE(CERT_CHAIN_TOO_LONG);
    CASE(CERT_REVOKED);
    CASE(INVALID_CA);
    CASE(PATH_LENGTH_EXCEEDED);
    CASE(INVALID_PURPOSE);
    CASE(CERT_UNTRUSTED);
    CASE(CERT_REJECTED);
  default:
    return "UNSPECIFIED";
  }
#undef CASE
}

bool valk__tls_keep_certificate(valk_tls_t *tls) {
  X509 *certificate = SSL_get1_peer_certificate(tls->ssl);
  tls->authorization_error = verify_error(tls->ssl, certificate != NULL);
  if (!certificate) {
    return true;
  }
  /* Each resumption brings another ticket: the certificate's own end has to end them. */
  if (!tls->authorization_error && SSL_session_reused(tls->ssl) &&
      SSL_get_verify_mode(tls->ssl) != SSL_VERIFY_NONE &&
      X509_cmp_current_time(X509_get0_notAfter(certificate)) <= 0) {
    tls->authorization_error = "CERT_HAS_EXPIRED";
  }
  int length = i2d_X509(certificate, &tls->certificate);
  X509_free(certificate);
  tls->certificate_length = length > 0 ? (size_t) length : 0;
  return length > 0;
}
