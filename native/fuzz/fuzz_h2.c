/* HTTP/2 as a machine, fed with what a client may send. The first byte says how the owner behaves:
 * what it refuses, answers, resets and consumes, and in which pieces the bytes come. */
#include <stdlib.h>
#include <string.h>

#include "core/h2.h"
#include "core/h2_internal.h"
#include "fuzz.h"

#define STREAMS 64

typedef struct {
  int32_t id;
  uint32_t left; /* bytes of the answer's body */
  bool trailers;
} stream_t;

typedef struct {
  valk_h2_t *h2;
  uint8_t mode;
  unsigned next;
  unsigned open;
} owner_t;

static void answer(owner_t *owner, stream_t *stream) {
  static const char fields[] = "content-type\ntext/plain\nx-a\n1\n";
  stream->left = owner->mode & 8 ? 100000 : 10;
  valk_h2_respond(owner->h2, stream->id, 200, fields, sizeof(fields) - 1, NULL, -1,
                  (owner->mode & 16) == 0);
}

static void *on_request(void *data, int32_t id, const valk_head_t *head, bool end, int problem) {
  owner_t *owner = data;
  unsigned lines = 0;
  for (uint32_t i = 0; i < head->length; i++)
    lines += head->text[i] == '\n';
  /* What valk_head_t promises its reader. */
  FUZZ_ASSERT(lines == 4 + 2 * head->field_count);
  FUZZ_ASSERT(problem == 0 || problem == 400 || problem == 431);
  if ((owner->mode & 1) != 0 && owner->next % 3 == 2) {
    owner->next++;
    return NULL;
  }
  stream_t *stream = calloc(1, sizeof(*stream));
  FUZZ_ASSERT(stream != NULL);
  stream->id = id;
  stream->trailers = (owner->mode & 32) != 0;
  owner->next++;
  owner->open++;
  if (end || (owner->mode & 2) != 0)
    answer(owner, stream);
  if ((owner->mode & 64) != 0 && owner->next % 4 == 3)
    valk_h2_reset(owner->h2, id, NGHTTP2_CANCEL);
  return stream;
}

static void on_data(void *data, void *pointer, const uint8_t *bytes, size_t length) {
  owner_t *owner = data;
  stream_t *stream = pointer;
  FUZZ_ASSERT(length > 0);
  fuzz_read(bytes, length);
  if ((owner->mode & 4) == 0) {
    valk_h2_consume_stream(owner->h2, stream->id, length);
    valk_h2_consume_connection(owner->h2, length);
  } else {
    valk_h2_open_window(owner->h2, stream->id, 1u << 17);
    valk_h2_consume_connection(owner->h2, length);
  }
}

static void on_end(void *data, void *pointer, valk_bytes_t trailers) {
  owner_t *owner = data;
  fuzz_read(trailers.data, trailers.length);
  if ((owner->mode & 2) == 0)
    answer(owner, pointer);
}

static void on_close(void *data, void *pointer, uint32_t code, bool by_peer) {
  owner_t *owner = data;
  (void) code;
  (void) by_peer;
  FUZZ_ASSERT(owner->open > 0);
  owner->open--;
  free(pointer);
}

static ssize_t on_read(void *data, void *pointer, uint8_t *out, size_t room, bool *end,
                       bool *trailers) {
  owner_t *owner = data;
  stream_t *stream = pointer;
  size_t length = stream->left < room ? stream->left : room;
  memset(out, 'a', length);
  stream->left -= (uint32_t) length;
  *end = stream->left == 0;
  if (*end && stream->trailers)
    *trailers = valk_h2_trailers(owner->h2, stream->id, "x-t\n1\n", 6) == 0;
  return (ssize_t) length;
}

static const valk_h2_events_t events = {on_request, on_data, on_end, on_close, on_read};

/* All that there is to send; false when the session has no memory left. */
static bool send_all(owner_t *owner) {
  uint8_t out[4096];
  size_t room = owner->mode & 128 ? 61 : sizeof(out);
  for (int i = 0; i < 10000; i++) {
    ssize_t length = valk_h2_send(owner->h2, out, room);
    FUZZ_ASSERT(length <= (ssize_t) room);
    if (length <= 0)
      return length == 0;
    fuzz_read(out, (size_t) length);
  }
  FUZZ_ASSERT(!"the session sends without end");
  return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
  if (length < 2)
    return 0;
  valk_h2_options_t options = {.max_concurrent_streams = 20,
                               .max_header_list_size = 4096,
                               .max_header_fields = 32,
                               .stream_window = 65536,
                               .connection_window = 1u << 20,
                               .reset_budget = 20,
                               .reset_refill = 10};
  owner_t owner = {.mode = bytes[0]};
  valk_ledger_t *ledger = fuzz_ledger();
  FUZZ_ASSERT(valk_h2_new(&options, &events, &owner, ledger, &owner.h2) == 0);
  size_t step = bytes[1] == 0 ? length : bytes[1];
  bytes += 2;
  length -= 2;
  /* Most inputs are meant to come past the preface. */
  static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";
  bool raw = length > 0 && bytes[0] == 'P';
  valk_h2_result_t result =
      raw ? VALK_H2_OK : valk_h2_receive(owner.h2, preface, sizeof(preface), 1000);
  uint64_t now = 1000;
  for (size_t at = 0; at < length && result == VALK_H2_OK; at += step) {
    size_t part = length - at < step ? length - at : step;
    uint8_t *copy = malloc(part); /* so that a read past its end is seen */
    FUZZ_ASSERT(copy != NULL);
    memcpy(copy, bytes + at, part);
    result = valk_h2_receive(owner.h2, copy, part, now++);
    free(copy);
    if (!send_all(&owner))
      break;
  }
  if ((owner.mode & 3) == 3) {
    valk_h2_goaway_notice(owner.h2);
    valk_h2_goaway(owner.h2, 0);
  }
  send_all(&owner);
  valk_h2_free(owner.h2);
  FUZZ_ASSERT(owner.open == 0);
  fuzz_ledger_free(ledger);
  return 0;
}
