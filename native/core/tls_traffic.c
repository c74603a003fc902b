/* TLS 1.3 after the handshake: records of data, and what else may come or go (RFC 8446, sections
 * 4.6.3 and 6): key updates and alerts. A server that asks for no certificate later gets no other
 * message. */
#include <string.h>

#include "tls_internal.h"

#define EMPTY_RECORDS_MAX 32u
/* user_canceled, which some clients send before close_notify. */
#define WARNINGS_MAX 4u

static const uint8_t key_update[] = {SSL3_MT_KEY_UPDATE, 0, 0, 1, SSL_KEY_UPDATE_NOT_REQUESTED};

/* ---- out ---- */

/* False: it could not be encrypted. */
static bool write_alert(valk_tls_t *tls, uint8_t level, uint8_t description) {
  const uint8_t alert[] = {level, description};
  uint8_t record[sizeof alert + VALK__TLS_SEAL_OVERHEAD];
  return valk__tls_seal(&tls->traffic.seal, SSL3_RT_ALERT, alert, sizeof alert, record) &&
         valk__tls_put(tls, record, sizeof record) == sizeof record;
}

/* Ends the connection for what the peer has done. */
static valk_tls_result_t refuse(valk_tls_t *tls, uint8_t alert) {
  if (!tls->traffic.shut) {
    (void) write_alert(tls, SSL3_AL_FATAL, alert);
  }
  return valk__tls_fail(tls, alert == SSL_AD_BAD_RECORD_MAC    ? "bad record"
                             : alert == SSL_AD_RECORD_OVERFLOW ? "record overflow"
                             : alert == SSL_AD_INTERNAL_ERROR  ? "out of memory"
                                                               : "unexpected message");
}

static bool write_record(valk_tls_t *tls, uint8_t type, const uint8_t *plain, size_t length) {
  valk_tls_output_t *output = tls->output;
  if (!valk__tls_seal(&tls->traffic.seal, type, plain, length, output->data + output->length)) {
    return false;
  }
  output->length += length + VALK__TLS_SEAL_OVERHEAD;
  return true;
}

/* The last record under this key, and the next key. */
static bool change_key(valk_tls_t *tls) {
  valk__tls_traffic_t *traffic = &tls->traffic;
  traffic->owes_key_update = false;
  return write_record(tls, SSL3_RT_HANDSHAKE, key_update, sizeof key_update) &&
         valk__tls_secret_next(traffic->suite, traffic->write_secret) &&
         valk__tls_key_set(&traffic->seal, traffic->suite, traffic->write_secret, true);
}

/* What a write needs: VALK_TLS_RECORD_MAX has room for a whole one with a key update before it. */
static size_t room_for(const valk__tls_traffic_t *traffic, size_t length) {
  size_t records = (length + traffic->fragment - 1) / traffic->fragment + 1;
  size_t room = length + sizeof key_update + records * VALK__TLS_SEAL_OVERHEAD;
  return room > VALK_TLS_RECORD_MAX ? room : VALK_TLS_RECORD_MAX;
}

valk_tls_result_t valk__tls_traffic_write(valk_tls_t *tls, const uint8_t *plain, size_t length) {
  valk__tls_traffic_t *traffic = &tls->traffic;
  if (traffic->shut) {
    return valk__tls_fail(tls, "written after close_notify");
  }
  if (valk__tls_output_room(tls) < room_for(traffic, length)) {
    return VALK_TLS_WANT_OUTPUT;
  }
  if ((traffic->owes_key_update || traffic->seal.sequence >= tls->context->key_records) &&
      !change_key(tls)) {
    return valk__tls_fail(tls, "out of memory");
  }
  while (length > 0) {
    size_t part = length < traffic->fragment ? length : traffic->fragment;
    if (!write_record(tls, SSL3_RT_APPLICATION_DATA, plain, part)) {
      return valk__tls_fail(tls, "TLS error");
    }
    plain += part;
    length -= part;
  }
  return VALK_TLS_OK;
}

valk_tls_result_t valk__tls_traffic_shutdown(valk_tls_t *tls) {
  if (!tls->traffic.shut) {
    tls->traffic.shut = true;
    if (!write_alert(tls, SSL3_AL_WARNING, SSL_AD_CLOSE_NOTIFY)) {
      return valk__tls_fail(tls, "TLS error");
    }
  }
  return tls->spill_length > 0 ? VALK_TLS_WANT_OUTPUT : VALK_TLS_OK;
}

/* ---- in ---- */

/* OK: read on. */
static valk_tls_result_t on_alert(valk_tls_t *tls, const uint8_t *alert, size_t length) {
  valk__tls_traffic_t *traffic = &tls->traffic;
  if (length != 2) {
    /* One of nothing has an alert of its own (RFC 8446, section 5.4). */
    return refuse(tls, length == 0 ? SSL_AD_UNEXPECTED_MESSAGE : SSL_AD_DECODE_ERROR);
  }
  switch (alert[1]) {
  case SSL_AD_CLOSE_NOTIFY:
    traffic->closed = true;
    return VALK_TLS_CLOSED;
  case SSL_AD_USER_CANCELLED:
    return ++traffic->warnings > WARNINGS_MAX ? refuse(tls, SSL_AD_UNEXPECTED_MESSAGE)
                                              : VALK_TLS_OK;
  default:
    /* Whatever its level says (RFC 8446, section 6). */
    return valk__tls_fail(tls, "alert of the peer");
  }
}

/* A key update is all that may come, maybe in parts; it ends its record (section 5.1). The answer
 * to it goes before the next data: one is enough for as many as come until then (section 4.6.3). */
static valk_tls_result_t on_message(valk_tls_t *tls, const uint8_t *bytes, size_t length) {
  valk__tls_traffic_t *traffic = &tls->traffic;
  if (length == 0 || length > sizeof traffic->message - traffic->message_length) {
    return refuse(tls, SSL_AD_UNEXPECTED_MESSAGE);
  }
  memcpy(traffic->message + traffic->message_length, bytes, length);
  traffic->message_length += (uint8_t) length;
  if (memcmp(traffic->message, key_update,
             traffic->message_length < 4 ? traffic->message_length : 4) != 0) {
    return refuse(tls, SSL_AD_UNEXPECTED_MESSAGE);
  }
  if (traffic->message_length < sizeof traffic->message) {
    return VALK_TLS_OK;
  }
  uint8_t request = traffic->message[4];
  if (request > SSL_KEY_UPDATE_REQUESTED) {
    return refuse(tls, SSL_AD_ILLEGAL_PARAMETER);
  }
  traffic->message_length = 0;
  traffic->owes_key_update |= request == SSL_KEY_UPDATE_REQUESTED;
  tls->rekeys++;
  return valk__tls_secret_next(traffic->suite, traffic->read_secret) &&
                 valk__tls_key_set(&traffic->open.key, traffic->suite, traffic->read_secret, false)
             ? VALK_TLS_OK
             : refuse(tls, SSL_AD_INTERNAL_ERROR);
}

static valk_tls_result_t give_rest(valk__tls_traffic_t *traffic, uint8_t *plain, size_t plain_size,
                                   size_t *plain_length) {
  size_t part = traffic->rest_length < plain_size ? traffic->rest_length : plain_size;
  memcpy(plain, traffic->rest, part);
  traffic->rest += part;
  traffic->rest_length -= part;
  *plain_length = part;
  return VALK_TLS_OK;
}

valk_tls_result_t valk__tls_traffic_read(valk_tls_t *tls, uint8_t *plain, size_t plain_size,
                                         size_t *plain_length) {
  valk__tls_traffic_t *traffic = &tls->traffic;
  while (!traffic->closed) {
    if (traffic->rest_length > 0) {
      return give_rest(traffic, plain, plain_size, plain_length);
    }
    valk__tls_opened_t opened = {.type = 0};
    switch (valk__tls_open(&traffic->open, tls->input, plain, plain_size, &opened)) {
    case VALK__TLS_OPEN_MORE:
      return VALK_TLS_WANT_INPUT;
    case VALK__TLS_OPEN_MEMORY:
      return refuse(tls, SSL_AD_INTERNAL_ERROR);
    case VALK__TLS_OPEN_BAD:
      return refuse(tls, opened.alert);
    case VALK__TLS_OPEN_RECORD:
      break;
    }
    valk_tls_result_t result = VALK_TLS_OK;
    if (opened.type == SSL3_RT_HANDSHAKE) {
      result = on_message(tls, opened.data, opened.length);
      if (result == VALK_TLS_OK && traffic->message_length == 0) {
        return VALK_TLS_OK; /* so that the caller can count it before the next one costs */
      }
    } else if (traffic->message_length > 0) {
      return refuse(tls, SSL_AD_UNEXPECTED_MESSAGE); /* nothing comes inside one (section 5.1) */
    } else if (opened.type == SSL3_RT_ALERT) {
      result = on_alert(tls, opened.data, opened.length);
    } else if (opened.type != SSL3_RT_APPLICATION_DATA ||
               (opened.length == 0 && ++traffic->empty_records > EMPTY_RECORDS_MAX)) {
      return refuse(tls, SSL_AD_UNEXPECTED_MESSAGE);
    } else if (opened.length > 0) {
      traffic->empty_records = 0;
      if (opened.data == plain) {
        *plain_length = opened.length;
        return VALK_TLS_OK;
      }
      traffic->rest = opened.data;
      traffic->rest_length = opened.length;
    }
    if (result != VALK_TLS_OK) {
      return result;
    }
  }
  return VALK_TLS_CLOSED;
}

void valk__tls_traffic_end(valk__tls_traffic_t *traffic) {
  valk__tls_key_end(&traffic->seal);
  valk__tls_open_end(&traffic->open);
  OPENSSL_cleanse(traffic, sizeof *traffic);
}
