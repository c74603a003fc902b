/* The bridge, step by step: bodies that come and answers that go piece by piece. */
#include "bridge_rig.h"
#include "core/fault.h"

static void begin_stream(valk_request_t *request, fake_claim_t *claim, bool ended) {
  server.data = valk_bridge_server_data(7, true);
  make(request, "POST\nhttps\nhost\n/\n");
  request->body_ended = ended;
  ASSERT_OK(fake_offer(request));
  fake_turn(&fake_system, 0);
  ASSERT(fake_js_claim(&js, claim));
}

TEST(a_streamed_body_comes_by_events_and_opens_the_window_as_it_is_read) {
  begin();
  valk_request_t request;
  fake_claim_t claim;
  begin_stream(&request, &claim, false);
  ASSERT_EQ(claim.flags, VALK_REQUEST_HAS_BODY | VALK_REQUEST_STREAMS);
  ASSERT_EQ(valk_bridge_readable(js.bridge, claim.index, claim.generation), 0);
  ASSERT_OK(fake_body(&request, "abcdef", 6));
  ASSERT_OK(fake_body(&request, "ghi", 3));
  ASSERT_EQ(take_event(&claim), VALK_EVENT_BODY);
  ASSERT_EQ(valk_bridge_readable(js.bridge, claim.index, claim.generation), 9);
  uint8_t bytes[9];
  ASSERT_OK(valk_bridge_read(js.bridge, claim.index, claim.generation, bytes, 7));
  ASSERT_MEM_EQ(bytes, "abcdefg", 7);
  flush();
  ASSERT_EQ(request.consumed, 7);
  request.trailers = "t\nu\n";
  fake_system.consumer->on_body_end(fake_system.consumer->data, &request);
  ASSERT_EQ(take_event(&claim), VALK_EVENT_BODY | VALK_EVENT_TRAILERS);
  ASSERT_EQ(valk_bridge_readable(js.bridge, claim.index, claim.generation), 2);
  ASSERT_OK(valk_bridge_read(js.bridge, claim.index, claim.generation, bytes, 2));
  ASSERT_MEM_EQ(bytes, "hi", 2);
  ASSERT_EQ(valk_bridge_readable(js.bridge, claim.index, claim.generation), VALK_BRIDGE_ENDED);
  fake_js_trailers(&js, &claim, "t\nu\n");
  fake_js_respond(&js, &claim, 200, "", "");
  flush();
  ASSERT_EQ(request.consumed, 9);
  fake_request_deinit(&request);
  end();
}

TEST(a_large_body_is_taken_in_pieces) {
  begin();
  valk_request_t request;
  fake_claim_t claim;
  begin_stream(&request, &claim, false);
  static char body[VALK_READ_MAX + 1000];
  static uint8_t bytes[sizeof(body)];
  for (size_t i = 0; i < sizeof(body); i++)
    body[i] = (char) (i * 7);
  ASSERT_OK(fake_body(&request, body, 40000));
  ASSERT_OK(fake_body(&request, body + 40000, sizeof(body) - 40000));
  ASSERT_EQ(take_event(&claim), VALK_EVENT_BODY);
  ASSERT_EQ(valk_bridge_readable(js.bridge, claim.index, claim.generation), VALK_READ_MAX);
  ASSERT_OK(valk_bridge_read(js.bridge, claim.index, claim.generation, bytes, VALK_READ_MAX));
  ASSERT_EQ(valk_bridge_readable(js.bridge, claim.index, claim.generation), 1000);
  ASSERT_OK(
      valk_bridge_read(js.bridge, claim.index, claim.generation, bytes + VALK_READ_MAX, 1000));
  ASSERT_MEM_EQ(bytes, body, sizeof(body));
  fake_js_respond(&js, &claim, 200, "", "");
  flush();
  ASSERT_EQ(request.consumed, sizeof(body));
  fake_request_deinit(&request);
  end();
}

#define CRUMBS 10000u

TEST(frames_of_few_bytes_share_memory) {
  begin();
  valk_request_t request;
  fake_claim_t claim;
  begin_stream(&request, &claim, false);
  request.body_room = CRUMBS;
  valk__fault_arm(VALK_FAULT_MALLOC, 0, false, 0);
  static char body[CRUMBS];
  static uint8_t bytes[CRUMBS];
  for (size_t i = 0; i < CRUMBS; i++) {
    body[i] = (char) (i * 7);
    ASSERT_OK(fake_body(&request, &body[i], 1));
  }
  ASSERT_LE(valk__fault_count(VALK_FAULT_MALLOC), CRUMBS / 4096 + 1);
  ASSERT_OK(valk_bridge_read(js.bridge, claim.index, claim.generation, bytes, 5000));
  /* What was read in part is added to all the same, and what was read is not. */
  ASSERT_OK(fake_body(&request, "a", 1));
  ASSERT_OK(valk_bridge_read(js.bridge, claim.index, claim.generation, bytes + 5000, 5000));
  ASSERT_MEM_EQ(bytes, body, CRUMBS);
  ASSERT_OK(valk_bridge_read(js.bridge, claim.index, claim.generation, bytes, 1));
  ASSERT_EQ(bytes[0], 'a');
  ASSERT_OK(fake_body(&request, "b", 1));
  ASSERT_OK(valk_bridge_read(js.bridge, claim.index, claim.generation, bytes, 1));
  ASSERT_EQ(bytes[0], 'b');
  ASSERT_EQ(take_event(&claim), VALK_EVENT_BODY);
  fake_js_respond(&js, &claim, 200, "", "");
  flush();
  ASSERT_EQ(request.consumed, CRUMBS + 2);
  fake_request_deinit(&request);
  end();
}

TEST(no_more_memory_is_taken_than_may_come) {
  begin();
  valk_request_t request;
  fake_claim_t claim;
  begin_stream(&request, &claim, false);
  valk__fault_arm(VALK_FAULT_MALLOC, 0, false, 0);
  request.body_room = 5;
  ASSERT_OK(fake_body(&request, "abc", 3));
  ASSERT_OK(fake_body(&request, "defgh", 5));
  ASSERT_EQ(valk__fault_count(VALK_FAULT_MALLOC), 1);
  valk__fault_arm(VALK_FAULT_MALLOC, 1, false, 0);
  ASSERT_EQ(fake_body(&request, "i", 1), VALK_ENOMEM);
  valk__fault_arm(VALK_FAULT_MALLOC, 0, false, 0);
  request.body_room = 0;
  ASSERT_OK(fake_body(&request, "ijk", 3));
  uint8_t bytes[11];
  ASSERT_EQ(valk_bridge_readable(js.bridge, claim.index, claim.generation), 11);
  ASSERT_OK(valk_bridge_read(js.bridge, claim.index, claim.generation, bytes, 11));
  ASSERT_MEM_EQ(bytes, "abcdefghijk", 11);
  ASSERT_EQ(take_event(&claim), VALK_EVENT_BODY);
  fake_js_respond(&js, &claim, 200, "", "");
  flush();
  fake_request_deinit(&request);
  end();
}

TEST(a_streamed_request_without_a_body_has_none) {
  begin();
  valk_request_t request;
  fake_claim_t claim;
  begin_stream(&request, &claim, true);
  ASSERT_EQ(claim.flags, VALK_REQUEST_STREAMS);
  ASSERT_EQ(valk_bridge_readable(js.bridge, claim.index, claim.generation), VALK_BRIDGE_ENDED);
  fake_js_respond(&js, &claim, 200, "", "");
  flush();
  fake_request_deinit(&request);
  end();
}

TEST(a_body_that_came_before_the_claim_is_not_lost) {
  begin();
  valk_request_t request;
  server.data = valk_bridge_server_data(7, true);
  make(&request, "POST\nhttps\nhost\n/\n");
  request.body =
      (uint8_t
           *) (uintptr_t) "xyz"; /* as the core has it: whole, and given by on_body all the same */
  request.body_length = 3;
  ASSERT_OK(fake_offer(&request));
  fake_turn(&fake_system, 0); /* another engine thread may publish the record already here */
  fake_claim_t claim;
  ASSERT(fake_js_claim(&js, &claim));
  ASSERT_EQ(claim.flags, VALK_REQUEST_HAS_BODY | VALK_REQUEST_STREAMS);
  ASSERT_EQ(valk_bridge_readable(js.bridge, claim.index, claim.generation), 0);
  ASSERT_OK(fake_body(&request, "xyz", 3));
  fake_system.consumer->on_body_end(fake_system.consumer->data, &request);
  ASSERT_EQ(take_event(&claim), VALK_EVENT_BODY);
  uint8_t bytes[3];
  ASSERT_OK(valk_bridge_read(js.bridge, claim.index, claim.generation, bytes, 3));
  ASSERT_MEM_EQ(bytes, "xyz", 3);
  ASSERT_EQ(valk_bridge_readable(js.bridge, claim.index, claim.generation), VALK_BRIDGE_ENDED);
  fake_js_respond(&js, &claim, 200, "", "");
  flush();
  fake_request_deinit(&request);
  end();
}

TEST(an_abort_frees_what_was_not_read) {
  begin();
  valk_request_t request;
  fake_claim_t claim;
  begin_stream(&request, &claim, false);
  ASSERT_OK(fake_body(&request, "abc", 3));
  ASSERT(fake_abort(&request, VALK_ABORT_RESET));
  uint8_t bytes[3];
  ASSERT_EQ(valk_bridge_read(js.bridge, claim.index, claim.generation, bytes, 3), VALK_ESTALE);
  /* It was not the end. */
  ASSERT_EQ(valk_bridge_readable(js.bridge, claim.index, claim.generation), VALK_ESTALE);
  ASSERT_EQ(take_event(&claim), VALK_EVENT_BODY | VALK_EVENT_ABORT | VALK_ABORT_RESET << 8);
  fake_js_tell(&js, &claim, VALK_OUT_SETTLE, 0);
  flush();
  end();
}

TEST(a_streamed_answer_is_written_and_finished) {
  begin();
  valk_request_t request;
  fake_claim_t claim;
  make_claimed(&request, &claim, "GET\nhttps\nhost\n/\n");
  static uint8_t large[VALK_WRITE_MAX + 10];
  memset(large, 'z', sizeof(large));
  ASSERT_EQ(valk_bridge_write(js.bridge, claim.index, claim.generation, large, 10), VALK_ESTALE);
  fake_js_out(&js, &claim, VALK_OUT_RESPOND, 0, 200, "a\nb\n", "12", 2, INT64_C(1) << 33);
  fake_js_out(&js, &claim, VALK_OUT_WRITE, 0, 0, NULL, "345", 3, -1);
  ASSERT_OK(valk_bridge_flush(js.bridge));
  ASSERT_EQ(valk_bridge_write(js.bridge, claim.index, claim.generation, large, sizeof(large)),
            VALK_WRITE_MAX);
  flush();
  ASSERT_EQ(request.answers, 1);
  ASSERT_EQ(request.content_length, INT64_C(1) << 33);
  ASSERT_EQ(request.flags, 0);
  ASSERT_EQ(request.sent_length, 5 + VALK_WRITE_MAX);
  ASSERT_MEM_EQ(request.sent, "12345zzz", 8);
  fake_system.consumer->on_writable(fake_system.consumer->data, &request);
  ASSERT_EQ(take_event(&claim), VALK_EVENT_WRITABLE);
  fake_js_out(&js, &claim, VALK_OUT_FINISH, 0, 0, "t\nu\n", NULL, 0, -1);
  flush();
  ASSERT_EQ(request.finishes, 1);
  ASSERT_STR_EQ(request.sent_trailers, "t\nu\n");
  ASSERT_EQ(request.ends, 1);
  fake_request_deinit(&request);
  end();
}

/* An answer that has begun, and what its connection may hold of it. */
static void begin_answer(valk_request_t *request, fake_claim_t *claim, int64_t budget) {
  begin();
  make_claimed(request, claim, "GET\nhttps\nhost\n/\n");
  fake_js_out(&js, claim, VALK_OUT_RESPOND, 0, 200, "", NULL, 0, -1);
  flush();
  atomic_store(&fake_system.budget, budget);
}

static void end_answer(valk_request_t *request, int64_t budget) {
  atomic_fetch_add(&fake_system.budget, (1 << 20) - budget);
  fake_request_deinit(request);
  end();
}

TEST(a_write_beyond_the_budget_waits_for_room) {
  valk_request_t request;
  fake_claim_t claim;
  begin_answer(&request, &claim, 20000);
  static uint8_t large[60000];
  ASSERT_EQ(valk_bridge_write(js.bridge, claim.index, claim.generation, large, sizeof(large)),
            20000 - VALK_BUFFER_COST);
  ASSERT_EQ(valk_bridge_write(js.bridge, claim.index, claim.generation, large, sizeof(large)), 0);
  ASSERT_EQ(valk_bridge_write(js.bridge, claim.index, claim.generation, large, 1), 0);
  flush();
  ASSERT_EQ(request.sent_length, 20000 - VALK_BUFFER_COST);
  ASSERT_EQ(request.wants, 1);
  ASSERT_EQ(valk_bridge_write(js.bridge, claim.index, claim.generation, large, 1), 1);
  fake_js_tell(&js, &claim, VALK_OUT_RESET, 2);
  flush();
  ASSERT_EQ(request.sent_length, 20001 - VALK_BUFFER_COST);
  ASSERT_EQ(request.resets, 1);
  ASSERT_EQ(request.code, 2);
  end_answer(&request, 20000);
}

TEST(writes_of_few_bytes_are_charged_for_what_they_take) {
  valk_request_t request;
  fake_claim_t claim;
  begin_answer(&request, &claim, 20000);
  unsigned count = 0;
  while (valk_bridge_write(js.bridge, claim.index, claim.generation, (const uint8_t *) "x", 1) == 1)
    count++;
  ASSERT_EQ(count, 20000 / (1 + VALK_BUFFER_COST));
  flush();
  ASSERT_EQ(request.sent_length, count);
  ASSERT_EQ(atomic_load(&fake_system.budget), 20000);
  fake_js_tell(&js, &claim, VALK_OUT_RESET, 2);
  flush();
  end_answer(&request, 20000);
}

TEST(an_answer_that_cannot_be_used_lets_its_writer_know) {
  begin();
  valk_request_t request;
  make(&request, "GET\nhttps\nhost\n/\n");
  request.bad = true;
  ASSERT_OK(fake_offer(&request));
  fake_turn(&fake_system, 0);
  fake_claim_t claim;
  ASSERT(fake_js_claim(&js, &claim));
  fake_js_out(&js, &claim, VALK_OUT_RESPOND, 0, 200, "", "1", 1, -1);
  fake_js_out(&js, &claim, VALK_OUT_WRITE, 0, 0, NULL, "2", 1, -1);
  flush();
  ASSERT_EQ(request.sent_length, 0);
  ASSERT_EQ(take_event(&claim), VALK_EVENT_END | VALK_EVENT_ABORT | VALK_ABORT_CLOSED << 8);
  fake_js_tell(&js, &claim, VALK_OUT_SETTLE, 0);
  flush();
  ASSERT_EQ(request.settles, 0);
  end();
}

TEST(the_end_of_a_request_whose_handler_never_settles_is_told) {
  begin();
  valk_request_t request;
  fake_claim_t claim;
  make_claimed(&request, &claim, "GET\nhttps\nhost\n/\n");
  fake_abort(&request, VALK_ABORT_TIMEOUT);
  fake_end(&request);
  ASSERT_EQ(take_event(&claim), VALK_EVENT_ABORT | VALK_EVENT_END | VALK_ABORT_TIMEOUT << 8);
  ASSERT_EQ(valk_bridge_open(js.bridge), 1);
  fake_js_tell(&js, &claim, VALK_OUT_SETTLE, 0);
  flush();
  ASSERT_EQ(request.settles, 0);
  end();
}
