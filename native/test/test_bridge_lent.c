/* Bodies that are lent: sent from where they are, and let go of once, whatever happens. */
#include "bridge_rig.h"

static const uint8_t body[] = "a body that stays where it is";
enum { LENGTH = sizeof(body) - 1 };

static void count(void *owner) {
  ++*(int *) owner;
}

static void lend(int *released) {
  ASSERT_OK(valk_bridge_lend(js.bridge, body, LENGTH, count, released));
}

static void respond_lent(const fake_claim_t *claim) {
  fake_js_out(&js, claim, VALK_OUT_RESPOND, VALK_ANSWER_END | VALK_OUT_LENT, 200, "a\nb\n", NULL, 0,
              LENGTH);
}

TEST(lent_bytes_are_the_answers_body) {
  begin();
  valk_request_t request;
  fake_claim_t claim;
  make_claimed(&request, &claim, "GET\nhttps\nhost\n/\n");
  int released = 0;
  lend(&released);
  respond_lent(&claim);
  ASSERT_EQ(released, 0);
  flush();
  ASSERT_EQ(request.status, 200);
  ASSERT_EQ(request.flags, VALK_ANSWER_END);
  ASSERT_EQ(request.content_length, LENGTH);
  ASSERT_STR_EQ(request.fields, "a\nb\n");
  ASSERT_EQ(request.sent_length, LENGTH);
  ASSERT_MEM_EQ(request.sent, body, LENGTH);
  ASSERT_EQ(released, 1);
  fake_request_deinit(&request);
  end();
}

TEST(each_answer_takes_what_was_lent_for_it) {
  begin();
  valk_request_t requests[3];
  fake_claim_t claims[3];
  int released[3] = {0};
  for (int i = 0; i < 3; i++) {
    make_claimed(&requests[i], &claims[i], "GET\nhttps\nhost\n/\n");
    ASSERT_OK(valk_bridge_lend(js.bridge, body + i, 5, count, &released[i]));
  }
  ASSERT(fake_abort(&requests[1], VALK_ABORT_CLOSED));
  for (int i = 0; i < 3; i++)
    respond_lent(&claims[i]);
  flush();
  for (int i = 0; i < 3; i++) {
    ASSERT_EQ(released[i], 1);
    ASSERT_EQ(requests[i].sent_length, i == 1 ? 0 : 5);
    if (i != 1)
      ASSERT_MEM_EQ(requests[i].sent, body + i, 5);
    fake_request_deinit(&requests[i]);
  }
  end();
}

TEST(what_is_lent_to_an_exchange_that_has_ended_is_let_go) {
  begin();
  fake_claim_t nowhere = {.index = 1u << 30, .generation = 1};
  int released = 0;
  lend(&released);
  respond_lent(&nowhere);
  flush();
  ASSERT_EQ(released, 1);
  end();
}

TEST(a_second_answer_lets_go_of_what_is_lent) {
  begin();
  valk_request_t request;
  fake_claim_t claim;
  make_claimed(&request, &claim, "GET\nhttps\nhost\n/\n");
  fake_js_out(&js, &claim, VALK_OUT_RESPOND, 0, 200, "", "first", 5, -1);
  int released[2] = {0};
  lend(&released[0]);
  respond_lent(&claim);
  lend(&released[1]); /* its record is lost with those that follow */
  ASSERT_EQ(valk_bridge_flush(js.bridge), VALK_EINVAL);
  ASSERT_EQ(released[0], 1);
  ASSERT_EQ(released[1], 1);
  fake_js_tell(&js, &claim, VALK_OUT_SETTLE, 0);
  flush();
  fake_request_deinit(&request);
  end();
}

TEST(an_answer_for_which_nothing_was_lent_ends_the_flush) {
  begin();
  valk_request_t request;
  fake_claim_t claim;
  make_claimed(&request, &claim, "GET\nhttps\nhost\n/\n");
  respond_lent(&claim);
  ASSERT_EQ(valk_bridge_flush(js.bridge), VALK_EINVAL);
  fake_js_tell(&js, &claim, VALK_OUT_SETTLE, 0);
  flush();
  ASSERT_EQ(request.answers, 0);
  fake_request_deinit(&request);
  end();
}

TEST(the_bridge_lets_go_at_its_end) {
  begin();
  valk_request_t request;
  fake_claim_t claim;
  make_claimed(&request, &claim, "GET\nhttps\nhost\n/\n");
  int released[2] = {0};
  lend(&released[0]);
  respond_lent(&claim);
  ASSERT_OK(valk_bridge_flush(js.bridge)); /* the engine does not come to take it */
  lend(&released[1]);
  fake_js_deinit(&js);
  ASSERT_EQ(released[0], 1);
  ASSERT_EQ(released[1], 1);
  fake_request_deinit(&request);
  free(peer);
}

TEST(each_allocation_may_fail_and_nothing_is_kept) {
  for (uint64_t nth = 1;; nth++) {
    begin();
    valk_request_t request;
    fake_claim_t claim;
    make_claimed(&request, &claim, "GET\nhttps\nhost\n/\n");
    int released = 0;
    valk__fault_arm(VALK_FAULT_MALLOC, nth, false, 0);
    if (valk_bridge_lend(js.bridge, body, LENGTH, count, &released) == 0) {
      respond_lent(&claim);
      ASSERT_OK(valk_bridge_flush(js.bridge));
    } else {
      ASSERT_EQ(released, 0); /* it is the caller's still */
      count(&released);
      fake_js_respond(&js, &claim, 200, "", "copied");
      ASSERT_OK(valk_bridge_flush(js.bridge));
    }
    bool met = valk__fault_count(VALK_FAULT_MALLOC) >= nth;
    valk__fault_arm(VALK_FAULT_MALLOC, 0, false, 0);
    flush();
    ASSERT_EQ(released, 1);
    ASSERT_EQ(request.answers + request.resets, 1);
    fake_request_deinit(&request);
    end();
    if (!met) {
      ASSERT_EQ(nth, 3); /* the lent one and the head's */
      return;
    }
  }
}
