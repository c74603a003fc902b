// JavaScript values to and from the core's structs. Part of addon.cc.
#ifndef VALK_BINDING_ADDON_VALUES_H
#define VALK_BINDING_ADDON_VALUES_H

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#include <napi.h>
#pragma GCC diagnostic pop
#include <uv.h>

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "valk.h"

namespace {

struct View {
  uint8_t *data = nullptr;
  size_t length = 0;
};

// A Uint8Array's or Buffer's bytes as they are now: none when it was detached.
View view_of(napi_env env, napi_value value) {
  View view;
  napi_typedarray_type type;
  void *data = nullptr;
  size_t length = 0;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) == napi_ok &&
      type == napi_uint8_array && data != nullptr) {
    view.data = static_cast<uint8_t *>(data);
    view.length = length;
  }
  return view;
}

// { code, name, message }: the engine's number, the system's name for it ('' where it is the
// engine's own), a sentence.
Napi::Object failure(Napi::Env env, int status, const char *message) {
  Napi::Object result = Napi::Object::New(env);
  bool own = status <= VALK_ENOMEM && status >= VALK_ELIMIT;
  char name[32] = "";
  if (!own)
    uv_err_name_r(status, name, sizeof(name));
  result["code"] = status;
  result["name"] = name;
  result["message"] = *message != '\0' ? message : valk_strerror(status);
  return result;
}

valk_bytes_t bytes_of(const Napi::Object &object, const char *name) {
  Napi::Value value = object.Get(name);
  if (!value.IsTypedArray())
    return {nullptr, 0};
  View view = view_of(object.Env(), value);
  return {view.data, view.length};
}

std::string latin1_of(const Napi::Object &object, const char *name) {
  napi_value value = object.Get(name);
  size_t length = 0;
  napi_get_value_string_latin1(object.Env(), value, nullptr, 0, &length);
  std::string text(length, '\0');
  napi_get_value_string_latin1(object.Env(), value, text.data(), length + 1, &length);
  return text;
}

uint32_t number_of(const Napi::Object &object, const char *name) {
  return object.Get(name).As<Napi::Number>().Uint32Value();
}

// What of |raw| belongs to TLS, out of listen()'s or setSecureContext()'s object. Keeps the names;
// the bytes stay JavaScript's.
class SecureOptions {
public:
  void read(const Napi::Object &given, valk_server_options_t *raw) {
    valk_bytes_t key = bytes_of(given, "key"), certificate = bytes_of(given, "cert");
    valk_bytes_t ca = bytes_of(given, "ca");
    raw->key = reinterpret_cast<const char *>(key.data);
    raw->key_length = key.length;
    raw->certificate = reinterpret_cast<const char *>(certificate.data);
    raw->certificate_length = certificate.length;
    raw->ca = reinterpret_cast<const char *>(ca.data);
    raw->ca_length = ca.length;
    raw->request_certificate = given.Get("requestCert").As<Napi::Boolean>().Value();
    raw->reject_unauthorized = given.Get("rejectUnauthorized").As<Napi::Boolean>().Value();
    Napi::Array list = given.Get("contexts").As<Napi::Array>();
    names_.resize(list.Length());
    for (uint32_t i = 0; i < list.Length(); i++) {
      Napi::Object context = list.Get(i).As<Napi::Object>();
      names_[i] = latin1_of(context, "name");
      key = bytes_of(context, "key");
      certificate = bytes_of(context, "cert");
      contexts_.push_back({names_[i].c_str(), reinterpret_cast<const char *>(key.data), key.length,
                           reinterpret_cast<const char *>(certificate.data), certificate.length});
    }
    raw->contexts = contexts_.data();
    raw->context_count = contexts_.size();
  }

private:
  std::vector<std::string> names_;
  std::vector<valk_certificate_t> contexts_;
};

// valk_server_options_t out of listen()'s object, without consumer and data. Points into itself and
// into |given|.
struct ListenOptions {
  valk_server_options_t raw{};

  explicit ListenOptions(const Napi::Object &given)
      : host_(latin1_of(given, "host")), live_(latin1_of(given, "livePath")),
        ready_(latin1_of(given, "readyPath")) {
    Napi::Array list = given.Get("routes").As<Napi::Array>();
    texts_.resize(list.Length());
    for (uint32_t i = 0; i < list.Length(); i++) {
      Napi::Object route = list.Get(i).As<Napi::Object>();
      texts_[i] = {latin1_of(route, "path"), latin1_of(route, "fields")};
      valk_bytes_t body = bytes_of(route, "body");
      uint16_t status = static_cast<uint16_t>(number_of(route, "status"));
      routes_.push_back({texts_[i].path.c_str(), status, texts_[i].fields.data(),
                         texts_[i].fields.size(), body.data, body.length});
    }
    secure_.read(given, &raw);
    valk_bytes_t body503 = bytes_of(given, "error503Body");
    Napi::Value health_port = given.Get("healthPort");
    raw.host = host_.c_str();
    raw.port = static_cast<uint16_t>(number_of(given, "port"));
    raw.reuse_port = given.Get("reusePort").As<Napi::Boolean>().Value();
    raw.error_503_body = body503.data;
    raw.error_503_body_length = body503.length;
    raw.stream_bodies = given.Get("streamBodies").As<Napi::Boolean>().Value();
    raw.send_date = given.Get("sendDate").As<Napi::Boolean>().Value();
    raw.routes = routes_.data();
    raw.route_count = routes_.size();
    raw.live_path = live_.empty() ? nullptr : live_.c_str();
    raw.ready_path = ready_.empty() ? nullptr : ready_.c_str();
    raw.health_listener = health_port.IsNumber();
    if (raw.health_listener)
      raw.health_port = static_cast<uint16_t>(number_of(given, "healthPort"));
    raw.js_stall_timeout_ms = number_of(given, "jsStallTimeoutMs");
  }

private:
  struct Text {
    std::string path, fields;
  };
  SecureOptions secure_;
  std::string host_, live_, ready_;
  std::vector<Text> texts_;
  std::vector<valk_route_t> routes_;
};

struct ConfigField {
  const char *name;
  size_t offset;
  bool wide;
};

#define FIELD(name, member)                                                                        \
  { name, offsetof(valk_config_t, member), sizeof(valk_config_t::member) == sizeof(uint64_t) }
constexpr ConfigField kConfigFields[] = {
    FIELD("maxConnections", max_connections),
    FIELD("maxConcurrentStreams", max_concurrent_streams),
    FIELD("tcpBufferPoolSize", tcp_buffer_pool_size),
    FIELD("arenaPoolSize", arena_pool_size),
    FIELD("queueCapacity", queue_capacity),
    FIELD("ioThreads", io_threads),
    FIELD("maxOverflowArenas", max_overflow_arenas),
    FIELD("queueTimeoutMs", queue_timeout_ms),
    FIELD("handlerTimeoutMs", handler_timeout_ms),
    FIELD("handshakeTimeoutMs", handshake_timeout_ms),
    FIELD("idleTimeoutMs", idle_timeout_ms),
    FIELD("headersTimeoutMs", headers_timeout_ms),
    FIELD("bodyTimeoutMs", body_timeout_ms),
    FIELD("minBodyRate", min_body_rate),
    FIELD("writeTimeoutMs", write_timeout_ms),
    FIELD("maxHeaderListSize", max_header_list_size),
    FIELD("arenaSize", arena_size),
    FIELD("maxRequestBodySize", max_request_body_size),
    FIELD("connectionHeapSize", connection_heap_size),
};
#undef FIELD

valk_config_t config_of(const Napi::Object &given) {
  valk_config_t config{};
  for (const ConfigField &field : kConfigFields) {
    char *place = reinterpret_cast<char *>(&config) + field.offset;
    uint64_t number = static_cast<uint64_t>(given.Get(field.name).As<Napi::Number>().Int64Value());
    uint32_t narrow = static_cast<uint32_t>(number);
    std::memcpy(place, field.wide ? static_cast<void *>(&number) : &narrow,
                field.wide ? sizeof(number) : sizeof(narrow));
  }
  return config;
}

} // namespace

#endif
