/* The checks of :authority and :path in h2_head.c, against a second reading of their rules. */
#include <string.h>

#include "core/h2_internal.h"
#include "fuzz.h"

static void check_authority(const char *text, size_t length) {
  if (!valk__h2_authority_valid(text, length))
    return;
  FUZZ_ASSERT(length > 0 && text[0] != ':');
  size_t at = 0;
  if (text[0] == '[') {
    const char *close = memchr(text, ']', length);
    FUZZ_ASSERT(close != NULL);
    at = (size_t) (close - text) + 1;
  } else {
    while (at < length && text[at] != ':') {
      FUZZ_ASSERT((uint8_t) text[at] > ' ' && text[at] != 0x7f &&
                  strchr("#/<>?@[\\]^|", text[at]) == NULL);
      at++;
    }
  }
  FUZZ_ASSERT(at == length || text[at] == ':');
  unsigned long port = 0;
  for (at++; at < length; at++) {
    FUZZ_ASSERT(text[at] >= '0' && text[at] <= '9');
    port = port * 10 + (unsigned long) (text[at] - '0');
    FUZZ_ASSERT(port <= 65535);
  }
}

static void check_path(const char *text, size_t length, bool options) {
  if (!valk__h2_path_valid(text, length, options))
    return;
  FUZZ_ASSERT(length > 0 && (text[0] == '/' || (options && length == 1 && text[0] == '*')));
  for (size_t i = 0; i < length; i++)
    FUZZ_ASSERT((uint8_t) text[i] > ' ' && text[i] != 0x7f && text[i] != '#');
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
  char *copy = malloc(length + (length == 0)); /* so that a read past its end is seen */
  FUZZ_ASSERT(copy != NULL);
  if (length > 0)
    memcpy(copy, bytes, length);
  check_authority(copy, length);
  check_path(copy, length, false);
  check_path(copy, length, true);
  free(copy);
  return 0;
}
