// Lending the engine the memory under a Uint8Array, in place of a copy. Part of addon.cc.
//
// A reference of Node-API keeps an ArrayBuffer, but not its memory: JavaScript may detach that,
// hand it to a worker and let it go while the engine reads it. V8's backing store can be held, from
// any thread and beyond all that, but Node-API has no name for it, and V8's headers would bind the
// addon to one version of Node. So the one function that is needed is looked up by its symbol, and
// tried before it is trusted: where it is missing or not what it was, nothing is lent and bodies
// are copied.
#ifndef VALK_BINDING_ADDON_LEND_H
#define VALK_BINDING_ADDON_LEND_H

#include <dlfcn.h>

#include <cstdlib>
#include <memory>
#include <new>

#include "addon_values.h"

namespace {

// v8::ArrayBuffer::GetBackingStore(): a napi_value is the address that V8's handles point to.
using Store = std::shared_ptr<void>;
using GetStore = Store (*)(napi_value);
// v8::BackingStore::Data()
using StoreData = void *(*) (void *);

// Null where it cannot be had.
GetStore find_get_store(napi_env env) {
  auto get =
      reinterpret_cast<GetStore>(dlsym(RTLD_DEFAULT, "_ZN2v811ArrayBuffer15GetBackingStoreEv"));
  auto data_of = reinterpret_cast<StoreData>(dlsym(RTLD_DEFAULT, "_ZNK2v812BackingStore4DataEv"));
  if (get == nullptr || data_of == nullptr)
    return nullptr;
  napi_value probe;
  void *data = nullptr;
  if (napi_create_arraybuffer(env, 64, &data, &probe) != napi_ok || data == nullptr)
    return nullptr;
  Store store = get(probe);
  return store != nullptr && store.use_count() >= 1 && data_of(store.get()) == data ? get : nullptr;
}

void release_store(void *owner) {
  delete static_cast<Store *>(owner);
}

struct Lendable {
  View view;
  Store *store = nullptr; // of release_store; null: it cannot be lent
};

// What of |value|, a Uint8Array over an ArrayBuffer of fixed length, can be lent.
Lendable lendable_of(napi_env env, GetStore get, napi_value value) {
  Lendable result;
  napi_typedarray_type type;
  void *data = nullptr;
  size_t length = 0;
  napi_value buffer;
  bool plain = false;
  if (get == nullptr ||
      napi_get_typedarray_info(env, value, &type, &length, &data, &buffer, nullptr) != napi_ok ||
      type != napi_uint8_array || data == nullptr || length > UINT32_MAX ||
      napi_is_arraybuffer(env, buffer, &plain) != napi_ok || !plain)
    return result;
  result.view.data = static_cast<uint8_t *>(data);
  result.view.length = length;
  result.store = new (std::nothrow) Store(get(buffer));
  return result;
}

} // namespace

#endif
