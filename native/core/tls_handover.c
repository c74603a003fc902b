/* The end of a handshake: what it said is kept, and with TLS 1.3 the library is let go of. All that
 * a connection needs of it then is two secrets, and how many records were written under the first
 * of them (a ticket). AWS-LC tells both. OpenSSL tells the secrets as they come about, in the lines
 * that are meant for a key log (RFC 9850), and of each record as it is written. */
#include <stdio.h>
#include <string.h>

#include "tls_internal.h"

#if VALK__TLS_AWSLC

void valk__tls_hand_over_watch(SSL_CTX *ssl_context) {
  (void) ssl_context;
}

static bool take_secrets(valk_tls_t *tls, uint64_t *written) {
  valk__tls_traffic_t *traffic = &tls->traffic;
  size_t read_length = sizeof traffic->read_secret;
  size_t write_length = sizeof traffic->write_secret;
  *written = SSL_get_write_sequence(tls->ssl);
  return SSL_get_read_traffic_secret(tls->ssl, traffic->read_secret, &read_length) == 1 &&
         SSL_get_write_traffic_secret(tls->ssl, traffic->write_secret, &write_length) == 1;
}

uint32_t valk__tls_largest_fragment(const SSL *ssl) {
  (void) ssl; /* it does not know the extension */
  return VALK_TLS_PLAIN_MAX;
}

#else

static unsigned digit(char character) {
  return character <= '9' ? (unsigned) (character - '0') : (unsigned) (character - 'a' + 10);
}

/* "label client_random secret": in hex, which OpenSSL writes in small letters. */
static void on_key_log(const SSL *ssl, const char *line) {
  valk_tls_t *tls = SSL_get_app_data(ssl);
  bool reads = strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) == 0;
  bool writes = strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) == 0;
  if (!tls || (!reads && !writes)) {
    return;
  }
  const char *from = strrchr(line, ' ') + 1;
  uint8_t *secret = reads ? tls->traffic.read_secret : tls->traffic.write_secret;
  for (size_t i = 0; i < VALK__TLS_SECRET_MAX && from[2 * i] != '\0'; i++) {
    secret[i] = (uint8_t) (digit(from[2 * i]) << 4 | digit(from[2 * i + 1]));
  }
  if (writes) {
    tls->traffic.seal.sequence = 0;
  }
}

/* Of the records that are written, the last ones count: those after the secret was told. */
static void on_message(int writing, int version, int type, const void *bytes, size_t length,
                       SSL *ssl, void *data) {
  (void) version, (void) bytes, (void) length, (void) data;
  valk_tls_t *tls = SSL_get_app_data(ssl);
  if (tls && writing && type == SSL3_RT_HEADER) {
    tls->traffic.seal.sequence++;
  }
}

void valk__tls_hand_over_watch(SSL_CTX *ssl_context) {
  SSL_CTX_set_keylog_callback(ssl_context, on_key_log);
  SSL_CTX_set_msg_callback(ssl_context, on_message);
}

static bool take_secrets(valk_tls_t *tls, uint64_t *written) {
  *written = tls->traffic.seal.sequence;
  return true;
}

/* A client may have asked for smaller ones (RFC 6066, section 4). */
uint32_t valk__tls_largest_fragment(const SSL *ssl) {
  const SSL_SESSION *session = SSL_get0_session(ssl);
  unsigned mode = session ? SSL_SESSION_get_max_fragment_length(session) : 0;
  return mode == TLSEXT_max_fragment_length_DISABLED ? VALK_TLS_PLAIN_MAX : 256u << mode;
}

#endif

static bool begin_traffic(valk_tls_t *tls) {
  valk__tls_traffic_t *traffic = &tls->traffic;
  const SSL_CIPHER *cipher = SSL_get_current_cipher(tls->ssl);
  const valk__tls_suite_t *suite =
      valk__tls_suite(&tls->context->suites, (uint16_t) SSL_CIPHER_get_protocol_id(cipher));
  uint64_t written = 0;
  if (!suite || !take_secrets(tls, &written) ||
      !valk__tls_key_set(&traffic->open.key, suite, traffic->read_secret, false) ||
      !valk__tls_key_set(&traffic->seal, suite, traffic->write_secret, true)) {
    return false;
  }
  traffic->seal.sequence = written;
  traffic->fragment = valk__tls_largest_fragment(tls->ssl);
  traffic->suite = suite;
  return true;
}

static const char no_memory[] = "out of memory";

const char *valk__tls_hand_over(valk_tls_t *tls) {
  const unsigned char *protocol = NULL;
  unsigned length = 0;
  SSL_get0_alpn_selected(tls->ssl, &protocol, &length);
  tls->h2 = length == 2 && memcmp(protocol, "h2", 2) == 0;
  tls->resumed = SSL_session_reused(tls->ssl);
  tls->version = SSL_get_version(tls->ssl);
  tls->cipher = SSL_CIPHER_standard_name(SSL_get_current_cipher(tls->ssl));
  const char *name = SSL_get_servername(tls->ssl, TLSEXT_NAMETYPE_host_name);
  if (name && !(tls->servername = OPENSSL_strdup(name))) {
    return no_memory;
  }
  if (!valk__tls_keep_certificate(tls)) {
    return no_memory;
  }
  /* A full handshake has seen to it; of a resumed session it must hold as well. */
  if (tls->authorization_error &&
      (SSL_get_verify_mode(tls->ssl) & SSL_VERIFY_FAIL_IF_NO_PEER_CERT)) {
    return "the client's certificate is missing or not good any more";
  }
  if (SSL_version(tls->ssl) == TLS1_3_VERSION) {
    if (!begin_traffic(tls)) {
      return no_memory;
    }
    SSL_free(tls->ssl);
    tls->ssl = NULL;
    tls->bio = NULL;
  }
  tls->handshaken = true;
  return NULL;
}
