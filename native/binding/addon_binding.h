// One Binding for each start(): its life, and JavaScript's turn. Part of addon.cc.
//
// Threads: everything runs on the environment's own thread, but for wake(), on_stopped() and
// on_closed(), which come from engine threads and do no more than set a flag and send the async.
//
// An engine without threads has a Host, which the environment's loop turns; all of the above then
// comes from there.
//
// Life: a Binding is made by start() with its engine, its bridge and a uv_async on the
// environment's loop. shut_down() ends the engine's threads and frees bridge and engine: after
// stop(), in the environment's cleanup hook (the loop has run dry, a worker is terminated), or in
// an exit handler (process.exit() runs no cleanup hooks). The async is closed next; the Binding
// itself goes when that is done and the last of its JavaScript functions has been collected.
#ifndef VALK_BINDING_ADDON_BINDING_H
#define VALK_BINDING_ADDON_BINDING_H

#include <node_api.h>
#include <uv.h>

#include <atomic>
#include <memory>
#include <vector>

#include "addon_host.h"
#include "addon_lend.h"
#include "bridge.h"
#include "process.h"

namespace {

enum Notice { kStopped = -1 }; // else the id of a server that has closed

struct Binding;

struct Server {
  Binding *binding;
  valk_server_t *server;
  uint32_t id;
  std::atomic<bool> closed{false};
  bool told = false;
};

struct Binding {
  napi_env env = nullptr;
  uv_async_t async{};
  std::unique_ptr<Host> host; // of an engine without threads
  unsigned handles = 1;       // of libuv, to be closed
  napi_async_cleanup_hook_handle hook = nullptr;
  napi_async_context context = nullptr;
  napi_ref receiver = nullptr;
  napi_ref on_turn = nullptr;
  napi_ref on_notice = nullptr;
  std::vector<napi_ref> memory; // what the engine writes to or reads from
  int32_t *out = nullptr;
  int32_t *events = nullptr;
  uint32_t event_most = 0;
  valk_system_t *system = nullptr; // null: the engine has ended
  valk_bridge_t *bridge = nullptr;
  std::atomic<bool> stopped{false};
  std::atomic<bool> any_closed{false};
  std::vector<std::unique_ptr<Server>> servers;
  bool closing = false;    // libuv's handles are being closed
  unsigned references = 1; // these handles, and each JavaScript function that points here
  valk_at_exit_t at_exit{};
  Stores stores;       // without them bodies are copied
  valk_stats_t last{}; // as the engine ended
};

// ---- life ----

// Joins the engine's threads: after this none of them runs, or calls wake().
void shut_down(void *data) {
  Binding *binding = static_cast<Binding *>(data);
  if (binding->system == nullptr)
    return;
  valk_at_exit_remove(&binding->at_exit);
  if (binding->host != nullptr)
    binding->host->stop();
  // The queue goes with the bridge, and so do the requests whose handlers never settled.
  valk_system_stats(binding->system, &binding->last);
  valk_pool_stats_t queue = binding->last.queue;
  valk_bridge_free(binding->bridge);
  valk_system_stats(binding->system, &binding->last);
  binding->last.queue = queue;
  binding->last.queue.in_use = binding->last.queue.waiters = 0;
  valk_system_free(binding->system);
  binding->bridge = nullptr;
  binding->system = nullptr;
}

void unref(Binding *binding) {
  if (--binding->references == 0)
    delete binding;
}

void on_handle_closed(uv_handle_t *handle) {
  Binding *binding = static_cast<Binding *>(handle->data);
  if (--binding->handles > 0)
    return;
  napi_remove_async_cleanup_hook(binding->hook);
  unref(binding);
}

void close_handles(Binding *binding) {
  if (binding->closing)
    return;
  binding->closing = true;
  for (napi_ref reference : binding->memory)
    napi_delete_reference(binding->env, reference);
  napi_delete_reference(binding->env, binding->on_turn);
  napi_delete_reference(binding->env, binding->on_notice);
  napi_delete_reference(binding->env, binding->receiver);
  napi_async_destroy(binding->env, binding->context);
  uv_close(reinterpret_cast<uv_handle_t *>(&binding->async), on_handle_closed);
  if (binding->host != nullptr)
    binding->host->close(binding, on_handle_closed);
}

void on_cleanup(napi_async_cleanup_hook_handle, void *data) {
  Binding *binding = static_cast<Binding *>(data);
  shut_down(binding);
  close_handles(binding);
}

// ---- JavaScript's turn ----

void wake(void *data) {
  Binding *binding = static_cast<Binding *>(data);
  if (binding->host == nullptr || !binding->host->wake())
    uv_async_send(&binding->async);
}

void on_stopped(void *data) {
  Binding *binding = static_cast<Binding *>(data);
  binding->stopped = true;
  wake(binding);
}

void on_closed(void *data) {
  Server *server = static_cast<Server *>(data);
  server->closed = true;
  server->binding->any_closed = true;
  wake(server->binding);
}

// Calls into JavaScript as the event loop does: ticks and microtasks run after it. False: it threw,
// or may not run any more.
bool call(Binding *binding, napi_ref function, size_t argc, napi_value *argv, napi_value *result) {
  napi_env env = binding->env;
  napi_value receiver, callee;
  if (napi_get_reference_value(env, binding->receiver, &receiver) != napi_ok ||
      napi_get_reference_value(env, function, &callee) != napi_ok) {
    return false;
  }
  if (napi_make_callback(env, binding->context, receiver, callee, argc, argv, result) == napi_ok)
    return true;
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (pending) {
    napi_value error;
    napi_get_and_clear_last_exception(env, &error);
    napi_fatal_exception(env, error);
  }
  return false;
}

void notify(Binding *binding, int32_t what) {
  napi_value argument;
  if (napi_create_int32(binding->env, what, &argument) == napi_ok) {
    napi_value result;
    call(binding, binding->on_notice, 1, &argument, &result);
  }
}

void tell_closed(Binding *binding) {
  if (!binding->any_closed.exchange(false))
    return;
  // By index: what is called may listen again.
  for (size_t i = 0; i < binding->servers.size(); i++) {
    Server *server = binding->servers[i].get();
    if (!server->closed || server->told)
      continue;
    server->told = true;
    notify(binding, static_cast<int32_t>(server->id));
  }
}

// One turn. True: JavaScript has left work undone.
bool take_turn(Binding *binding) {
  binding->out[VALK_OUT_IN_TURN] = 1;
  napi_value result;
  bool more = true;
  if (call(binding, binding->on_turn, 0, nullptr, &result))
    napi_get_value_bool(binding->env, result, &more);
  // All that this turn's handlers, ticks and microtasks have answered goes with one wake-up.
  if (binding->bridge != nullptr) {
    binding->out[VALK_OUT_IN_TURN] = 0;
    valk_bridge_flush(binding->bridge);
  }
  return more;
}

void run_javascript(void *data) {
  Binding *binding = static_cast<Binding *>(data);
  if (binding->bridge == nullptr || binding->closing)
    return;
  napi_handle_scope scope;
  if (napi_open_handle_scope(binding->env, &scope) != napi_ok)
    return;
  uint64_t end = uv_hrtime() + kSliceNs;
  valk_bridge_begin(binding->bridge);
  for (;;) {
    // Read first: what came before the engine had stopped is then still handled in this turn.
    bool stopped = binding->stopped;
    bool more = take_turn(binding);
    if (binding->bridge == nullptr || binding->closing)
      break;
    tell_closed(binding);
    if (binding->bridge == nullptr || binding->closing)
      break;
    if (!more && stopped) {
      shut_down(binding);
      notify(binding, kStopped);
      close_handles(binding);
      break;
    }
    if (!more && valk_bridge_sleep(binding->bridge))
      break;
    if (uv_hrtime() >= end) {
      // Not asleep: the engine sends no wake-up. The event loop serves the others and comes back.
      uv_async_send(&binding->async);
      break;
    }
  }
  napi_close_handle_scope(binding->env, scope);
}

void on_async(uv_async_t *async) {
  Binding *binding = static_cast<Binding *>(async->data);
  if (binding->host == nullptr)
    run_javascript(binding);
  else
    binding->host->turn(true);
}

} // namespace

#endif
