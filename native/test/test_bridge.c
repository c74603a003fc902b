/* The bridge, step by step: requests and answers that are whole, wake-ups, peers, the end. */
#include "binding/bridge_internal.h"
#include "bridge_rig.h"

TEST(a_request_is_claimed_and_answered) {
  begin();
  valk_request_t request;
  make(&request, "HEAD\nhttps\nhost\n/\na\nb\n");
  ASSERT_OK(fake_offer(&request));
  fake_claim_t claim;
  ASSERT_FALSE(fake_js_claim(&js, &claim)); /* not before the turn has ended */
  fake_turn(&fake_system, 0);
  ASSERT_EQ(wakes, 1);
  ASSERT(fake_js_claim(&js, &claim));
  ASSERT_STR_EQ(claim.head, "HEAD\nhttps\nhost\n/\na\nb\n");
  ASSERT_EQ(claim.server, 7);
  ASSERT_EQ(claim.flags, VALK_REQUEST_IS_HEAD);
  ASSERT_STR_EQ(claim.remote_address, "192.0.2.1");
  ASSERT_FALSE(fake_js_claim(&js, &claim));
  fake_js_respond(&js, &claim, 201, "x-a\nb\n", "hello");
  flush();
  ASSERT_EQ(request.answers, 1);
  ASSERT_EQ(request.status, 201);
  ASSERT_STR_EQ(request.fields, "x-a\nb\n");
  ASSERT_EQ(request.sent_length, 5);
  ASSERT_MEM_EQ(request.sent, "hello", 5);
  ASSERT_EQ(request.content_length, 5);
  ASSERT_EQ(request.flags, VALK_ANSWER_END);
  ASSERT_EQ(request.ends, 1);
  fake_request_deinit(&request);
  no_event();
  end();
}

TEST(a_date_of_the_handlers_own_is_seen) {
  begin();
  static const char *fields[] = {"date\nx\n", "a\nb\ndate\nx\n", "a\ndate\nb\nc\n", "update\nx\n",
                                 ""};
  static const bool dated[] = {true, true, false, false, false};
  for (size_t i = 0; i < sizeof(dated) / sizeof(dated[0]); i++) {
    valk_request_t request;
    make(&request, "GET\nhttps\nhost\n/\n");
    ASSERT_OK(fake_offer(&request));
    fake_turn(&fake_system, 0);
    fake_claim_t claim;
    ASSERT(fake_js_claim(&js, &claim));
    fake_js_respond(&js, &claim, 200, fields[i], "");
    flush();
    ASSERT_EQ((request.flags & VALK_ANSWER_NO_DATE) != 0, dated[i]);
    fake_request_deinit(&request);
  }
  end();
}

TEST(a_full_queue_makes_the_engine_wait_and_try_again) {
  begin();
  enum { CAPACITY = 16 };
  valk_request_t requests[CAPACITY + 1];
  for (int i = 0; i <= CAPACITY; i++)
    make(&requests[i], "GET\nhttps\nhost\n/\n");
  for (int i = 0; i < CAPACITY; i++)
    ASSERT_OK(fake_offer(&requests[i]));
  ASSERT_EQ(fake_offer(&requests[CAPACITY]), VALK_EAGAIN);
  ASSERT_EQ(fake_offer(&requests[CAPACITY]), VALK_EAGAIN);
  valk_pool_stats_t stats = {0};
  fake_system.consumer->queue_stats(fake_system.consumer->data, &stats);
  ASSERT_EQ(stats.size, CAPACITY);
  ASSERT_EQ(stats.in_use, CAPACITY);
  ASSERT_EQ(stats.high_water, CAPACITY);
  ASSERT_EQ(stats.times_full, 1);
  ASSERT_EQ(stats.waiters, 1);
  fake_turn(&fake_system, 0);
  int woken_at = 0;
  for (int i = 0; i < CAPACITY; i++) {
    fake_claim_t claim;
    ASSERT(fake_js_claim(&js, &claim));
    if (woken_at == 0 && atomic_load(&fake_system.wakes[0]) > 0)
      woken_at = i + 1;
    fake_js_respond(&js, &claim, 200, "", "");
  }
  /* Once, and when half of the queue was empty. */
  ASSERT_EQ(atomic_load(&fake_system.wakes[0]), 1);
  ASSERT_EQ(woken_at, CAPACITY / 2);
  ASSERT_OK(fake_offer(&requests[CAPACITY]));
  flush();
  fake_claim_t claim;
  ASSERT(fake_js_claim(&js, &claim));
  fake_js_respond(&js, &claim, 200, "", "");
  flush();
  for (int i = 0; i <= CAPACITY; i++) {
    ASSERT_EQ(requests[i].ends, 1);
    fake_request_deinit(&requests[i]);
  }
  end();
}

TEST(full_text_makes_the_engine_wait_and_text_never_wraps) {
  begin_sized(16, 512);
  /* Heads of lengths that leave odd remainders at the ring's end, each checked byte by byte. */
  enum { COUNT = 200 };
  static valk_request_t requests[COUNT];
  int offered = 0, claimed = 0, waited = 0;
  while (claimed < COUNT) {
    while (offered < COUNT) {
      char text[FAKE_TEXT];
      int length = 20 + offered * 37 % 200;
      memset(text, 'a' + offered % 26, sizeof(text));
      text[length] = '\0';
      make(&requests[offered], text);
      int result = fake_offer(&requests[offered]);
      if (result == VALK_EAGAIN) {
        waited++;
        break;
      }
      ASSERT_OK(result);
      offered++;
    }
    fake_turn(&fake_system, 0);
    fake_claim_t claim;
    ASSERT(fake_js_claim(&js, &claim));
    ASSERT_STR_EQ(claim.head, requests[claimed].text);
    fake_js_respond(&js, &claim, 200, "", "");
    flush();
    fake_request_deinit(&requests[claimed++]);
  }
  ASSERT_GT(waited, 0);
  end();
}

TEST(a_head_that_can_never_fit_is_refused) {
  begin_sized(16, 256);
  valk_request_t request;
  char text[201];
  memset(text, 'x', sizeof(text) - 1);
  text[200] = '\0';
  make(&request, text);
  ASSERT_EQ(fake_offer(&request), VALK_ENOMEM);
  end();
}

TEST(a_dropped_request_is_never_claimed) {
  begin();
  valk_request_t requests[3];
  for (int i = 0; i < 3; i++) {
    make(&requests[i], "GET\nhttps\nhost\n/\n");
    requests[i].text[16] = (char) ('0' + i);
    ASSERT_OK(fake_offer(&requests[i]));
  }
  ASSERT(fake_drop(&requests[1]));
  fake_turn(&fake_system, 0);
  ASSERT(fake_drop(&requests[0]));
  fake_claim_t claim;
  ASSERT(fake_js_claim(&js, &claim));
  ASSERT_EQ(claim.head[16], '2');
  ASSERT_FALSE(fake_drop(&requests[2]));
  ASSERT_FALSE(fake_js_claim(&js, &claim));
  fake_js_respond(&js, &claim, 200, "", "");
  flush();
  ASSERT_EQ(requests[2].answers, 1);
  ASSERT_EQ(requests[0].ends + requests[1].ends, 0);
  fake_request_deinit(&requests[2]);
  end();
}

TEST(a_drop_never_hits_the_request_that_reuses_the_record) {
  begin();
  enum { CAPACITY = 16 };
  valk_request_t first, later[CAPACITY];
  fake_claim_t claims[CAPACITY + 1];
  make(&first, "GET\nhttps\nhost\n/\n");
  ASSERT_OK(fake_offer(&first));
  fake_turn(&fake_system, 0);
  ASSERT(fake_js_claim(&js, &claims[CAPACITY]));
  for (int i = 0; i < CAPACITY; i++) {
    make(&later[i], "GET\nhttps\nhost\n/\n");
    ASSERT_OK(fake_offer(&later[i]));
  }
  fake_turn(&fake_system, 0);
  ASSERT_FALSE(fake_drop(&first));
  for (int i = 0; i < CAPACITY; i++) {
    ASSERT(fake_js_claim(&js, &claims[i]));
  }
  for (int i = 0; i <= CAPACITY; i++)
    fake_js_respond(&js, &claims[i], 200, "", "");
  flush();
  for (int i = 0; i < CAPACITY; i++) {
    ASSERT_EQ(later[i].answers, 1);
    fake_request_deinit(&later[i]);
  }
  ASSERT_EQ(first.answers, 1);
  fake_request_deinit(&first);
  end();
}

/* As if |count| more requests had been claimed, of which none is left. */
static void many_later(uint32_t count) {
  js.bridge->write += count;
  int32_t position = (int32_t) js.bridge->write;
  __atomic_store_n(&js.control[VALK_BRIDGE_WRITE], position, __ATOMIC_SEQ_CST);
  __atomic_store_n(&js.control[VALK_BRIDGE_READ], position, __ATOMIC_SEQ_CST);
}

TEST(a_drop_hits_no_other_request_however_many_were_claimed_since) {
  /* Half and whole turns of the indices, so that the same record is next. */
  static const uint32_t counts[] = {(1u << 31) - 1, (1u << 31) + 15, UINT32_MAX};
  for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
    begin();
    valk_request_t first, later;
    fake_claim_t claim;
    make_claimed(&first, &claim, "GET\nhttps\nhost\n/first\n");
    many_later(counts[i]);
    make(&later, "GET\nhttps\nhost\n/later\n");
    ASSERT_OK(fake_offer(&later));
    fake_turn(&fake_system, 0);
    ASSERT_FALSE(fake_drop(&first));
    /* The end of a stream whose handler runs withdraws nothing either. */
    fake_end(&first);
    fake_js_tell(&js, &claim, VALK_OUT_SETTLE, 0);
    ASSERT(fake_js_claim(&js, &claim));
    ASSERT_STR_EQ(claim.head, "GET\nhttps\nhost\n/later\n");
    fake_js_respond(&js, &claim, 200, "", "");
    flush();
    ASSERT_EQ(later.answers, 1);
    fake_request_deinit(&first);
    fake_request_deinit(&later);
    end();
  }
}

TEST(a_buffered_body_is_copied_until_the_answer_is_sent) {
  begin();
  valk_request_t request;
  uint8_t body[5] = "body", copied[5];
  make(&request, "POST\nhttps\nhost\n/\n");
  request.body = body;
  request.body_length = sizeof(body);
  request.trailers = "t\nu\n";
  ASSERT_OK(fake_offer(&request));
  fake_turn(&fake_system, 0);
  fake_claim_t claim;
  ASSERT(fake_js_claim(&js, &claim));
  ASSERT_EQ(claim.flags, VALK_REQUEST_HAS_BODY | VALK_REQUEST_HAS_TRAILERS);
  ASSERT_EQ(claim.body_length, sizeof(body));
  for (int i = 0; i < 2; i++) {
    memset(copied, 0, sizeof(copied));
    ASSERT_OK(valk_bridge_body(js.bridge, claim.index, claim.generation, copied, sizeof(copied)));
    ASSERT_STR_EQ((char *) copied, "body");
  }
  ASSERT_EQ(valk_bridge_body(js.bridge, claim.index, claim.generation, copied, sizeof(copied) + 1),
            VALK_ESTALE);
  fake_js_trailers(&js, &claim, "t\nu\n");
  fake_js_trailers(&js, &claim, ""); /* the bridge keeps none */
  fake_js_out(&js, &claim, VALK_OUT_RESPOND, 0, 200, "", NULL, 0, -1);
  ASSERT_OK(valk_bridge_flush(js.bridge));
  ASSERT_EQ(valk_bridge_body(js.bridge, claim.index, claim.generation, copied, sizeof(copied)),
            VALK_ESTALE);
  fake_js_tell(&js, &claim, VALK_OUT_FINISH, 0);
  flush();
  ASSERT_EQ(valk_bridge_body(js.bridge, claim.index, claim.generation, copied, sizeof(copied)),
            VALK_ESTALE);
  ASSERT_NULL(valk_bridge_peer(js.bridge, claim.index, claim.generation));
  fake_js_trailers(&js, &claim, "");
  fake_request_deinit(&request);
  end();
}

TEST(an_aborted_body_is_gone_at_once) {
  begin();
  valk_request_t request;
  uint8_t body[4] = "abc", copied[4];
  make(&request, "POST\nhttps\nhost\n/\n");
  request.body = body;
  request.body_length = sizeof(body);
  ASSERT_OK(fake_offer(&request));
  fake_turn(&fake_system, 0);
  fake_claim_t claim;
  ASSERT(fake_js_claim(&js, &claim));
  ASSERT(fake_abort(&request, VALK_ABORT_RESET));
  ASSERT_EQ(valk_bridge_body(js.bridge, claim.index, claim.generation, copied, sizeof(copied)),
            VALK_ESTALE);
  ASSERT_EQ(take_event(&claim), VALK_EVENT_ABORT | VALK_ABORT_RESET << 8);
  fake_js_tell(&js, &claim, VALK_OUT_SETTLE, 0);
  flush();
  ASSERT_EQ(request.settles, 1);
  no_event();
  end();
}

TEST(an_answer_after_an_abort_frees_the_exchange) {
  begin();
  valk_request_t request;
  fake_claim_t claim;
  make_claimed(&request, &claim, "GET\nhttps\nhost\n/\n");
  ASSERT(fake_abort(&request, VALK_ABORT_CLOSED));
  fake_js_respond(&js, &claim, 200, "", "late");
  flush();
  ASSERT_EQ(request.answers, 0);
  ASSERT_EQ(request.ends, 1);
  no_event(); /* JavaScript has let go before it took them */
  end();
}

TEST(records_for_an_ended_exchange_are_ignored) {
  begin();
  valk_request_t request;
  fake_claim_t claim = {0};
  for (int i = 0; i < 2; i++) {
    make(&request, "GET\nhttps\nhost\n/\n");
    ASSERT_OK(fake_offer(&request));
    fake_turn(&fake_system, 0);
    fake_claim_t previous = claim;
    ASSERT(fake_js_claim(&js, &claim));
    if (i == 1) {
      /* The same place, another exchange. */
      ASSERT_EQ(previous.index, claim.index);
      fake_js_respond(&js, &previous, 500, "", "of another");
      fake_js_tell(&js, &previous, VALK_OUT_RESET, 8);
      flush();
      ASSERT_EQ(request.answers + request.resets, 0);
    }
    fake_js_respond(&js, &claim, 200, "", "own");
    fake_js_respond(&js, &claim, 200, "", "again");
    flush();
    ASSERT_EQ(request.answers, 1);
    ASSERT_MEM_EQ(request.sent, "own", 3);
    fake_request_deinit(&request);
  }
  fake_claim_t nowhere = {.index = 1u << 30, .generation = 1};
  fake_js_respond(&js, &nowhere, 200, "", "");
  flush();
  end();
}

TEST(a_second_answer_ends_the_flush) {
  begin();
  valk_request_t request;
  fake_claim_t claim;
  make_claimed(&request, &claim, "GET\nhttps\nhost\n/\n");
  fake_js_out(&js, &claim, VALK_OUT_RESPOND, 0, 200, "a\nb\n", "first", 5, -1);
  fake_js_out(&js, &claim, VALK_OUT_RESPOND, 0, 500, "", "second", 6, -1);
  ASSERT_EQ(valk_bridge_flush(js.bridge), VALK_EINVAL);
  fake_js_tell(&js, &claim, VALK_OUT_SETTLE, 0);
  flush();
  ASSERT_MEM_EQ(request.sent, "first", 5);
  fake_request_deinit(&request);
  end();
}

TEST(a_malformed_record_ends_the_flush) {
  begin();
  fake_claim_t claim = {.index = 0, .generation = 1};
  js.out[VALK_OUT_USED] = VALK_OUT_START + 8;
  ASSERT_EQ(valk_bridge_flush(js.bridge), VALK_EINVAL);
  fake_js_tell(&js, &claim, 99, 0);
  ASSERT_EQ(valk_bridge_flush(js.bridge), VALK_EINVAL);
  fake_js_respond(&js, &claim, 200, "", "");
  js.out[VALK_OUT_START / 4 + VALK_OUT_BODY_LENGTH] = 1 << 30;
  ASSERT_EQ(valk_bridge_flush(js.bridge), VALK_EINVAL);
  js.out[VALK_OUT_USED] = (int32_t) js.out_size + 4;
  ASSERT_EQ(valk_bridge_flush(js.bridge), VALK_EINVAL);
  ASSERT_EQ(js.out[VALK_OUT_USED], VALK_OUT_START);
  end();
}

TEST(one_wake_up_serves_a_batch_and_none_is_sent_to_the_wakeful) {
  begin();
  valk_request_t requests[4];
  for (int i = 0; i < 4; i++)
    make(&requests[i], "GET\nhttps\nhost\n/\n");
  ASSERT_OK(fake_offer(&requests[0]));
  ASSERT_OK(fake_offer(&requests[1]));
  ASSERT_EQ(wakes, 0);
  fake_turn(&fake_system, 0);
  fake_turn(&fake_system, 0);
  ASSERT_EQ(wakes, 1);
  valk_bridge_begin(js.bridge);
  ASSERT_OK(fake_offer(&requests[2]));
  fake_turn(&fake_system, 0);
  ASSERT_EQ(wakes, 1);
  fake_claim_t claim;
  for (int i = 0; i < 3; i++) {
    ASSERT_FALSE(valk_bridge_sleep(js.bridge)); /* there is work */
    ASSERT(fake_js_claim(&js, &claim));
    fake_js_respond(&js, &claim, 200, "", "");
  }
  flush();
  ASSERT(valk_bridge_sleep(js.bridge));
  ASSERT_OK(fake_offer(&requests[3]));
  fake_turn(&fake_system, 0);
  ASSERT_EQ(wakes, 2);
  valk_bridge_begin(js.bridge);
  ASSERT(fake_js_claim(&js, &claim));
  ASSERT(fake_abort(&requests[3], VALK_ABORT_RESET));
  fake_turn(&fake_system, 0);
  ASSERT_EQ(wakes, 2);
  ASSERT_FALSE(valk_bridge_sleep(js.bridge)); /* an event is work too */
  take_event(&claim);
  fake_js_tell(&js, &claim, VALK_OUT_SETTLE, 0);
  flush();
  ASSERT(valk_bridge_sleep(js.bridge));
  for (int i = 0; i < 4; i++)
    fake_request_deinit(&requests[i]);
  end();
}

TEST(a_poke_wakes_and_a_turn_moves_the_clock) {
  begin();
  uint64_t before = fake_system.consumer->last_turn_ms(fake_system.consumer->data, false);
  ASSERT_EQ(wakes, 0);
  usleep(3000);
  fake_system.consumer->last_turn_ms(fake_system.consumer->data, true);
  ASSERT_EQ(wakes, 1);
  valk_bridge_begin(js.bridge);
  ASSERT_GT(fake_system.consumer->last_turn_ms(fake_system.consumer->data, false), before);
  ASSERT(valk_bridge_sleep(js.bridge));
  end();
}

TEST(a_peer_is_named_anew_for_each_connection_of_a_slot) {
  begin();
  fake_peer_t *other = fake_peer("192.0.2.2");
  valk_request_t requests[3];
  fake_claim_t claims[3];
  for (int i = 0; i < 3; i++) {
    fake_request_init(&requests[i], &fake_system, &server, i < 2 ? peer : other,
                      "GET\nhttps\nhost\n/\n");
    requests[i].slot = 3;
    ASSERT_OK(fake_offer(&requests[i]));
  }
  fake_turn(&fake_system, 0);
  for (int i = 0; i < 3; i++) {
    ASSERT(fake_js_claim(&js, &claims[i]));
    ASSERT_EQ(claims[i].slot, 3);
    ASSERT_STR_EQ(claims[i].remote_address, i < 2 ? "192.0.2.1" : "192.0.2.2");
    fake_js_respond(&js, &claims[i], 200, "", "");
  }
  ASSERT_EQ(claims[0].peer, claims[1].peer);
  ASSERT_NE(claims[1].peer, claims[2].peer);
  flush();
  for (int i = 0; i < 3; i++)
    fake_request_deinit(&requests[i]);
  /* With its last request the bridge has forgotten a peer, and the certificate in it. */
  ASSERT_EQ(atomic_load(&other->references), 1);
  ASSERT_EQ(atomic_load(&peer->references), 1);
  valk_peer_unref(&other->peer);
  end();
}

TEST(a_handler_that_outlives_its_stream_keeps_no_peer) {
  static const valk_abort_t reasons[] = {VALK_ABORT_RESET, VALK_ABORT_CLOSED, VALK_ABORT_TIMEOUT,
                                         VALK_ABORT_LIMIT};
  begin();
  for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
    valk_request_t request;
    fake_claim_t claim;
    make_claimed(&request, &claim, "GET\nhttps\nhost\n/\n");
    ASSERT_EQ(claim.certificate_length, FAKE_CERTIFICATE);
    ASSERT_MEM_EQ(claim.certificate, peer->certificate, FAKE_CERTIFICATE);
    /* Asked for too late, also while the connection is there: it could go at any moment. */
    ASSERT_NULL(valk_bridge_peer(js.bridge, claim.index, claim.generation));
    ASSERT_EQ(atomic_load(&peer->references), 2);
    ASSERT(fake_abort(&request, reasons[i]));
    ASSERT_EQ(atomic_load(&peer->references), 1);
    ASSERT_EQ(take_event(&claim), VALK_EVENT_ABORT | (int32_t) reasons[i] << 8);
    fake_js_tell(&js, &claim, VALK_OUT_SETTLE, 0);
    flush();
    ASSERT_EQ(request.ends, 1);
    fake_request_deinit(&request);
  }
  end();
}

TEST(a_handler_that_the_engine_has_let_go_of_keeps_no_peer) {
  begin();
  valk_request_t request;
  fake_claim_t claim;
  make_claimed(&request, &claim, "GET\nhttps\nhost\n/\n");
  fake_end(&request);
  ASSERT_EQ(atomic_load(&peer->references), 1);
  ASSERT_EQ(take_event(&claim), VALK_EVENT_END);
  fake_js_tell(&js, &claim, VALK_OUT_SETTLE, 0);
  flush();
  fake_request_deinit(&request);
  end();
}

TEST(a_handler_that_is_called_as_its_client_leaves_knows_it) {
  begin();
  for (int ends = 0; ends < 2; ends++) {
    valk_request_t request;
    fake_claim_t claim;
    make(&request, "GET\nhttps\nhost\n/\n");
    ASSERT_OK(fake_offer(&request));
    fake_turn(&fake_system, 0);
    ASSERT(fake_js_stand(&js, &claim));
    ASSERT_FALSE(fake_drop(&request));
    ASSERT(fake_abort(&request, VALK_ABORT_CLOSED));
    if (ends == 1)
      fake_end(&request);
    ASSERT_EQ(atomic_load(&peer->references), 2);
    fake_js_peer(&js, &claim);
    fake_js_pass(&js);
    ASSERT_MEM_EQ(claim.certificate, peer->certificate, FAKE_CERTIFICATE);
    ASSERT_NULL(valk_bridge_peer(js.bridge, claim.index, claim.generation));
    /* It runs on, and all that the engine still has of its client goes with JavaScript's next turn.
     */
    ASSERT_EQ(atomic_load(&peer->references), 2);
    ASSERT_EQ(take_event(&claim),
              (VALK_EVENT_ABORT | VALK_ABORT_CLOSED << 8) | (ends == 1 ? VALK_EVENT_END : 0));
    ASSERT_EQ(atomic_load(&peer->references), 1);
    fake_js_tell(&js, &claim, VALK_OUT_SETTLE, 0);
    flush();
    ASSERT_EQ(request.ends, 1);
    fake_request_deinit(&request);
  }
  end();
}

TEST(freeing_the_bridge_frees_all_that_is_left) {
  begin();
  valk_request_t requests[3];
  fake_claim_t claim;
  server.data = valk_bridge_server_data(7, true);
  for (int i = 0; i < 3; i++) {
    make(&requests[i], "POST\nhttps\nhost\n/\n");
    requests[i].body_ended = false;
    ASSERT_OK(fake_offer(&requests[i]));
    ASSERT_OK(fake_body(&requests[i], "abc", 3));
  }
  fake_turn(&fake_system, 0);
  /* One never claimed, one claimed and never answered, one whose answer never reached the engine.
   */
  ASSERT(fake_js_claim(&js, &claim));
  fake_js_out(&js, &claim, VALK_OUT_RESPOND, 0, 200, "", "1", 1, -1);
  ASSERT_OK(valk_bridge_flush(js.bridge));
  static uint8_t large[20000];
  ASSERT_EQ(valk_bridge_write(js.bridge, claim.index, claim.generation, large, sizeof(large)),
            20000);
  ASSERT(fake_js_claim(&js, &claim));
  for (int i = 0; i < 3; i++)
    fake_end(&requests[i]);
  fake_js_deinit(&js);
  ASSERT_EQ(atomic_load(&fake_system.budget), 1 << 20);
  ASSERT_EQ(atomic_load(&peer->references), 1);
  free(peer);
}
