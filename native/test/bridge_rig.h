/* A bridge with a core and a JavaScript that are fakes: the test is both in turn, on one thread. */
#ifndef VALK_TEST_BRIDGE_RIG_H
#define VALK_TEST_BRIDGE_RIG_H

#include "binding/bridge.h"
#include "fake_core.h"
#include "fake_javascript.h"

static valk_system_t fake_system;
static valk_server_t server;
static fake_js_t js;
static fake_peer_t *peer;
static int wakes;

static inline void wake(void *data) {
  (void) data;
  wakes++;
}

static inline void begin_sized(uint32_t queue_capacity, uint32_t text_size) {
  fake_system_init(&fake_system, queue_capacity, 1);
  server.data = valk_bridge_server_data(7, false);
  fake_js_init(&js, &fake_system, text_size, wake, NULL);
  peer = fake_peer("192.0.2.1");
  wakes = 0;
}

static inline void begin(void) {
  begin_sized(16, 4096);
}

static inline void end(void) {
  ASSERT_EQ(valk_bridge_open(js.bridge), 0);
  fake_js_deinit(&js);
  ASSERT_EQ(atomic_load(&fake_system.budget), 1 << 20);
  ASSERT_EQ(atomic_load(&peer->references), 1);
  free(peer);
}

static inline void make(valk_request_t *request, const char *text) {
  fake_request_init(request, &fake_system, &server, peer, text);
}

/* A request that JavaScript has claimed. */
static inline void make_claimed(valk_request_t *request, fake_claim_t *claim, const char *text) {
  make(request, text);
  ASSERT_OK(fake_offer(request));
  fake_turn(&fake_system, 0);
  ASSERT(fake_js_claim(&js, claim));
}

static inline void flush(void) {
  ASSERT_OK(valk_bridge_flush(js.bridge));
  fake_wake(&fake_system, 0);
  fake_turn(&fake_system, 0);
}

/* Takes the one event there is; its bits. */
static inline int32_t take_event(const fake_claim_t *claim) {
  int32_t events[2 * VALK_EVENT_WORDS];
  ASSERT_EQ(valk_bridge_events(js.bridge, events, 2), 1);
  ASSERT_EQ((uint32_t) events[0], claim->index);
  ASSERT_EQ((uint32_t) events[1], claim->generation);
  return events[2];
}

static inline void no_event(void) {
  int32_t events[VALK_EVENT_WORDS];
  ASSERT_EQ(valk_bridge_events(js.bridge, events, 1), 0);
}

#endif
