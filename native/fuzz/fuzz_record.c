/* Records of TLS 1.3 as they come in, after the handshake: sealed as their peer would seal them,
 * and spoilt. The first two bytes say how large the pieces of input are and how much plaintext is
 * asked for; then come instructions: whole records, records with a bit turned, and bytes that are
 * none. */
#include <string.h>

#include "core/tls_seal.h"
#include "fuzz.h"
#include "test/tls_peer.h"

enum { STREAM_MAX = 1 << 16, RECORDS_MAX = 512 };

typedef struct {
  uint8_t type;
  size_t at, length; /* in |plain| */
} expected_t;

static uint8_t stream[STREAM_MAX], plain[STREAM_MAX];
static expected_t expected[RECORDS_MAX];

/* Writes what the instructions say to |stream|: how long it is, and of how many records nothing was
 * spoilt before them. */
static size_t write_stream(valk__tls_key_t *key, const uint8_t *bytes, size_t length,
                           size_t *whole) {
  size_t end = 0, used = 0;
  bool spoilt = false;
  *whole = 0;
  for (size_t at = 0; at + 4 <= length && *whole < RECORDS_MAX; at += 4) {
    const uint8_t *order = bytes + at;
    size_t size = (size_t) order[2] << 8 | order[3];
    size_t content = size % (VALK_TLS_PLAIN_MAX + 1);
    if (end + content + VALK__TLS_SEAL_OVERHEAD > STREAM_MAX || used + content > STREAM_MAX)
      break;
    if (order[0] % 4 == 3) {
      memcpy(stream + end, order, 4);
      end += 4;
      spoilt = true;
      continue;
    }
    /* What is not the last byte of a record's plaintext is padding, where it is 0. */
    uint8_t *text = plain + used;
    memset(text, order[1], content);
    bool padded = order[0] % 4 == 1 && content > 0;
    if (padded)
      memset(text + content / 2, 0, content - content / 2);
    uint8_t type = padded ? 0 : order[1];
    FUZZ_ASSERT(valk__tls_seal(key, type, text, content, stream + end));
    if (order[0] % 4 == 2) {
      stream[end + size % (content + VALK__TLS_SEAL_OVERHEAD)] ^= (uint8_t) (order[1] | 1);
      spoilt = true;
    }
    size_t kept = content;
    for (; type == 0 && kept > 0; kept--)
      type = text[kept - 1];
    spoilt = spoilt || type == 0;
    if (!spoilt)
      expected[(*whole)++] = (expected_t){type, used, kept};
    used += content;
    end += content + VALK__TLS_SEAL_OVERHEAD;
  }
  return end;
}

static valk__tls_suites_t suites;

static valk__tls_key_t make_key(bool writing) {
  static const uint8_t secret[VALK__TLS_SECRET_MAX];
  valk__tls_key_t key = {.context = NULL};
  FUZZ_ASSERT(valk__tls_key_set(&key, &suites.suite[0], secret, writing));
  return key;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
  if (length < 2)
    return 0;
  if (suites.suite[0].cipher == NULL)
    FUZZ_ASSERT(valk_tls_init() == 0 && valk__tls_suites_init(&suites));
  size_t whole = 0;
  valk__tls_key_t key = make_key(true);
  size_t end = write_stream(&key, bytes + 2, length - 2, &whole);
  valk__tls_key_end(&key);
  size_t step = bytes[0] == 0 ? end + 1 : bytes[0] < 128 ? bytes[0] : (size_t) bytes[0] * 64;
  size_t room = bytes[1] == 0 ? VALK_TLS_PLAIN_MAX : bytes[1];

  valk_ledger_t *ledger = fuzz_ledger();
  valk_ledger_enter(ledger);
  valk__tls_open_t open = {.key = make_key(false)};
  uint8_t *out = malloc(room);
  FUZZ_ASSERT(out != NULL);
  size_t seen = 0;
  valk__tls_open_result_t result = VALK__TLS_OPEN_MORE;
  for (size_t at = 0; at < end && result != VALK__TLS_OPEN_BAD; at += step) {
    size_t part = end - at < step ? end - at : step;
    uint8_t *copy = malloc(part); /* so that a read past its end is seen */
    FUZZ_ASSERT(copy != NULL);
    memcpy(copy, stream + at, part);
    valk_tls_input_t input = {copy, part, 0};
    valk__tls_opened_t opened;
    while ((result = valk__tls_open(&open, &input, out, room, &opened)) == VALK__TLS_OPEN_RECORD) {
      FUZZ_ASSERT(seen < whole);
      const expected_t *one = &expected[seen++];
      FUZZ_ASSERT(opened.type == one->type && opened.length == one->length);
      FUZZ_ASSERT(memcmp(opened.data, plain + one->at, one->length) == 0);
    }
    FUZZ_ASSERT(result != VALK__TLS_OPEN_MEMORY && input.used <= part);
    FUZZ_ASSERT(result == VALK__TLS_OPEN_BAD || input.used == part);
    free(copy);
  }
  FUZZ_ASSERT(result == VALK__TLS_OPEN_BAD || seen == whole);
  free(out);
  valk__tls_open_end(&open);
  valk_ledger_enter(NULL);
  fuzz_ledger_free(ledger);
  return 0;
}
