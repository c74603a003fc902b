#include "tls.h"

#include <assert.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>

#include "../include/valk.h"
#include "tls_internal.h"

/* Holds what was written when the output span had ended: two alerts of 31 bytes, so that none is
 * lost where the caller lent no room. */
#define SPILL_SIZE 64u

/* A fragment's overhead: header 5, explicit nonce 8 (TLS 1.2) or inner type 1 (TLS 1.3), tag 16. */
#define FRAGMENT_OVERHEAD 32u

static_assert(2 * VALK_TLS_RECORD_MAX == VALK_TCP_BUFFER_SIZE,
              "a TCP buffer holds two records (specification, section 1)");
static_assert(VALK_TLS_PLAIN_MAX == SSL3_RT_MAX_PLAIN_LENGTH, "RFC 8446, section 5.1");

struct valk_tls {
  SSL *ssl;
  BIO *bio; /* owned by |ssl| */
  valk_tls_context_t *context;
  valk_tls_input_t *input; /* lent for the length of one call */
  valk_tls_output_t *output;
  const char *error;
  uint32_t rekeys;
  bool handshaken;
  bool h2;
  bool failed;
  bool refused; /* in this call the BIO had no room for what OpenSSL wrote */
  bool blocked; /* OpenSSL waits for room to go on with a handshake message */
  valk__tls_key_t seal;
  uint8_t seal_type; /* of what OpenSSL writes next: 20 to 22 */
  valk__tls_open_t open;
  uint8_t empty_records;   /* in a row */
  valk__tls_opened_t feed; /* what OpenSSL reads next of what was opened ... */
  size_t feed_used;        /* ... its header included */
  const uint8_t *rest;     /* of an opened record that the caller had no room for */
  size_t rest_length;
  size_t spill_length;
  uint8_t *spill_block; /* instead of |spill|: a sealed record that had no room */
  uint8_t spill[SPILL_SIZE];
};

/* ---- the BIO ---- */

static size_t output_room(const valk_tls_t *tls) {
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
  size_t room = output_room(tls);
  size_t length = tls->spill_length < room ? tls->spill_length : room;
  uint8_t *spill = tls->spill_block ? tls->spill_block : tls->spill;
  output_put(tls, spill, length);
  tls->spill_length -= length;
  if (length > 0) {
    memmove(spill, spill + length, tls->spill_length);
  }
  if (tls->spill_length > 0) {
    return false;
  }
  OPENSSL_free(tls->spill_block);
  tls->spill_block = NULL;
  return true;
}

/* What OpenSSL writes where it leaves the records to us: one record, which takes its number with it
 * and is taken whole therefore, if none waits already. Never data, which do not go through OpenSSL
 * then. */
static int bio_seal(valk_tls_t *tls, const uint8_t *plain, size_t length) {
  if (!drain_spill(tls)) {
    tls->refused = true;
    BIO_set_retry_write(tls->bio);
    return -1;
  }
  size_t size = length + VALK__TLS_SEAL_OVERHEAD;
  bool fits = size <= output_room(tls);
  uint8_t *out = fits ? tls->output->data + tls->output->length : tls->spill;
  if (!fits && size > SPILL_SIZE) {
    out = tls->spill_block = OPENSSL_malloc(size);
  }
  if (!out || !valk__tls_seal(&tls->seal, tls->seal_type, plain, length, out)) {
    return -1;
  }
  if (fits) {
    tls->output->length += size;
  } else {
    tls->spill_length = size;
    (void) drain_spill(tls);
  }
  return (int) length;
}

static int bio_write(BIO *bio, const char *data, int size) {
  valk_tls_t *tls = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  if (size <= 0) {
    return 0;
  }
  size_t length = (size_t) size;
  if (tls->seal.context) {
    return bio_seal(tls, (const uint8_t *) data, length);
  }
  size_t room = drain_spill(tls) ? output_room(tls) : 0;
  size_t taken = length < room ? length : room;
  output_put(tls, data, taken);
  if (!tls->spill_block && length - taken <= SPILL_SIZE - tls->spill_length) {
    memcpy(tls->spill + tls->spill_length, data + taken, length - taken);
    tls->spill_length += length - taken;
    taken = length;
  }
  if (taken == 0) {
    tls->refused = true;
    BIO_set_retry_write(bio);
    return -1;
  }
  return (int) taken;
}

/* What OpenSSL reads where it leaves the records to us: a header of the inner type, and plaintext.
 * Nothing but what is not data, but for data where there must be none. */
static int bio_feed(valk_tls_t *tls, uint8_t *data, size_t size) {
  const valk__tls_opened_t *feed = &tls->feed;
  uint8_t header[VALK__TLS_HEADER] = {feed->type, 3, 3, (uint8_t) (feed->length >> 8),
                                      (uint8_t) feed->length};
  size_t given = 0;
  while (given < size && feed->data && tls->feed_used < sizeof header + feed->length) {
    size_t at = tls->feed_used;
    bool begun = at >= sizeof header;
    const uint8_t *from = begun ? feed->data + (at - sizeof header) : header + at;
    size_t left = begun ? sizeof header + feed->length - at : sizeof header - at;
    size_t part = left < size - given ? left : size - given;
    memcpy(data + given, from, part);
    given += part;
    tls->feed_used += part;
  }
  if (given == 0) {
    BIO_set_retry_read(tls->bio);
    return -1;
  }
  return (int) given;
}

static int bio_read(BIO *bio, char *data, int size) {
  valk_tls_t *tls = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  if (size <= 0) {
    return 0;
  }
  if (tls->open.key.context) {
    return bio_feed(tls, (uint8_t *) data, (size_t) size);
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
  valk_tls_t *tls = BIO_get_data(bio);
  switch (command) {
  case BIO_CTRL_FLUSH:
    return 1; /* whatever was written has been passed on already */
  case VALK__BIO_SET_KTLS:
    if (number == 1) {
      return valk__tls_key_set(&tls->seal, &tls->context->ciphers, pointer, true);
    }
    /* What is wrong with a record is told by one of ours. */
    if (!tls->seal.context) {
      valk__tls_key_end(&tls->open.key);
      return 0;
    }
    return valk__tls_key_set(&tls->open.key, &tls->context->ciphers, pointer, false);
  case VALK__BIO_GET_KTLS_SEND:
    return tls && tls->seal.context;
  case VALK__BIO_SET_KTLS_TYPE:
    tls->seal_type = (uint8_t) number;
    return 1;
  default:
    return 0;
  }
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
  valk_tls_t *tls = OPENSSL_zalloc(sizeof *tls);
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
  valk__tls_key_end(&tls->seal);
  valk__tls_open_end(&tls->open);
  OPENSSL_free(tls->spill_block);
  OPENSSL_cleanse(tls->spill, sizeof tls->spill);
  OPENSSL_free(tls);
  valk_tls_context_unref(context);
}

int valk_tls_waive_certificate(valk_tls_t *tls) {
  return valk__tls_waive(tls->ssl);
}

size_t valk_tls_peer_certificate(const valk_tls_t *tls, uint8_t *der, size_t size) {
  return valk__tls_certificate_of(tls->ssl, der, size);
}

const char *valk_tls_authorization_error(const valk_tls_t *tls) {
  return valk__tls_verify_error(tls->ssl);
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

static valk_tls_result_t fail(valk_tls_t *tls, const char *error) {
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
  /* What the last call left in them must not speak for this one. */
  BIO_clear_retry_flags(tls->bio);
  ERR_clear_error();
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
    assert(!tls->input || tls->open.key.context || tls->input->used == tls->input->length);
    if (tls->refused) {
      return fail(tls, too_many_alerts);
    }
    return tls->spill_length > 0 ? VALK_TLS_WANT_OUTPUT : VALK_TLS_WANT_INPUT;
  case SSL_ERROR_ZERO_RETURN:
    return tls->spill_length > 0 ? VALK_TLS_WANT_OUTPUT : VALK_TLS_CLOSED;
  default:
    return fail(tls, take_error());
  }
}

/* Brings out what earlier calls left behind: OpenSSL can write nothing else before. Not OK is a
 * result for the caller. */
static valk_tls_result_t settle(valk_tls_t *tls) {
  bool drained = drain_spill(tls);
  if (tls->failed) {
    return VALK_TLS_FAILED;
  }
  if (!drained) {
    return VALK_TLS_WANT_OUTPUT;
  }
  if (!tls->blocked || !tls->handshaken) {
    return VALK_TLS_OK;
  }
  /* The answer to a key update. */
  tls->blocked = false;
  int done = SSL_do_handshake(tls->ssl);
  if (done != 1) {
    return stopped(tls, done);
  }
  return tls->spill_length > 0 ? VALK_TLS_WANT_OUTPUT : VALK_TLS_OK;
}

static valk_tls_result_t shake_hands(valk_tls_t *tls) {
  tls->blocked = false;
  int done = SSL_do_handshake(tls->ssl);
  if (done != 1) {
    return stopped(tls, done);
  }
  const unsigned char *protocol = NULL;
  unsigned length = 0;
  SSL_get0_alpn_selected(tls->ssl, &protocol, &length);
  tls->h2 = length == 2 && memcmp(protocol, "h2", 2) == 0;
  tls->handshaken = true;
  return VALK_TLS_OK;
}

/* Ends the connection for what was wrong with a record. The alert goes with what is written next,
 * if records are ours that way too. */
static valk_tls_result_t refuse(valk_tls_t *tls, uint8_t alert) {
  const uint8_t fatal[] = {SSL3_AL_FATAL, alert};
  tls->seal_type = SSL3_RT_ALERT;
  if (tls->seal.context) {
    (void) bio_seal(tls, fatal, sizeof fatal);
  }
  return fail(tls, alert == SSL_AD_BAD_RECORD_MAC    ? "bad record"
                   : alert == SSL_AD_RECORD_OVERFLOW ? "record overflow"
                                                     : "unexpected message");
}

/* Gives OpenSSL what is its own: handshake messages and alerts. */
static valk_tls_result_t feed(valk_tls_t *tls, const valk__tls_opened_t *opened) {
  uint8_t none;
  size_t length = 0;
  tls->feed = *opened;
  tls->feed_used = 0;
  int done = SSL_read_ex(tls->ssl, &none, sizeof none, &length);
  tls->feed.data = NULL;
  return done == 1 ? fail(tls, "unexpected message") : stopped(tls, done);
}

/* As in OpenSSL. */
#define EMPTY_RECORDS_MAX 32

static valk_tls_result_t read_opened(valk_tls_t *tls, uint8_t *plain, size_t plain_size,
                                     size_t *plain_length) {
  if (SSL_get_shutdown(tls->ssl) & SSL_RECEIVED_SHUTDOWN) {
    return VALK_TLS_CLOSED;
  }
  for (;;) {
    if (tls->rest_length > 0) {
      size_t part = tls->rest_length < plain_size ? tls->rest_length : plain_size;
      memcpy(plain, tls->rest, part);
      tls->rest += part;
      tls->rest_length -= part;
      *plain_length = part;
      return VALK_TLS_OK;
    }
    valk__tls_opened_t opened = {.type = 0};
    switch (valk__tls_open(&tls->open, tls->input, plain, plain_size, &opened)) {
    case VALK__TLS_OPEN_MORE:
      return tls->spill_length > 0 ? VALK_TLS_WANT_OUTPUT : VALK_TLS_WANT_INPUT;
    case VALK__TLS_OPEN_MEMORY:
      return fail(tls, "out of memory");
    case VALK__TLS_OPEN_BAD:
      return refuse(tls, opened.alert);
    case VALK__TLS_OPEN_RECORD:
      break;
    }
    /* No data may come inside a message (RFC 8446, section 5.1): OpenSSL knows what to say. */
    if (opened.type != SSL3_RT_APPLICATION_DATA || SSL_in_init(tls->ssl)) {
      valk_tls_result_t result = feed(tls, &opened);
      if (result != VALK_TLS_WANT_INPUT) {
        return result;
      }
    } else if (opened.length == 0) {
      if (++tls->empty_records > EMPTY_RECORDS_MAX) {
        return refuse(tls, SSL_AD_UNEXPECTED_MESSAGE);
      }
    } else if (opened.data == plain) {
      tls->empty_records = 0;
      *plain_length = opened.length;
      return VALK_TLS_OK;
    } else {
      tls->empty_records = 0;
      tls->rest = opened.data;
      tls->rest_length = opened.length;
    }
  }
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
  if (tls->open.key.context) {
    return end(tls, read_opened(tls, plain, plain_size, plain_length));
  }
  int done = SSL_read_ex(tls->ssl, plain, plain_size, plain_length);
  if (done != 1) {
    *plain_length = 0;
    return end(tls, stopped(tls, done));
  }
  if (tls->refused) {
    *plain_length = 0;
    return end(tls, fail(tls, too_many_alerts));
  }
  return end(tls, VALK_TLS_OK);
}

/* The room that a write needs. A client may have asked for smaller fragments (RFC 6066, section
 * 4); OpenSSL then makes several records of one write. */
static size_t write_room(const valk_tls_t *tls, size_t length) {
  const SSL_SESSION *session = SSL_get0_session(tls->ssl);
  unsigned mode = session ? SSL_SESSION_get_max_fragment_length(session) : 0;
  if (mode == TLSEXT_max_fragment_length_DISABLED) {
    return VALK_TLS_RECORD_MAX;
  }
  size_t fragment = (size_t) 256 << mode;
  size_t room = length + (length + fragment - 1) / fragment * FRAGMENT_OVERHEAD;
  return room > VALK_TLS_RECORD_MAX ? room : VALK_TLS_RECORD_MAX;
}

/* As SSL_write_ex, which goes on with a message of the handshake first: writing nothing does just
 * that. */
static valk_tls_result_t write_sealed(valk_tls_t *tls, const uint8_t *plain, size_t length) {
  if (tls->seal.sequence >= tls->context->key_records) {
    (void) SSL_key_update(tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
  }
  if (SSL_in_init(tls->ssl) || SSL_get_key_update_type(tls->ssl) != SSL_KEY_UPDATE_NONE) {
    size_t written = 0;
    int done = SSL_write_ex(tls->ssl, plain, 0, &written);
    if (done != 1) {
      return stopped(tls, done);
    }
    if (tls->spill_length > 0 || output_room(tls) < length + VALK__TLS_SEAL_OVERHEAD) {
      return VALK_TLS_WANT_OUTPUT;
    }
  }
  valk_tls_output_t *output = tls->output;
  if ((SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN) ||
      !valk__tls_seal(&tls->seal, SSL3_RT_APPLICATION_DATA, plain, length,
                      output->data + output->length)) {
    return fail(tls, take_error());
  }
  output->length += length + VALK__TLS_SEAL_OVERHEAD;
  return VALK_TLS_OK;
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
  if (output_room(tls) < write_room(tls, length)) {
    return end(tls, VALK_TLS_WANT_OUTPUT);
  }
  if (tls->seal.context) {
    return end(tls, write_sealed(tls, plain, length));
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
  /* Inside a handshake, or a message that has come in part, there is nothing to close. */
  if (SSL_in_init(tls->ssl) || (SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN)) {
    return end(tls, VALK_TLS_OK);
  }
  int done = SSL_shutdown(tls->ssl);
  if (done < 0) {
    return end(tls, fail(tls, take_error()));
  }
  return end(tls, tls->spill_length > 0 ? VALK_TLS_WANT_OUTPUT : VALK_TLS_OK);
}

/* ---- what can be asked ---- */

void valk__tls_on_info(const SSL *ssl, int where, int value) {
  valk_tls_t *tls = SSL_get_app_data(ssl);
  if (!tls || !tls->handshaken) {
    return;
  }
  bool key_update = where == SSL_CB_ACCEPT_LOOP && SSL_get_state(ssl) == TLS_ST_SR_KEY_UPDATE;
  bool renegotiation =
      where == SSL_CB_WRITE_ALERT && value == ((SSL3_AL_WARNING << 8) | SSL_AD_NO_RENEGOTIATION);
  if (key_update || renegotiation) {
    tls->rekeys++;
  }
}

bool valk_tls_handshaken(const valk_tls_t *tls) {
  return tls->handshaken;
}

bool valk__tls_seals(const valk_tls_t *tls) {
  return tls->seal.context;
}

bool valk__tls_opens(const valk_tls_t *tls) {
  return tls->open.key.context;
}

bool valk_tls_resumed(const valk_tls_t *tls) {
  return tls->handshaken && SSL_session_reused(tls->ssl);
}

bool valk_tls_pending_output(const valk_tls_t *tls) {
  return tls->spill_length > 0 || tls->blocked;
}

bool valk_tls_is_h2(const valk_tls_t *tls) {
  return tls->handshaken && tls->h2;
}

uint32_t valk_tls_rekeys(const valk_tls_t *tls) {
  return tls->rekeys;
}

const char *valk_tls_version(const valk_tls_t *tls) {
  return SSL_get_version(tls->ssl);
}

const char *valk_tls_cipher(const valk_tls_t *tls) {
  const SSL_CIPHER *cipher = SSL_get_current_cipher(tls->ssl);
  return cipher ? SSL_CIPHER_standard_name(cipher) : "";
}

const char *valk_tls_servername(const valk_tls_t *tls) {
  return SSL_get_servername(tls->ssl, TLSEXT_NAMETYPE_host_name);
}

const char *valk_tls_error(const valk_tls_t *tls) {
  return tls->error;
}
