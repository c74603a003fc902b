// An engine without threads (ioThreads: 0), turned by the environment's loop: a uv_poll on the
// engine's descriptor and a uv_timer. JavaScript's turn follows the engine's, and what it has
// answered leaves with another one, all in one callback of the loop.
#ifndef VALK_BINDING_ADDON_HOST_H
#define VALK_BINDING_ADDON_HOST_H

#include <uv.h>

#include "valk.h"

namespace {

// How long JavaScript may go on taking turns before the rest of its event loop has one.
constexpr uint64_t kSliceNs = 2000000;

class Host {
public:
  static constexpr unsigned kHandles = 2;

  // |run| is JavaScript's turn; it may stop this. 0, or libuv's error, and then there is nothing to
  // close.
  int begin(uv_loop_t *loop, valk_system_t *system, void (*run)(void *data), void *data) {
    int status = uv_poll_init(loop, &poll_, valk_system_descriptor(system));
    if (status != 0)
      return status;
    uv_timer_init(loop, &timer_);
    uv_unref(reinterpret_cast<uv_handle_t *>(&poll_));
    uv_unref(reinterpret_cast<uv_handle_t *>(&timer_));
    poll_.data = timer_.data = this;
    uv_poll_start(&poll_, UV_READABLE, on_ready);
    system_ = system;
    run_ = run;
    data_ = data;
    turn_engine();
    return 0;
  }

  // JavaScript has something to do. False: not by a turn of ours, so somebody else has to see to
  // it.
  bool wake() {
    woken_ |= turning_;
    return turning_;
  }

  // Whoever a turn has woken comes next, however long that took, and what it has answered leaves
  // with the next turn. After a while the rest of the loop has its turn.
  void turn(bool woken) {
    uint64_t end = uv_hrtime() + kSliceNs;
    woken_ |= woken;
    turn_engine();
    while (woken_) {
      woken_ = false;
      run_(data_);
      turn_engine();
      if (woken_ && system_ != nullptr && uv_hrtime() >= end) {
        // By the descriptor: a timer that is due at once would keep the loop from it all.
        valk_system_wake(system_, 0);
        break;
      }
    }
  }

  // Before the system goes.
  void stop() {
    uv_poll_stop(&poll_);
    uv_timer_stop(&timer_);
    system_ = nullptr;
  }

  // |on_closed| is called kHandles times.
  void close(void *data, uv_close_cb on_closed) {
    poll_.data = timer_.data = data;
    uv_close(reinterpret_cast<uv_handle_t *>(&poll_), on_closed);
    uv_close(reinterpret_cast<uv_handle_t *>(&timer_), on_closed);
  }

private:
  void turn_engine() {
    if (system_ == nullptr)
      return;
    turning_ = true;
    int next_ms = valk_system_turn(system_);
    turning_ = false;
    uv_timer_start(&timer_, on_due, static_cast<uint64_t>(next_ms), 0);
  }

  static void on_ready(uv_poll_t *poll, int, int) { static_cast<Host *>(poll->data)->turn(false); }
  static void on_due(uv_timer_t *timer) { static_cast<Host *>(timer->data)->turn(false); }

  uv_poll_t poll_{};
  uv_timer_t timer_{};
  valk_system_t *system_ = nullptr;
  void (*run_)(void *data) = nullptr;
  void *data_ = nullptr;
  bool turning_ = false;
  bool woken_ = false;
};

} // namespace

#endif
