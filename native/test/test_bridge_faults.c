/* Each allocation and each lock of the bridge fails, one at a time, on the whole way of a buffered
 * request, a streamed one and an answer in pieces. After each: a code, or the end of that one
 * request; nothing left; and the next request is answered. */
#include "binding/bridge.h"
#include "fake_core.h"
#include "fake_javascript.h"

static valk_system_t fake_system;
static valk_server_t server;
static fake_js_t js;
static fake_peer_t *peer;

static void wake(void *data) {
  (void) data;
}

static void flush(void) {
  ASSERT_OK(valk_bridge_flush(js.bridge));
  fake_wake(&fake_system, 0);
  fake_turn(&fake_system, 0);
}

static void drain_events(void) {
  int32_t events[8 * VALK_EVENT_WORDS];
  while (valk_bridge_events(js.bridge, events, 8) > 0) {
  }
}

static bool begin(valk_request_t *request, fake_claim_t *claim, bool streams) {
  server.data = valk_bridge_server_data(7, streams);
  fake_request_init(request, &fake_system, &server, peer, "POST\nhttps\nhost\n/\n");
  request->trailers = streams ? NULL : "t\nu\n";
  request->body_ended = !streams;
  int status = fake_offer(request);
  fake_turn(&fake_system, 0);
  if (status != 0) {
    ASSERT_EQ(status, VALK_ENOMEM);
    ASSERT_FALSE(fake_js_claim(&js, claim));
    return false;
  }
  ASSERT(fake_js_claim(&js, claim));
  return true;
}

/* The engine has ended the stream. JavaScript lets go. */
static void give_up(valk_request_t *request, const fake_claim_t *claim) {
  fake_abort(request, VALK_ABORT_LIMIT);
  fake_js_tell(&js, claim, VALK_OUT_SETTLE, 0);
  flush();
}

static void buffered(void) {
  valk_request_t request;
  fake_claim_t claim;
  if (begin(&request, &claim, false)) {
    fake_js_trailers(&js, &claim, "t\nu\n");
    fake_js_respond(&js, &claim, 200, "a\nb\n", "whole");
    flush();
    ASSERT_EQ(request.answers + request.resets, 1);
    ASSERT(request.resets == 0 || request.code == 2); /* INTERNAL_ERROR */
    ASSERT_EQ(request.ends, 1);
  }
  drain_events();
  fake_request_deinit(&request);
}

static void streamed(void) {
  valk_request_t request;
  fake_claim_t claim;
  if (begin(&request, &claim, true)) {
    bool taken = fake_body(&request, "abc", 3) == 0 && fake_body(&request, "def", 3) == 0;
    if (taken) {
      uint8_t bytes[6];
      ASSERT_OK(valk_bridge_read(js.bridge, claim.index, claim.generation, bytes, 6));
      ASSERT_MEM_EQ(bytes, "abcdef", 6);
      request.trailers = "t\nu\n"; /* may be lost, and then are not there at all */
      fake_system.consumer->on_body_end(fake_system.consumer->data, &request);
      size_t length;
      char *trailers = valk_bridge_take_trailers(js.bridge, claim.index, claim.generation, &length);
      ASSERT(trailers == NULL ? length == 0 : length == 4);
      free(trailers);
      ASSERT_EQ(valk_bridge_readable(js.bridge, claim.index, claim.generation), VALK_BRIDGE_ENDED);
      fake_js_out(&js, &claim, VALK_OUT_RESPOND, 0, 200, "a\nb\n", "12", 2, -1);
      fake_js_out(&js, &claim, VALK_OUT_WRITE, 0, 0, NULL, "34", 2, -1);
      flush();
      int64_t written =
          valk_bridge_write(js.bridge, claim.index, claim.generation, (const uint8_t *) "56", 2);
      ASSERT(written == 2 || written == VALK_ENOMEM || (written == VALK_ESTALE && request.resets));
      fake_js_out(&js, &claim, VALK_OUT_FINISH, 0, 0, "t\nu\n", NULL, 0, -1);
      flush();
      ASSERT_EQ(request.finishes + request.resets, 1);
      /* What looks whole is whole. */
      if (request.finishes == 1 && written == 2) {
        ASSERT_EQ(request.sent_length, 6);
        ASSERT_MEM_EQ(request.sent, "123456", 6);
        ASSERT_STR_EQ(request.sent_trailers, "t\nu\n");
      }
    } else {
      give_up(&request, &claim);
    }
    ASSERT_EQ(request.ends, 1);
  }
  drain_events();
  fake_request_deinit(&request);
}

static void is_well(void) {
  valk_request_t request;
  fake_claim_t claim;
  ASSERT(begin(&request, &claim, false));
  fake_js_respond(&js, &claim, 200, "", "ok");
  flush();
  ASSERT_EQ(request.answers, 1);
  ASSERT_EQ(request.sent_length, 2);
  drain_events();
  fake_request_deinit(&request);
}

/* True when the fault was met. */
static bool run(valk_fault_kind_t kind, uint64_t nth, bool sticky, unsigned *refused) {
  fake_system_init(&fake_system, 16, 2);
  peer = fake_peer("192.0.2.1");
  valk__fault_arm(kind, nth, sticky, 0);
  int status = fake_js_try(&js, &fake_system, 4096, wake, NULL);
  if (status != 0) {
    ASSERT_EQ(status, VALK_ENOMEM);
    ASSERT_NULL(fake_system.consumer);
    (*refused)++;
  } else {
    buffered();
    streamed();
  }
  bool met = valk__fault_count(kind) >= nth;
  valk__fault_arm(kind, 0, false, 0);
  if (status == 0) {
    is_well();
    ASSERT_EQ(valk_bridge_open(js.bridge), 0);
    fake_js_deinit(&js);
  }
  ASSERT_EQ(atomic_load(&fake_system.budget), 1 << 20);
  ASSERT_EQ(atomic_load(&peer->references), 1);
  free(peer);
  return met;
}

TEST(each_allocation_of_the_bridge_may_fail) {
  for (int sticky = 0; sticky < 2; sticky++) {
    unsigned refused = 0;
    uint64_t nth = 1;
    while (run(VALK_FAULT_MALLOC, nth, sticky, &refused)) {
      nth++;
    }
    printf("# %d points\n", (int) nth - 1);
    ASSERT_EQ(refused, 3); /* the bridge and its two tables */
    ASSERT_GE(nth, 12);
  }
}

TEST(each_lock_of_the_bridge_may_fail) {
  unsigned refused = 0;
  uint64_t nth = 1;
  while (run(VALK_FAULT_LOCK, nth, false, &refused)) {
    nth++;
  }
  ASSERT_EQ(refused, 5); /* three, and one for each thread */
}
