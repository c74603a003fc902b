// The Node-API side of the bridge: what an engine can be asked from JavaScript, and start(). This
// file and the headers that are parts of it are all of the project that knows Node.
#include "addon_binding.h"

#include <uv.h>

#include <cstdlib>
#include <cstring>
#include <memory>

#include "addon_host.h"
#include "addon_lend.h"
#include "addon_process.h"
#include "addon_values.h"
#include "bridge.h"
#include "process.h"

namespace {

// ---- functions of a running engine: the binding is their data; short, since some are called for
// each request. While a worker is terminated nearly every function of Node-API may fail, and leaves
// its result as it was ----

template <size_t count>
Binding *arguments_of(napi_env env, napi_callback_info info, napi_value (&values)[count]) {
  size_t given = count;
  void *data;
  napi_get_cb_info(env, info, &given, values, nullptr, &data);
  return static_cast<Binding *>(data);
}

uint32_t to_uint32(napi_env env, napi_value value) {
  uint32_t number = 0;
  napi_get_value_uint32(env, value, &number);
  return number;
}

napi_value from_int64(napi_env env, int64_t number) {
  napi_value value = nullptr;
  napi_create_int64(env, number, &value);
  return value;
}

Binding *without_arguments(napi_env env, napi_callback_info info) {
  void *data;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  return static_cast<Binding *>(data);
}

// flush(): hands over what is in the buffer of answers.
napi_value flush(napi_env env, napi_callback_info info) {
  Binding *binding = without_arguments(env, info);
  if (binding->bridge != nullptr)
    valk_bridge_flush(binding->bridge);
  return nullptr;
}

// unblock(): the rings have room again.
napi_value unblock(napi_env env, napi_callback_info info) {
  Binding *binding = without_arguments(env, info);
  if (binding->bridge != nullptr)
    valk_bridge_unblock(binding->bridge);
  return nullptr;
}

// takeEvents(): number of events that were put into the events' memory.
napi_value take_events(napi_env env, napi_callback_info info) {
  Binding *binding = without_arguments(env, info);
  uint32_t count = 0;
  if (binding->bridge != nullptr)
    count = valk_bridge_events(binding->bridge, binding->events, binding->event_most);
  return from_int64(env, count);
}

// takeBody(index, generation, target): fills |target| with the body; false: it is gone.
napi_value take_body(napi_env env, napi_callback_info info) {
  napi_value values[3];
  Binding *binding = arguments_of(env, info, values);
  void *target = nullptr;
  size_t length = 0;
  int status = VALK_ESTALE;
  if (binding->bridge != nullptr &&
      napi_get_arraybuffer_info(env, values[2], &target, &length) == napi_ok) {
    status = valk_bridge_body(binding->bridge, to_uint32(env, values[0]), to_uint32(env, values[1]),
                              static_cast<uint8_t *>(target), length);
  }
  napi_value result = nullptr;
  napi_get_boolean(env, status == 0, &result);
  return result;
}

// read(index, generation): bytes; undefined, none now; null, none any more; false, the request has
// ended.
napi_value read_body(napi_env env, napi_callback_info info) {
  napi_value values[2], buffer, result = nullptr;
  Binding *binding = arguments_of(env, info, values);
  uint32_t index = to_uint32(env, values[0]), generation = to_uint32(env, values[1]);
  int64_t readable = VALK_ESTALE;
  if (binding->bridge != nullptr)
    readable = valk_bridge_readable(binding->bridge, index, generation);
  if (readable == 0)
    return nullptr;
  if (readable == VALK_BRIDGE_ENDED) {
    napi_get_null(env, &result);
    return result;
  }
  void *bytes;
  size_t length = static_cast<size_t>(readable);
  if (readable > 0) {
    if (napi_create_arraybuffer(env, length, &bytes, &buffer) != napi_ok)
      return nullptr;
    if (valk_bridge_read(binding->bridge, index, generation, static_cast<uint8_t *>(bytes),
                         length) == 0) {
      napi_create_typedarray(env, napi_uint8_array, length, buffer, 0, &result);
      return result;
    }
  }
  napi_get_boolean(env, false, &result);
  return result;
}

// write(index, generation, bytes, offset): sends bytes from |offset| on; how many. 0, none now; -1,
// the request has ended; -2, there are no such bytes (any more), or no memory.
napi_value write_body(napi_env env, napi_callback_info info) {
  napi_value values[4];
  Binding *binding = arguments_of(env, info, values);
  if (binding->bridge == nullptr)
    return from_int64(env, -1);
  View bytes = view_of(env, values[2]);
  int64_t offset = 0;
  napi_get_value_int64(env, values[3], &offset);
  // In order: the answer's head may still lie there.
  valk_bridge_flush(binding->bridge);
  if (offset < 0 || static_cast<size_t>(offset) >= bytes.length)
    return from_int64(env, -2);
  int64_t taken =
      valk_bridge_write(binding->bridge, to_uint32(env, values[0]), to_uint32(env, values[1]),
                        bytes.data + offset, bytes.length - static_cast<size_t>(offset));
  return from_int64(env, taken >= 0 ? taken : taken == VALK_ESTALE ? -1 : -2);
}

// lend(bytes): lends them for the body of the next answer that says so; false: they have to be
// copied.
napi_value lend(napi_env env, napi_callback_info info) {
  napi_value values[1], result = nullptr;
  Binding *binding = arguments_of(env, info, values);
  bool lent = false;
  if (binding->bridge != nullptr) {
    Lendable body = lendable_of(env, binding->stores, values[0]);
    lent = body.store != nullptr && valk_bridge_lend(binding->bridge, body.view.data,
                                                     static_cast<uint32_t>(body.view.length),
                                                     release_store, body.store) == 0;
    if (!lent)
      release_store(body.store);
  }
  napi_get_boolean(env, lent, &result);
  return result;
}

// trailers(index, generation): as text, '' for none. They are given once.
napi_value trailers(napi_env env, napi_callback_info info) {
  napi_value values[2], result = nullptr;
  Binding *binding = arguments_of(env, info, values);
  size_t length = 0;
  char *text = nullptr;
  if (binding->bridge != nullptr) {
    text = valk_bridge_take_trailers(binding->bridge, to_uint32(env, values[0]),
                                     to_uint32(env, values[1]), &length);
  }
  napi_create_string_latin1(env, text == nullptr ? "" : text, length, &result);
  std::free(text);
  return result;
}

// ---- functions for seldom ----

Binding *binding_of(const Napi::CallbackInfo &info) {
  return static_cast<Binding *>(info.Data());
}

// peer(index, generation): what is known of the connection, a line each (lib/server-peer.ts), or
// with the client's certificate [lines, DER], or null. One string costs a sixth of an object's
// fields, and few handlers look.
Napi::Value peer(const Napi::CallbackInfo &info) {
  Binding *binding = binding_of(info);
  Napi::Env env = info.Env();
  const valk_peer_t *peer =
      binding->bridge == nullptr
          ? nullptr
          : valk_bridge_peer(binding->bridge, info[0].As<Napi::Number>().Uint32Value(),
                             info[1].As<Napi::Number>().Uint32Value());
  if (peer == nullptr)
    return env.Null();
  char lines[sizeof(valk_peer_t) + 256];
  int length = snprintf(
      lines, sizeof(lines), "%s\n%u\n%s\n%u\n%s\n%s\n%s\n%s", peer->remote_address,
      peer->remote_port, peer->local_address, peer->local_port, peer->tls_version, peer->tls_cipher,
      peer->authorization_error ? peer->authorization_error : "", peer->servername);
  Napi::String text = Napi::String::New(env, lines, static_cast<size_t>(length));
  if (peer->certificate == nullptr)
    return text;
  Napi::Array both = Napi::Array::New(env, 2);
  both[0u] = text;
  both[1u] = Napi::Buffer<uint8_t>::Copy(env, peer->certificate, peer->certificate_length);
  return both;
}

// listen(options): { port, healthPort } or a failure.
Napi::Value listen(const Napi::CallbackInfo &info) {
  Binding *binding = binding_of(info);
  Napi::Env env = info.Env();
  if (binding->system == nullptr)
    return failure(env, VALK_ESTOPPED, "");
  Given given(env, info[0]);
  auto server = std::make_unique<Server>();
  server->binding = binding;
  server->id = given.at("id").number32();
  ListenOptions options(given);
  if (!given.is_readable())
    return env.Undefined();
  options.raw.consumer = valk_bridge_consumer(binding->bridge);
  options.raw.data = valk_bridge_server_data(server->id, options.raw.stream_bodies);
  char message[512] = "";
  int status =
      valk_server_listen(binding->system, &options.raw, &server->server, message, sizeof(message));
  if (status != 0)
    return failure(env, status, message);
  Napi::Object result = Napi::Object::New(env);
  result["port"] = static_cast<double>(valk_server_port(server->server));
  result["healthPort"] = static_cast<double>(
      options.raw.health_listener ? valk_server_health_port(server->server) : 0);
  binding->servers.push_back(std::move(server));
  return result;
}

// setSecureContext(id, options): undefined or a failure.
Napi::Value set_secure_context(const Napi::CallbackInfo &info) {
  Binding *binding = binding_of(info);
  Napi::Env env = info.Env();
  uint32_t id = info[0].As<Napi::Number>().Uint32Value();
  if (binding->system != nullptr) {
    for (auto &server : binding->servers) {
      if (server->id != id)
        continue;
      valk_server_options_t raw{};
      SecureOptions options;
      Given given(env, info[1]);
      options.read(given, &raw);
      if (!given.is_readable())
        return env.Undefined();
      char message[512] = "";
      int status = valk_server_set_secure_context(server->server, &raw, message, sizeof(message));
      return status == 0 ? env.Undefined() : failure(env, status, message).As<Napi::Value>();
    }
  }
  return failure(env, VALK_ESTOPPED, "");
}

// unready(id): the server's ready path (-1: of all servers) answers 503 from now on.
void unready(const Napi::CallbackInfo &info) {
  Binding *binding = binding_of(info);
  int32_t id = info[0].As<Napi::Number>().Int32Value();
  if (binding->system == nullptr)
    return;
  if (id < 0)
    valk_server_unready(binding->system, nullptr);
  for (auto &server : binding->servers) {
    if (id >= 0 && server->id == static_cast<uint32_t>(id))
      valk_server_unready(binding->system, server->server);
  }
}

// close(id, timeoutMs): onNotice(id) follows, once, however often it is called.
void close_server(const Napi::CallbackInfo &info) {
  Binding *binding = binding_of(info);
  if (binding->system == nullptr)
    return;
  uint32_t id = info[0].As<Napi::Number>().Uint32Value();
  for (auto &server : binding->servers) {
    if (server->id != id)
      continue;
    valk_server_close(server->server, info[1].As<Napi::Number>().Uint32Value(), on_closed,
                      server.get());
  }
}

// stop(timeoutMs): onNotice(-1) follows when the engine's threads have ended. A later call may
// shorten the time.
void stop(const Napi::CallbackInfo &info) {
  Binding *binding = binding_of(info);
  if (binding->system == nullptr)
    return;
  valk_system_stop(binding->system, info[0].As<Napi::Number>().Uint32Value(), on_stopped, binding);
}

// setRef(alive): whether the binding keeps the event loop, and so the process, alive.
void set_ref(const Napi::CallbackInfo &info) {
  Binding *binding = binding_of(info);
  uv_handle_t *handle = reinterpret_cast<uv_handle_t *>(&binding->async);
  if (binding->closing)
    return;
  if (info[0].As<Napi::Boolean>().Value()) {
    uv_ref(handle);
  } else {
    uv_unref(handle);
  }
}

constexpr size_t kStatCount = sizeof(valk_stats_t) / sizeof(uint64_t);

// stats(target): fills a Float64Array in the order of statNames; after the engine's end, with what
// was so then.
void stats(const Napi::CallbackInfo &info) {
  Binding *binding = binding_of(info);
  napi_typedarray_type type;
  void *data = nullptr;
  size_t length = 0;
  if (napi_get_typedarray_info(info.Env(), info[0], &type, &length, &data, nullptr, nullptr) !=
          napi_ok ||
      type != napi_float64_array || length < kStatCount)
    return;
  valk_stats_t snapshot = binding->last;
  if (binding->system != nullptr)
    valk_system_stats(binding->system, &snapshot);
  uint64_t values[kStatCount];
  std::memcpy(values, &snapshot, sizeof(values));
  for (size_t i = 0; i < kStatCount; i++)
    static_cast<double *>(data)[i] = static_cast<double>(values[i]);
}

// ---- start ----

// The memory of a typed array that is kept alive until the binding closes.
template <typename Type>
Type *keep(Binding *binding, const Given &memory, const char *name, uint32_t *count) {
  napi_value value = memory.at(name).value();
  napi_typedarray_type type;
  void *data = nullptr;
  size_t length = 0;
  napi_ref reference;
  if (napi_get_typedarray_info(binding->env, value, &type, &length, &data, nullptr, nullptr) !=
          napi_ok ||
      napi_create_reference(binding->env, value, 1, &reference) != napi_ok) {
    return nullptr;
  }
  binding->memory.push_back(reference);
  *count = static_cast<uint32_t>(length);
  return static_cast<Type *>(data);
}

int start_engine(Binding *binding, const Given &given, char *message, size_t size) {
  valk_config_t config = config_of(given.at("config"));
  Given memory = given.at("memory");
  valk_bridge_options_t options{};
  uint32_t words = 0;
  options.control = keep<int32_t>(binding, memory, "control", &words);
  options.records = keep<int32_t>(binding, memory, "records", &options.record_count);
  options.record_count /= VALK_RECORD_WORDS;
  options.queue_capacity = config.queue_capacity;
  options.text = keep<uint8_t>(binding, memory, "text", &options.text_size);
  options.out = keep<uint8_t>(binding, memory, "out", &options.out_size);
  binding->out = reinterpret_cast<int32_t *>(options.out);
  binding->events = keep<int32_t>(binding, memory, "events", &binding->event_most);
  binding->event_most /= VALK_EVENT_WORDS;
  options.wake = wake;
  options.data = binding;
  if (words < VALK_BRIDGE_CONTROL_WORDS || options.record_count < config.queue_capacity ||
      options.text == nullptr || options.out == nullptr || binding->event_most == 0 ||
      !given.is_readable()) {
    return VALK_EINVAL;
  }
  int status = valk_system_start(&config, &binding->system, message, size);
  if (status != 0)
    return status;
  status = valk_bridge_new(binding->system, &options, &binding->bridge);
  if (status != 0) {
    valk_system_free(binding->system);
    binding->system = nullptr;
  }
  return status;
}

// Where it has no threads.
int host_engine(Binding *binding, uv_loop_t *loop) {
  if (valk_system_descriptor(binding->system) < 0)
    return 0;
  binding->host = std::make_unique<Host>();
  binding->handles += Host::kHandles;
  return binding->host->begin(loop, binding->system, run_javascript, binding);
}

void on_failed_closed(uv_handle_t *handle) {
  delete static_cast<Binding *>(handle->data);
}

void on_function_collected(napi_env, void *data, void *) {
  unref(static_cast<Binding *>(data));
}

void hold(Binding *binding, Napi::Object &target, const char *name, Napi::Function function) {
  if (napi_add_finalizer(binding->env, function, binding, on_function_collected, nullptr,
                         nullptr) == napi_ok) {
    binding->references++;
  }
  target.Set(name, function);
}

void add_hot(Binding *binding, Napi::Object &target, const char *name, napi_callback callback) {
  napi_value function = nullptr;
  napi_create_function(binding->env, name, NAPI_AUTO_LENGTH, callback, binding, &function);
  hold(binding, target, name, Napi::Function(binding->env, function));
}

template <typename Callable>
void add(Binding *binding, Napi::Object &target, const char *name, Callable callable) {
  hold(binding, target, name, Napi::Function::New(binding->env, callable, name, binding));
}

// start({ config, memory, onTurn, onNotice }): the functions above, or a failure.
Napi::Value start(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  Given given(env, info[0]);
  Binding *binding = new Binding;
  binding->env = env;
  char message[512] = "";
  uv_loop_t *loop;
  bool has_async = false;
  int status = napi_get_uv_event_loop(env, &loop) == napi_ok
                   ? start_engine(binding, given, message, sizeof(message))
                   : VALK_EINVAL;
  if (status == 0) {
    // The engine calls wake() only once a server listens, so the async may come after it.
    status = uv_async_init(loop, &binding->async, on_async);
    has_async = status == 0;
    if (has_async)
      status = host_engine(binding, loop);
    if (status != 0) {
      valk_bridge_free(binding->bridge);
      valk_system_free(binding->system);
      binding->bridge = nullptr;
    }
  }
  binding->async.data = binding;
  if (status != 0) {
    for (napi_ref reference : binding->memory)
      napi_delete_reference(env, reference);
    if (has_async)
      uv_close(reinterpret_cast<uv_handle_t *>(&binding->async), on_failed_closed);
    else
      delete binding;
    return failure(env, status, message);
  }
  binding->stores = find_stores(env);
  uv_unref(reinterpret_cast<uv_handle_t *>(&binding->async));
  Napi::Object functions = Napi::Object::New(env);
  napi_create_reference(env, given.at("onTurn").value(), 1, &binding->on_turn);
  napi_create_reference(env, given.at("onNotice").value(), 1, &binding->on_notice);
  napi_create_reference(env, functions, 1, &binding->receiver);
  napi_async_init(env, functions, Napi::String::New(env, "valk-aio"), &binding->context);
  napi_add_async_cleanup_hook(env, on_cleanup, binding, &binding->hook);
  valk_at_exit_add(&binding->at_exit, shut_down, binding);
  add_hot(binding, functions, "flush", flush);
  add_hot(binding, functions, "unblock", unblock);
  add_hot(binding, functions, "takeEvents", take_events);
  add_hot(binding, functions, "takeBody", take_body);
  add_hot(binding, functions, "read", read_body);
  add_hot(binding, functions, "write", write_body);
  add_hot(binding, functions, "lend", lend);
  add_hot(binding, functions, "trailers", trailers);
  add(binding, functions, "peer", peer);
  add(binding, functions, "listen", listen);
  add(binding, functions, "setSecureContext", set_secure_context);
  add(binding, functions, "unready", unready);
  add(binding, functions, "close", close_server);
  add(binding, functions, "stop", stop);
  add(binding, functions, "setRef", set_ref);
  add(binding, functions, "stats", stats);
  return functions;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  Napi::Array names = Napi::Array::New(env, valk_stat_name_count);
  for (uint32_t i = 0; i < valk_stat_name_count; i++)
    names[i] = valk_stat_names[i];
  exports["statNames"] = names;
  exports["histogramSize"] = static_cast<double>(VALK_HISTOGRAM_SIZE);
  exports["start"] = Napi::Function::New(env, start, "start");
  exports["raiseDescriptorLimit"] =
      Napi::Function::New(env, raise_descriptor_limit, "raiseDescriptorLimit");
  exports["versions"] = Napi::Function::New(env, versions, "versions");
  return exports;
}

} // namespace

NODE_API_MODULE(valk_aio, init)
