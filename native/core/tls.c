#include "tls.h"

#include <assert.h>
#include <string.h>

#include "../include/valk.h"
#include "tls_internal.h"

/* A fragment's overhead: header 5, explicit nonce 8, tag 16 (RFC 5288). */
#define FRAGMENT_OVERHEAD 32u

static_assert(2 * VALK_TLS_RECORD_MAX == VALK_TCP_BUFFER_SIZE,
              "a TCP buffer holds two records (specification, section 1)");
static_assert(VALK_TLS_PLAIN_MAX == SSL3_RT_MAX_PLAIN_LENGTH, "RFC 8446, section 5.1");

/* ---- the spans ---- */

size_t valk__tls_output_room(const valk_tls_t *tls) {
  return tls->output ? tls->output->capacity - tls->output->length : 0;
}

static void output_put(valk_tls_t *tls, const void *data, size_t length) {
  if (length > 0) {
    memcpy(tls->output->data + tls->output->length, data, length);
    tls->output->length += length;
  }
}

/* Moves spilt bytes to the output span; true when none are left. */
static bool drain_spill(valk_tls_t *tls) {
  if (tls->spill_length == 0) {
    return true;
  }
  size_t room = valk__tls_output_room(tls);
  size_t length = tls->spill_length < room ? tls->spill_length : room;
  output_put(tls, tls->spill, length);
  tls->spill_length -= length;
  memmove(tls->spill, tls->spill + length, tls->spill_length);
  return tls->spill_length == 0;
}

size_t valk__tls_put(valk_tls_t *tls, const uint8_t *data, size_t length) {
  size_t room = drain_spill(tls) ? valk__tls_output_room(tls) : 0;
  size_t taken = length < room ? length : room;
  output_put(tls, data, taken);
  if (length - taken <= VALK__TLS_SPILL_SIZE - tls->spill_length) {
    memcpy(tls->spill + tls->spill_length, data + taken, length - taken);
    tls->spill_length += length - taken;
    taken = length;
  }
  return taken;
}

/* ---- the BIO ---- */

static int bio_write(BIO *bio, const char *data, int size) {
  valk_tls_t *tls = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  if (size <= 0) {
    return 0;
  }
  size_t taken = valk__tls_put(tls, (const uint8_t *) data, (size_t) size);
  if (taken == 0) {
    tls->refused = true;
    BIO_set_retry_write(bio);
    return -1;
  }
  return (int) taken;
}

static int bio_read(BIO *bio, char *data, int size) {
  valk_tls_t *tls = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  if (size <= 0) {
    return 0;
  }
  size_t length = tls->input ? tls->input->length - tls->input->used : 0;
  if (length == 0) {
    BIO_set_retry_read(bio);
    return -1;
  }
  if (length > (size_t) size) {
    length = (size_t) size;
  }
  memcpy(data, tls->input->data + tls->input->used, length);
  tls->input->used += length;
  return (int) length;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer) {
  (void) bio, (void) number, (void) pointer;
  return command == BIO_CTRL_FLUSH; /* whatever was written has been passed on already */
}

BIO_METHOD *valk__tls_bio_method_new(void) {
  BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "valk");
  if (method && (!BIO_meth_set_write(method, bio_write) || !BIO_meth_set_read(method, bio_read) ||
                 !BIO_meth_set_ctrl(method, bio_ctrl))) {
    BIO_meth_free(method);
    method = NULL;
  }
  return method;
}

/* ---- life ---- */

int valk_tls_new(valk_tls_context_t *context, valk_tls_t **result) {
  *result = NULL;
  ERR_clear_error();
  /* With OpenSSL's allocator: charged to the connection as OpenSSL's own blocks are. */
  valk_tls_t *tls = valk__tls_begin_thread() ? OPENSSL_zalloc(sizeof *tls) : NULL;
  if (!tls) {
    return VALK_ENOMEM;
  }
  tls->ssl = SSL_new(context->ssl_context);
  tls->bio = BIO_new(context->bio_method);
  if (!tls->ssl || !tls->bio || !SSL_set_app_data(tls->ssl, tls)) {
    BIO_free(tls->bio);
    SSL_free(tls->ssl);
    OPENSSL_free(tls);
    ERR_clear_error();
    return VALK_ENOMEM;
  }
  BIO_set_data(tls->bio, tls);
  BIO_set_init(tls->bio, 1);
  SSL_set_bio(tls->ssl, tls->bio, tls->bio);
  SSL_set_accept_state(tls->ssl);
  tls->context = context;
  valk_tls_context_ref(context);
  *result = tls;
  return 0;
}

void valk_tls_free(valk_tls_t *tls) {
  if (!tls) {
    return;
  }
  valk_tls_context_t *context = tls->context;
  SSL_free(tls->ssl);
  valk__tls_traffic_end(&tls->traffic);
  OPENSSL_free(tls->servername);
  OPENSSL_free(tls->certificate);
  OPENSSL_free(tls);
  valk_tls_context_unref(context);
}

int valk_tls_waive_certificate(valk_tls_t *tls) {
  return valk__tls_waive(tls->ssl);
}

/* ---- failures ---- */

/* Names the failure whose errors are in OpenSSL's queue, oldest first, and empties it. */
static const char *take_error(void) {
  unsigned long named = 0;
  for (unsigned long code; (code = ERR_get_error()) != 0;) {
    if (ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE) {
      ERR_clear_error();
      return "out of memory";
    }
    /* What libssl says of it tells more than what a cipher says. */
    if (named == 0 || (ERR_GET_LIB(named) != ERR_LIB_SSL && ERR_GET_LIB(code) == ERR_LIB_SSL)) {
      named = code;
    }
  }
  if (ERR_GET_LIB(named) == ERR_LIB_SSL) {
    switch (ERR_GET_REASON(named)) {
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
      return "plain HTTP";
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_UNKNOWN_PROTOCOL:
      return "not TLS";
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
      return "unsupported protocol version";
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_CIPHERS_AVAILABLE:
      return "no shared cipher suite";
    case SSL_R_NO_APPLICATION_PROTOCOL:
      return "no application protocol";
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
      return "bad record";
    default:
      break;
    }
  }
  /* A literal of OpenSSL's own tables. */
  const char *reason = named ? ERR_reason_error_string(named) : NULL;
  return reason ? reason : "TLS error";
}

valk_tls_result_t valk__tls_fail(valk_tls_t *tls, const char *error) {
  tls->failed = true;
  tls->blocked = false;
  tls->error = error;
  return VALK_TLS_FAILED;
}

/* ---- steps ---- */

static void begin(valk_tls_t *tls, valk_tls_input_t *input, valk_tls_output_t *output) {
  tls->input = input;
  tls->output = output;
  tls->refused = false;
  if (tls->bio) {
    /* What the last call left in them must not speak for this one. */
    BIO_clear_retry_flags(tls->bio);
    ERR_clear_error();
  }
}

static valk_tls_result_t end(valk_tls_t *tls, valk_tls_result_t result) {
  tls->input = NULL;
  tls->output = NULL;
  return result;
}

/* OpenSSL answers each attempt to renegotiate (TLS 1.2) with a warning, reads on whether it could
 * write it or not, and can write nothing else behind one that is stuck: a peer that goes on and on,
 * and does not take its warnings, is left. */
static const char too_many_alerts[] = "too many alerts";

/* Why an SSL_* call that returned |value| did not go on. */
static valk_tls_result_t stopped(valk_tls_t *tls, int value) {
  switch (SSL_get_error(tls->ssl, value)) {
  case SSL_ERROR_WANT_WRITE:
    tls->blocked = true;
    return VALK_TLS_WANT_OUTPUT;
  case SSL_ERROR_WANT_READ:
    assert(!tls->input || tls->input->used == tls->input->length);
    if (tls->refused) {
      return valk__tls_fail(tls, too_many_alerts);
    }
    return tls->spill_length > 0 ? VALK_TLS_WANT_OUTPUT : VALK_TLS_WANT_INPUT;
  case SSL_ERROR_ZERO_RETURN:
    return tls->spill_length > 0 ? VALK_TLS_WANT_OUTPUT : VALK_TLS_CLOSED;
  default:
    return valk__tls_fail(tls, take_error());
  }
}

/* Brings out what earlier calls left behind: nothing else can be written before. Not OK is a result
 * for the caller. */
static valk_tls_result_t settle(valk_tls_t *tls) {
  bool drained = drain_spill(tls);
  if (tls->failed) {
    return VALK_TLS_FAILED;
  }
  if (!drained) {
    return VALK_TLS_WANT_OUTPUT;
  }
  tls->blocked = false;
  return VALK_TLS_OK;
}

static valk_tls_result_t shake_hands(valk_tls_t *tls) {
  int done = SSL_do_handshake(tls->ssl);
#if VALK__TLS_AWSLC
  /* It keeps a ticket until something is written, if it is nothing. */
  if (done == 1 && SSL_write(tls->ssl, "", 0) < 0) {
    done = -1;
  }
#endif
  if (done != 1) {
    return stopped(tls, done);
  }
  const char *failure = valk__tls_hand_over(tls);
  return failure ? valk__tls_fail(tls, failure) : VALK_TLS_OK;
}

valk_tls_result_t valk_tls_read(valk_tls_t *tls, valk_tls_input_t *input, valk_tls_output_t *output,
                                uint8_t *plain, size_t plain_size, size_t *plain_length) {
  assert(plain_size > 0);
  *plain_length = 0;
  begin(tls, input, output);
  valk_tls_result_t settled = settle(tls);
  if (settled != VALK_TLS_OK) {
    return end(tls, settled);
  }
  if (!tls->handshaken) {
    return end(tls, shake_hands(tls));
  }
  if (tls->traffic.suite) {
    return end(tls, valk__tls_traffic_read(tls, plain, plain_size, plain_length));
  }
  int done = SSL_read_ex(tls->ssl, plain, plain_size, plain_length);
  if (done != 1) {
    *plain_length = 0;
    return end(tls, stopped(tls, done));
  }
  if (tls->refused) {
    *plain_length = 0;
    return end(tls, valk__tls_fail(tls, too_many_alerts));
  }
  return end(tls, VALK_TLS_OK);
}

/* The room that a write of TLS 1.2 needs. A client may have asked for smaller fragments (RFC 6066,
 * section 4); several records are then made of one write. */
static size_t write_room(const valk_tls_t *tls, size_t length) {
  size_t fragment = valk__tls_largest_fragment(tls->ssl);
  size_t room = length + (length + fragment - 1) / fragment * FRAGMENT_OVERHEAD;
  return room > VALK_TLS_RECORD_MAX ? room : VALK_TLS_RECORD_MAX;
}

valk_tls_result_t valk_tls_write(valk_tls_t *tls, const uint8_t *plain, size_t length,
                                 valk_tls_output_t *output) {
  assert(length > 0 && length <= VALK_TLS_PLAIN_MAX);
  if (!tls->handshaken && !tls->failed) {
    return VALK_TLS_WANT_INPUT;
  }
  begin(tls, NULL, output);
  valk_tls_result_t settled = settle(tls);
  if (settled != VALK_TLS_OK) {
    return end(tls, settled);
  }
  if (tls->traffic.suite) {
    return end(tls, valk__tls_traffic_write(tls, plain, length));
  }
  if (valk__tls_output_room(tls) < write_room(tls, length)) {
    return end(tls, VALK_TLS_WANT_OUTPUT);
  }
  size_t written = 0;
  int done = SSL_write_ex(tls->ssl, plain, length, &written);
  if (done != 1) {
    return end(tls, stopped(tls, done));
  }
  assert(written == length && !tls->refused && tls->spill_length == 0);
  return end(tls, VALK_TLS_OK);
}

valk_tls_result_t valk_tls_shutdown(valk_tls_t *tls, valk_tls_output_t *output) {
  begin(tls, NULL, output);
  valk_tls_result_t settled = settle(tls);
  if (settled != VALK_TLS_OK) {
    return end(tls, settled);
  }
  if (tls->traffic.suite) {
    return end(tls, valk__tls_traffic_shutdown(tls));
  }
  /* Inside a handshake there is nothing to close; it lasts until its ticket is written. */
  if (!tls->handshaken || (SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN)) {
    return end(tls, VALK_TLS_OK);
  }
  int done = SSL_shutdown(tls->ssl);
  if (done < 0) {
    return end(tls, valk__tls_fail(tls, take_error()));
  }
  return end(tls, tls->spill_length > 0 ? VALK_TLS_WANT_OUTPUT : VALK_TLS_OK);
}

/* ---- what can be asked ---- */

/* Attempts to renegotiate with TLS 1.2. AWS-LC ends the connection at the first. */
void valk__tls_on_info(const SSL *ssl, int where, int value) {
  valk_tls_t *tls = SSL_get_app_data(ssl);
  if (tls && tls->handshaken && where == SSL_CB_WRITE_ALERT &&
      value == ((SSL3_AL_WARNING << 8) | SSL_AD_NO_RENEGOTIATION)) {
    tls->rekeys++;
  }
}

bool valk_tls_handshaken(const valk_tls_t *tls) {
  return tls->handshaken;
}

bool valk_tls_resumed(const valk_tls_t *tls) {
  return tls->resumed;
}

bool valk_tls_pending_output(const valk_tls_t *tls) {
  return tls->spill_length > 0 || tls->blocked;
}

bool valk_tls_is_h2(const valk_tls_t *tls) {
  return tls->h2;
}

uint32_t valk_tls_rekeys(const valk_tls_t *tls) {
  return tls->rekeys;
}

const char *valk_tls_version(const valk_tls_t *tls) {
  return tls->version;
}

const char *valk_tls_cipher(const valk_tls_t *tls) {
  return tls->cipher;
}

const char *valk_tls_servername(const valk_tls_t *tls) {
  return tls->servername;
}

size_t valk_tls_peer_certificate(const valk_tls_t *tls, uint8_t *der, size_t size) {
  if (der && size >= tls->certificate_length && tls->certificate_length > 0) {
    memcpy(der, tls->certificate, tls->certificate_length);
  }
  return tls->certificate_length;
}

const char *valk_tls_authorization_error(const valk_tls_t *tls) {
  return tls->authorization_error;
}

const char *valk_tls_error(const valk_tls_t *tls) {
  return tls->error;
}
