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

// An object or array that JavaScript gave. What is not there, or cannot be had any more since the
// worker is being terminated, is nothing: 0, false, empty. node-addon-api's values would end the
// process then, since one that is missing has no environment to throw in.
class Given {
public:
  Given(napi_env env, napi_value value) : env_(env), value_(value) {}

  Given at(const char *name) const {
    napi_value value = nullptr;
    napi_get_named_property(env_, value_, name, &value);
    return {env_, value};
  }
  Given at(uint32_t index) const {
    napi_value value = nullptr;
    napi_get_element(env_, value_, index, &value);
    return {env_, value};
  }
  napi_value value() const { return value_; }
  // False: what was read of it just now may be nothing for want of a worker that goes on, and is
  // not to be acted upon. What can be read now could be read before.
  bool is_readable() const {
    bool has = false;
    return napi_has_named_property(env_, value_, "key", &has) == napi_ok;
  }
  // Of an array.
  uint32_t length() const {
    uint32_t length = 0;
    napi_get_array_length(env_, value_, &length);
    return length;
  }
  bool is_number() const {
    napi_valuetype type = napi_undefined;
    return napi_typeof(env_, value_, &type) == napi_ok && type == napi_number;
  }
  uint64_t number() const {
    int64_t number = 0;
    napi_get_value_int64(env_, value_, &number);
    return static_cast<uint64_t>(number);
  }
  uint32_t number32() const { return static_cast<uint32_t>(number()); }
  bool flag() const {
    bool flag = false;
    napi_get_value_bool(env_, value_, &flag);
    return flag;
  }
  std::string latin1() const {
    size_t length = 0;
    napi_get_value_string_latin1(env_, value_, nullptr, 0, &length);
    std::string text(length, '\0');
    if (length > 0)
      napi_get_value_string_latin1(env_, value_, text.data(), length + 1, &length);
    return text;
  }
  valk_bytes_t bytes() const {
    View view = view_of(env_, value_);
    return {view.data, view.length};
  }

private:
  napi_env env_;
  napi_value value_;
};

// What of |raw| belongs to TLS, out of listen()'s or setSecureContext()'s object. Keeps the names;
// the bytes stay JavaScript's.
class SecureOptions {
public:
  void read(const Given &given, valk_server_options_t *raw) {
    valk_bytes_t key = given.at("key").bytes(), certificate = given.at("cert").bytes();
    valk_bytes_t ca = given.at("ca").bytes();
    raw->key = reinterpret_cast<const char *>(key.data);
    raw->key_length = key.length;
    raw->certificate = reinterpret_cast<const char *>(certificate.data);
    raw->certificate_length = certificate.length;
    raw->ca = reinterpret_cast<const char *>(ca.data);
    raw->ca_length = ca.length;
    raw->request_certificate = given.at("requestCert").flag();
    raw->reject_unauthorized = given.at("rejectUnauthorized").flag();
    Given list = given.at("contexts");
    names_.resize(list.length());
    for (uint32_t i = 0; i < names_.size(); i++) {
      Given context = list.at(i);
      names_[i] = context.at("name").latin1();
      key = context.at("key").bytes();
      certificate = context.at("cert").bytes();
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

  explicit ListenOptions(const Given &given)
      : host_(given.at("host").latin1()), live_(given.at("livePath").latin1()),
        ready_(given.at("readyPath").latin1()) {
    Given list = given.at("routes");
    texts_.resize(list.length());
    for (uint32_t i = 0; i < texts_.size(); i++) {
      Given route = list.at(i);
      texts_[i] = {route.at("path").latin1(), route.at("fields").latin1()};
      valk_bytes_t body = route.at("body").bytes();
      uint16_t status = static_cast<uint16_t>(route.at("status").number());
      routes_.push_back({texts_[i].path.c_str(), status, texts_[i].fields.data(),
                         texts_[i].fields.size(), body.data, body.length});
    }
    secure_.read(given, &raw);
    valk_bytes_t body503 = given.at("error503Body").bytes();
    Given health_port = given.at("healthPort");
    raw.host = host_.c_str();
    raw.port = static_cast<uint16_t>(given.at("port").number());
    raw.reuse_port = given.at("reusePort").flag();
    raw.error_503_body = body503.data;
    raw.error_503_body_length = body503.length;
    raw.stream_bodies = given.at("streamBodies").flag();
    raw.send_date = given.at("sendDate").flag();
    raw.routes = routes_.data();
    raw.route_count = routes_.size();
    raw.live_path = live_.empty() ? nullptr : live_.c_str();
    raw.ready_path = ready_.empty() ? nullptr : ready_.c_str();
    raw.health_listener = health_port.is_number();
    if (raw.health_listener)
      raw.health_port = static_cast<uint16_t>(health_port.number());
    raw.js_stall_timeout_ms = given.at("jsStallTimeoutMs").number32();
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

valk_config_t config_of(const Given &given) {
  valk_config_t config{};
  for (const ConfigField &field : kConfigFields) {
    char *place = reinterpret_cast<char *>(&config) + field.offset;
    uint64_t number = given.at(field.name).number();
    uint32_t narrow = static_cast<uint32_t>(number);
    std::memcpy(place, field.wide ? static_cast<void *>(&number) : &narrow,
                field.wide ? sizeof(number) : sizeof(narrow));
  }
  return config;
}

} // namespace

#endif
