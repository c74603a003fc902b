/* TLS 1.3 after the handshake, with a peer that has the keys: data, key updates, alerts, messages
 * in parts and such as there are not, between what the server writes. The first two bytes say which
 * suite it is, and how large the pieces of input and a record's plaintext are; then come
 * instructions of four bytes. What the server sends has to be what a peer can read. */
#include <string.h>

#include "core/tls_internal.h"
#include "fuzz.h"
#include "test/tls_peer.h"

enum { KEY_RECORDS = 5, TEXT_MAX = 1 << 14 };

typedef struct {
  valk_tls_t *tls;
  size_t step;
  /* The peer: how it writes, and reads. */
  uint8_t write_secret[VALK__TLS_SECRET_MAX], read_secret[VALK__TLS_SECRET_MAX];
  valk__tls_key_t seal;
  valk__tls_open_t open;
  /* Of data, as a number that goes on: the next byte that each side writes, and is to read. */
  size_t sent, received, written, read;
  uint32_t updates; /* that the peer has sent whole */
  bool wild;        /* it has sent what it may not, or in parts */
  bool ended;
  bool alerted;
} fuzz_t;

static valk_tls_context_t *context;
static uint8_t text[TEXT_MAX], record[VALK_TLS_RECORD_MAX], output[VALK_TCP_BUFFER_SIZE];

static void fill(size_t from, size_t length) {
  for (size_t i = 0; i < length; i++)
    text[i] = (uint8_t) ((from + i) * 7 >> 2);
}

static void begin(fuzz_t *fuzz, uint8_t how, uint8_t step) {
  FUZZ_ASSERT(valk_tls_new(context, &fuzz->tls) == 0);
  valk_tls_t *tls = fuzz->tls;
  SSL_free(tls->ssl);
  tls->ssl = NULL;
  tls->bio = NULL;
  tls->handshaken = true;
  valk__tls_traffic_t *traffic = &tls->traffic;
  traffic->suite = &context->suites.suite[how % VALK__TLS_SUITES];
  traffic->fragment = how < 128 ? VALK_TLS_PLAIN_MAX : 512;
  memset(traffic->write_secret, 1, sizeof traffic->write_secret);
  memcpy(fuzz->read_secret, traffic->write_secret, sizeof fuzz->read_secret);
  FUZZ_ASSERT(valk__tls_key_set(&traffic->open.key, traffic->suite, traffic->read_secret, false) &&
              valk__tls_key_set(&traffic->seal, traffic->suite, traffic->write_secret, true) &&
              valk__tls_key_set(&fuzz->seal, traffic->suite, fuzz->write_secret, true) &&
              valk__tls_key_set(&fuzz->open.key, traffic->suite, fuzz->read_secret, false));
  fuzz->step = step == 0 ? sizeof record : step;
}

/* What the server has sent, as its peer takes it. */
static void take(fuzz_t *fuzz, size_t length) {
  static uint8_t plain[VALK_TLS_PLAIN_SPACE];
  const valk__tls_suite_t *suite = fuzz->tls->traffic.suite;
  valk_tls_input_t input = {output, length, 0};
  valk__tls_opened_t opened;
  valk__tls_open_result_t result;
  while ((result = valk__tls_open(&fuzz->open, &input, plain, sizeof plain, &opened)) ==
         VALK__TLS_OPEN_RECORD) {
    FUZZ_ASSERT(!fuzz->alerted && opened.length <= fuzz->tls->traffic.fragment);
    switch (opened.type) {
    case SSL3_RT_APPLICATION_DATA:
      fill(fuzz->read, opened.length);
      FUZZ_ASSERT(memcmp(opened.data, text, opened.length) == 0);
      fuzz->read += opened.length;
      break;
    case SSL3_RT_HANDSHAKE:
      FUZZ_ASSERT(opened.length == 5 && memcmp(opened.data, "\x18\0\0\1\0", 5) == 0);
      FUZZ_ASSERT(valk__tls_secret_next(suite, fuzz->read_secret) &&
                  valk__tls_key_set(&fuzz->open.key, suite, fuzz->read_secret, false));
      break;
    default:
      FUZZ_ASSERT(opened.type == SSL3_RT_ALERT && opened.length == 2);
      FUZZ_ASSERT((opened.data[0] == SSL3_AL_WARNING) == (opened.data[1] == SSL_AD_CLOSE_NOTIFY));
      fuzz->alerted = true; /* nothing goes behind either */
    }
  }
  FUZZ_ASSERT(result == VALK__TLS_OPEN_MORE && fuzz->open.header_length == 0);
}

/* The server gets a record, piece by piece. */
static void feed(fuzz_t *fuzz, size_t length) {
  for (size_t at = 0; at < length && !fuzz->ended; at += fuzz->step) {
    size_t part = length - at < fuzz->step ? length - at : fuzz->step;
    uint8_t *copy = malloc(part); /* so that a read past its end is seen */
    FUZZ_ASSERT(copy != NULL);
    memcpy(copy, record + at, part);
    valk_tls_input_t input = {copy, part, 0};
    valk_tls_result_t result;
    do {
      static uint8_t plain[1000];
      valk_tls_output_t out = {output, sizeof output, 0};
      size_t plain_length = 0;
      result = valk_tls_read(fuzz->tls, &input, &out, plain, sizeof plain, &plain_length);
      fill(fuzz->received, plain_length);
      FUZZ_ASSERT(fuzz->wild || plain_length == 0 || memcmp(plain, text, plain_length) == 0);
      fuzz->received += plain_length;
      take(fuzz, out.length);
    } while (result == VALK_TLS_OK);
    FUZZ_ASSERT(result != VALK_TLS_WANT_OUTPUT);
    FUZZ_ASSERT(result != VALK_TLS_WANT_INPUT || input.used == part);
    FUZZ_ASSERT(result != VALK_TLS_FAILED || valk_tls_error(fuzz->tls) != NULL);
    fuzz->ended = result != VALK_TLS_WANT_INPUT;
    free(copy);
  }
}

static size_t seal(fuzz_t *fuzz, uint8_t type, const uint8_t *bytes, size_t length) {
  FUZZ_ASSERT(valk__tls_seal(&fuzz->seal, type, bytes, length, record));
  return length + VALK__TLS_SEAL_OVERHEAD;
}

static void update_key(fuzz_t *fuzz, uint8_t request) {
  const valk__tls_suite_t *suite = fuzz->tls->traffic.suite;
  const uint8_t message[] = {SSL3_MT_KEY_UPDATE, 0, 0, 1, request};
  size_t length = seal(fuzz, SSL3_RT_HANDSHAKE, message, sizeof message);
  FUZZ_ASSERT(valk__tls_secret_next(suite, fuzz->write_secret) &&
              valk__tls_key_set(&fuzz->seal, suite, fuzz->write_secret, true));
  fuzz->updates++;
  feed(fuzz, length);
}

static void write_data(fuzz_t *fuzz, size_t length) {
  fill(fuzz->written, length);
  valk_tls_output_t out = {output, sizeof output, 0};
  valk_tls_result_t result = valk_tls_write(fuzz->tls, text, length, &out);
  FUZZ_ASSERT(result == VALK_TLS_OK || result == VALK_TLS_FAILED);
  if (result == VALK_TLS_OK)
    fuzz->written += length;
  else
    fuzz->ended = true;
  take(fuzz, out.length);
  FUZZ_ASSERT(fuzz->read == fuzz->written);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
  if (length < 2)
    return 0;
  if (context == NULL) {
    context = peer_context(peer_ec_key());
    context->key_records = KEY_RECORDS;
  }
  fuzz_t fuzz = {.tls = NULL};
  valk_ledger_t *ledger = fuzz_ledger();
  valk_ledger_enter(ledger);
  begin(&fuzz, bytes[0], bytes[1]);
  for (size_t at = 2; at + 4 <= length && !fuzz.ended; at += 4) {
    const uint8_t *order = bytes + at;
    size_t size = ((size_t) order[2] << 8 | order[3]) % TEXT_MAX;
    size_t end;
    switch (order[0] % 6) {
    case 0:
      fill(fuzz.sent, size);
      end = seal(&fuzz, SSL3_RT_APPLICATION_DATA, text, size);
      fuzz.sent += size;
      fuzz.wild |= size == 0;
      feed(&fuzz, end);
      FUZZ_ASSERT(fuzz.wild || (!fuzz.ended && fuzz.received == fuzz.sent));
      break;
    case 1:
      update_key(&fuzz, order[1] & 1);
      FUZZ_ASSERT(fuzz.wild || (!fuzz.ended && valk_tls_rekeys(fuzz.tls) == fuzz.updates));
      break;
    case 2: /* a few bytes of any type that there is */
      fuzz.wild = true;
      feed(&fuzz, seal(&fuzz, 20 + order[1] % 5, order + 2, order[0] / 6 % 3));
      break;
    case 3: /* the beginning of a key update, or what is left of it */
      fuzz.wild = true;
      end = order[1] % 6;
      feed(&fuzz, seal(&fuzz, SSL3_RT_HANDSHAKE, (const uint8_t *) "\x18\0\0\1\1" + (5 - end) % 5,
                       order[2] % (end + 1)));
      break;
    case 4:
      write_data(&fuzz, size + 1);
      break;
    default: /* the end, or a bit that is turned on its way */
      if (order[1] == 0) {
        valk_tls_output_t out = {output, sizeof output, 0};
        FUZZ_ASSERT(valk_tls_shutdown(fuzz.tls, &out) == VALK_TLS_OK);
        take(&fuzz, out.length);
        break;
      }
      fuzz.wild = true;
      end = seal(&fuzz, SSL3_RT_APPLICATION_DATA, order, 4);
      record[5 + size % (end - 5)] ^= order[1];
      feed(&fuzz, end);
      FUZZ_ASSERT(fuzz.ended);
    }
  }
  FUZZ_ASSERT(valk_tls_rekeys(fuzz.tls) >= fuzz.updates || fuzz.wild);
  valk__tls_key_end(&fuzz.seal);
  valk__tls_open_end(&fuzz.open);
  valk_tls_free(fuzz.tls);
  valk_ledger_enter(NULL);
  /* OpenSSL keeps tables of its own beyond a connection, which this ledger may have paid for. */
  valk_ledger_close(ledger);
  return 0;
}
