// What JavaScript asks of the process and not of an engine. Part of addon.cc.
#ifndef VALK_BINDING_ADDON_PROCESS_H
#define VALK_BINDING_ADDON_PROCESS_H

#include <napi.h>

#include <cmath>

#include "process.h"
#include "valk.h"

namespace {

// raiseDescriptorLimit(wanted): lifts the soft limit as far as the hard one allows; [soft, hard],
// Infinity for none.
Napi::Value raise_descriptor_limit(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  uint64_t limits[2];
  uint64_t wanted = static_cast<uint64_t>(info[0].As<Napi::Number>().Int64Value());
  valk_raise_descriptor_limit(wanted, &limits[0], &limits[1]);
  Napi::Array result = Napi::Array::New(env, 2);
  for (uint32_t i = 0; i < 2; i++) {
    result[i] = limits[i] == UINT64_MAX ? HUGE_VAL : static_cast<double>(limits[i]);
  }
  return result;
}

Napi::Value versions(const Napi::CallbackInfo &info) {
  valk_versions_t versions;
  valk_versions(&versions);
  Napi::Object result = Napi::Object::New(info.Env());
  result["opensslCompiled"] = versions.openssl_compiled;
  result["opensslRuntime"] = versions.openssl_runtime;
  result["nghttp2Compiled"] = versions.nghttp2_compiled;
  result["nghttp2Runtime"] = versions.nghttp2_runtime;
  result["uvRuntime"] = versions.uv_runtime;
  return result;
}

} // namespace

#endif
