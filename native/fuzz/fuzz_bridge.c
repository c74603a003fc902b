/* The record format from JavaScript to the engine: valk_bridge_flush over a buffer of any content.
 * Four requests are open; what is flushed may name them, or others. Bytes for two bodies are lent.
 */
#include "fuzz.h"
#include "test/fake_core.h"
#include "test/fake_javascript.h"

#define REQUESTS 4

static void on_js_wake(void *data) {
  (void) data;
}

static void on_release(void *released) {
  ++*(int *) released;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
  valk_system_t system;
  valk_server_t server = {.data = valk_bridge_server_data(1, false)};
  fake_js_t js;
  valk_request_t requests[REQUESTS];
  fake_claim_t claim;
  fake_system_init(&system, 8, 1);
  fake_js_init(&js, &system, 2048, on_js_wake, NULL);
  fake_peer_t *peer = fake_peer("192.0.2.1");
  for (int i = 0; i < REQUESTS; i++) {
    fake_request_init(&requests[i], &system, &server, peer, "GET\nhttps\nexample.com\n/\n");
    FUZZ_ASSERT(fake_offer(&requests[i]) == 0);
  }
  fake_turn(&system, 0);
  while (fake_js_claim(&js, &claim)) {
  }
  /* A status cannot be told from a length here, so the fake core's buffers bound both. */
  size_t most = FAKE_TEXT - 1 < length ? FAKE_TEXT - 1 : length;
  memcpy((uint8_t *) js.out + VALK_OUT_START, bytes, most);
  js.out[VALK_OUT_USED] = (int32_t) (VALK_OUT_START + most);
  int released[2] = {0};
  for (int i = 0; i < 2; i++)
    FUZZ_ASSERT(valk_bridge_lend(js.bridge, bytes, (uint32_t) most, on_release, &released[i]) == 0);
  int result = valk_bridge_flush(js.bridge);
  FUZZ_ASSERT(result == 0 || result == VALK_EINVAL);
  FUZZ_ASSERT(js.out[VALK_OUT_USED] == VALK_OUT_START);
  fake_wake(&system, 0);
  /* What JavaScript did not settle, the engine ends. */
  for (int i = 0; i < REQUESTS; i++) {
    if (requests[i].taken)
      fake_end(&requests[i]);
  }
  int32_t told[3 * REQUESTS];
  valk_bridge_events(js.bridge, told, REQUESTS);
  fake_js_deinit(&js);
  FUZZ_ASSERT(released[0] == 1 && released[1] == 1);
  for (int i = 0; i < REQUESTS; i++)
    fake_request_deinit(&requests[i]);
  valk_peer_unref(&peer->peer);
  return 0;
}
