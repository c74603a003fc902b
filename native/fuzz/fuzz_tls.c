/* TLS as a machine, fed with what a client may send before and instead of a handshake. The first
 * two bytes say how large the pieces of input and the lent output are. */
#include <string.h>

#include "core/tls.h"
#include "fuzz.h"
#include "test/tls_peer.h"

static valk_tls_context_t *context;

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
  if (length < 2)
    return 0;
  if (context == NULL)
    context = peer_context(peer_ec_key());
  valk_tls_t *tls = NULL;
  valk_ledger_t *ledger = fuzz_ledger();
  valk_ledger_enter(ledger);
  FUZZ_ASSERT(valk_tls_new(context, &tls) == 0);
  size_t step = bytes[0] == 0 ? length : bytes[0];
  size_t room = bytes[1] == 0 ? VALK_TLS_RECORD_MAX : (size_t) bytes[1] * 16;
  bytes += 2;
  length -= 2;
  uint8_t *output = malloc(room);
  FUZZ_ASSERT(output != NULL);
  valk_tls_result_t result = VALK_TLS_WANT_INPUT;
  for (size_t at = 0; at < length && result == VALK_TLS_WANT_INPUT; at += step) {
    size_t part = length - at < step ? length - at : step;
    uint8_t *copy = malloc(part); /* so that a read past its end is seen */
    FUZZ_ASSERT(copy != NULL);
    memcpy(copy, bytes + at, part);
    valk_tls_input_t input = {copy, part, 0};
    int calls = 0;
    do {
      FUZZ_ASSERT(calls++ < 100000);
      valk_tls_output_t out = {output, room, 0};
      uint8_t plain[512];
      size_t plain_length = 0;
      result = valk_tls_read(tls, &input, &out, plain, sizeof(plain), &plain_length);
      FUZZ_ASSERT(input.used <= part && out.length <= room && plain_length <= sizeof(plain));
      fuzz_read(output, out.length);
      fuzz_read(plain, plain_length);
    } while (result == VALK_TLS_OK || result == VALK_TLS_WANT_OUTPUT);
    FUZZ_ASSERT(result != VALK_TLS_WANT_INPUT || input.used == part);
    free(copy);
  }
  if (result == VALK_TLS_FAILED)
    FUZZ_ASSERT(valk_tls_error(tls) != NULL);
  valk_tls_output_t out = {output, room, 0};
  if (result != VALK_TLS_FAILED)
    valk_tls_shutdown(tls, &out);
  valk_tls_free(tls);
  valk_ledger_enter(NULL);
  /* OpenSSL keeps tables of its own beyond a connection, which this ledger may have paid for. */
  valk_ledger_close(ledger);
  free(output);
  return 0;
}
