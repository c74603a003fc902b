/*
 * JavaScript's side of the bridge in C: the rings' memory, the claim, the buffer of answers. What
 * lib/server-dispatch.ts and lib/exchange-engine.ts do with Atomics and typed arrays this does with
 * atomics and pointers.
 */
#ifndef VALK_TEST_FAKE_JAVASCRIPT_H
#define VALK_TEST_FAKE_JAVASCRIPT_H

#include <stdlib.h>
#include <string.h>

#include "binding/bridge.h"
#include "test.h"

typedef struct {
  valk_bridge_t *bridge;
  int32_t *control;
  int32_t *records;
  uint32_t record_count;
  uint8_t *text;
  int32_t *out;
  uint32_t out_size;
} fake_js_t;

/* A request as JavaScript sees it once it has claimed it. */
typedef struct {
  uint32_t index, generation;
  int32_t flags, server, slot, peer;
  size_t body_length;
  char head[512];
  char remote_address[46];
  uint8_t certificate[64]; /* its beginning */
  size_t certificate_length;
} fake_claim_t;

static inline void fake_js_free(fake_js_t *js) {
  free(js->control);
  free(js->records);
  free(js->text);
  free(js->out);
}

/* The bridge's own status; unless it is 0, nothing is left. */
static inline int fake_js_try(fake_js_t *js, valk_system_t *system, uint32_t text_size,
                              void (*wake)(void *data), void *data) {
  uint32_t capacity = valk_system_config(system)->queue_capacity;
  uint32_t count = 1;
  while (count < capacity) {
    count *= 2;
  }
  js->control = calloc(VALK_BRIDGE_CONTROL_WORDS, sizeof(int32_t));
  js->records = calloc((size_t) count * VALK_RECORD_WORDS, sizeof(int32_t));
  js->record_count = count;
  js->text = calloc(text_size, 1);
  js->out_size = 64 << 10;
  js->out = calloc(js->out_size, 1);
  js->out[VALK_OUT_USED] = VALK_OUT_START;
  valk_bridge_options_t options = {
      js->control, js->records,         count,        capacity, js->text,
      text_size,   (uint8_t *) js->out, js->out_size, wake,     data};
  int status = valk_bridge_new(system, &options, &js->bridge);
  if (status != 0) {
    fake_js_free(js);
  }
  return status;
}

static inline void fake_js_init(fake_js_t *js, valk_system_t *system, uint32_t text_size,
                                void (*wake)(void *data), void *data) {
  ASSERT_OK(fake_js_try(js, system, text_size, wake, data));
}

static inline void fake_js_deinit(fake_js_t *js) {
  valk_bridge_free(js->bridge);
  fake_js_free(js);
}

static inline int32_t fake_js_word(const fake_js_t *js, int word) {
  return __atomic_load_n(&js->control[word], __ATOMIC_SEQ_CST);
}

/* Moves on past the record at READ. */
static inline void fake_js_pass(fake_js_t *js) {
  uint32_t read = (uint32_t) fake_js_word(js, VALK_BRIDGE_READ) + 1;
  __atomic_store_n(&js->control[VALK_BRIDGE_READ], (int32_t) read, __ATOMIC_SEQ_CST);
  if (fake_js_word(js, VALK_BRIDGE_BLOCKED) != 0 &&
      (int32_t) (read - (uint32_t) fake_js_word(js, VALK_BRIDGE_UNBLOCK_AT)) >= 0) {
    valk_bridge_unblock(js->bridge);
  }
}

/* Claims the next request that was not dropped, and stands at its record until fake_js_pass. False:
 * there is none. */
static inline bool fake_js_stand(fake_js_t *js, fake_claim_t *claim) {
  for (;;) {
    uint32_t read = (uint32_t) fake_js_word(js, VALK_BRIDGE_READ);
    if (read == (uint32_t) fake_js_word(js, VALK_BRIDGE_WRITE)) {
      return false;
    }
    int32_t *record = js->records + (size_t) (read & (js->record_count - 1)) * VALK_RECORD_WORDS;
    int32_t queued = VALK_RECORD_QUEUED;
    if (__atomic_compare_exchange_n(&record[VALK_RECORD_STATE], &queued, VALK_RECORD_CLAIMED, false,
                                    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
      size_t length = (size_t) record[VALK_RECORD_TEXT_LENGTH];
      ASSERT_LT(length, sizeof(claim->head));
      const uint8_t *text = js->text + record[VALK_RECORD_TEXT];
      ASSERT_EQ(record[VALK_RECORD_TEXT] % 4, 0);
      for (size_t i = length; i % 4 != 0; i++)
        ASSERT_EQ(text[i], 0);
      memcpy(claim->head, text, length);
      claim->head[length] = '\0';
      claim->index = (uint32_t) record[VALK_RECORD_INDEX];
      claim->generation = (uint32_t) record[VALK_RECORD_GENERATION];
      claim->flags = record[VALK_RECORD_FLAGS];
      claim->server = record[VALK_RECORD_SERVER];
      claim->slot = record[VALK_RECORD_SLOT];
      claim->peer = record[VALK_RECORD_PEER];
      claim->body_length = (size_t) record[VALK_RECORD_BODY_LENGTH];
      return true;
    }
    fake_js_pass(js);
  }
}

/* Copies what is known of the peer; JavaScript asks once a connection, this always. */
static inline void fake_js_peer(fake_js_t *js, fake_claim_t *claim) {
  const valk_peer_t *peer = valk_bridge_peer(js->bridge, claim->index, claim->generation);
  ASSERT_NOT_NULL(peer);
  ASSERT_EQ((int32_t) peer->serial, claim->peer);
  memcpy(claim->remote_address, peer->remote_address, sizeof(claim->remote_address));
  size_t length = peer->certificate_length;
  claim->certificate_length = length;
  if (length > sizeof(claim->certificate)) {
    length = sizeof(claim->certificate);
  }
  if (length > 0) {
    memcpy(claim->certificate, peer->certificate, length);
  }
}

/* Takes the trailers, which must be |text|. */
static inline void fake_js_trailers(fake_js_t *js, const fake_claim_t *claim, const char *text) {
  size_t length;
  char *trailers = valk_bridge_take_trailers(js->bridge, claim->index, claim->generation, &length);
  ASSERT_EQ(length, strlen(text));
  if (length > 0) {
    ASSERT_MEM_EQ(trailers, text, length);
  } else {
    ASSERT_NULL(trailers);
  }
  free(trailers);
}

/* Claims the next request that was not dropped. False: there is none. */
static inline bool fake_js_claim(fake_js_t *js, fake_claim_t *claim) {
  if (!fake_js_stand(js, claim)) {
    return false;
  }
  fake_js_peer(js, claim);
  fake_js_pass(js);
  return true;
}

/* Appends a record to the buffer of answers. */
static inline void fake_js_out(fake_js_t *js, const fake_claim_t *claim, unsigned kind,
                               unsigned flags, unsigned status, const char *head, const void *body,
                               size_t body_length, int64_t content_length) {
  size_t head_length = head == NULL ? 0 : strlen(head);
  size_t size = VALK_OUT_WORDS * sizeof(int32_t) + ((head_length + body_length + 3) & ~(size_t) 3);
  if ((size_t) js->out[VALK_OUT_USED] + size > js->out_size) {
    ASSERT_OK(valk_bridge_flush(js->bridge));
  }
  int32_t *record = js->out + js->out[VALK_OUT_USED] / 4;
  record[VALK_OUT_KIND] = (int32_t) (kind | flags << 8 | status << 16);
  record[VALK_OUT_INDEX] = (int32_t) claim->index;
  record[VALK_OUT_GENERATION] = (int32_t) claim->generation;
  record[VALK_OUT_HEAD_LENGTH] = kind == VALK_OUT_RESET ? (int32_t) status : (int32_t) head_length;
  record[VALK_OUT_BODY_LENGTH] = (int32_t) body_length;
  record[VALK_OUT_LENGTH_LOW] = (int32_t) (uint32_t) (uint64_t) content_length;
  record[VALK_OUT_LENGTH_HIGH] = (int32_t) (uint32_t) ((uint64_t) content_length >> 32);
  uint8_t *bytes = (uint8_t *) (record + VALK_OUT_WORDS);
  if (head_length > 0) {
    memcpy(bytes, head, head_length);
  }
  if (body_length > 0) {
    memcpy(bytes + head_length, body, body_length);
  }
  js->out[VALK_OUT_USED] += (int32_t) size;
}

/* A whole answer. */
static inline void fake_js_respond(fake_js_t *js, const fake_claim_t *claim, unsigned status,
                                   const char *fields, const char *body) {
  fake_js_out(js, claim, VALK_OUT_RESPOND, VALK_ANSWER_END, status, fields, body, strlen(body),
              (int64_t) strlen(body));
}

/* A record without text; |code| for RESET. */
static inline void fake_js_tell(fake_js_t *js, const fake_claim_t *claim, unsigned kind,
                                unsigned code) {
  fake_js_out(js, claim, kind, 0, code, NULL, NULL, 0, -1);
}

#endif
