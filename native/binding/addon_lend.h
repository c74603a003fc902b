// Lending the engine the memory under a Uint8Array, in place of a copy. Part of addon.cc.
//
// A reference of Node-API keeps an ArrayBuffer, but not its memory: JavaScript may detach that,
// hand it to a worker and let it go while the engine reads it. V8's backing store can be held, from
// any thread and beyond all that, but Node-API has no name for it, and V8's headers would bind the
// addon to one version of Node. So the functions that are needed are looked up by their symbols,
// and tried before they are trusted: where they are missing or not what they were, nothing is lent
// and bodies are copied.
#ifndef VALK_BINDING_ADDON_LEND_H
#define VALK_BINDING_ADDON_LEND_H

#include <dlfcn.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

#include "addon_values.h"

namespace {

using Store = std::shared_ptr<void>;

struct Stores {
  // v8::ArrayBuffer::GetBackingStore(): a napi_value is the address that V8's handles point to.
  // Null: nothing can be lent.
  Store (*get)(napi_value) = nullptr;
  // v8::BackingStore::IsResizableByUserJavaScript(): memory that shrinks goes back to the system.
  bool (*is_resizable)(const void *) = nullptr;
};

template <typename Function> void find_symbol(const char *name, Function *function) {
  *function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
}

Stores find_stores(napi_env env) {
  Stores stores;
  void *(*data_of)(const void *); // v8::BackingStore::Data()
  find_symbol("_ZN2v811ArrayBuffer15GetBackingStoreEv", &stores.get);
  find_symbol("_ZNK2v812BackingStore27IsResizableByUserJavaScriptEv", &stores.is_resizable);
  find_symbol("_ZNK2v812BackingStore4DataEv", &data_of);
  napi_value probe;
  void *data = nullptr;
  if (stores.get == nullptr || stores.is_resizable == nullptr || data_of == nullptr ||
      napi_create_arraybuffer(env, 64, &data, &probe) != napi_ok || data == nullptr)
    return {};
  Store store = stores.get(probe);
  bool known = store != nullptr && store.use_count() >= 1 && data_of(store.get()) == data &&
               !stores.is_resizable(store.get());
  return known ? stores : Stores{};
}

void release_store(void *owner) {
  delete static_cast<Store *>(owner);
}

struct Lendable {
  View view;
  Store *store = nullptr; // of release_store; null: it cannot be lent
};

// What of |value|, a Uint8Array over an ArrayBuffer of fixed length, can be lent.
Lendable lendable_of(napi_env env, const Stores &stores, napi_value value) {
  Lendable result;
  napi_typedarray_type type;
  void *data = nullptr;
  size_t length = 0;
  napi_value buffer;
  bool plain = false;
  if (stores.get == nullptr ||
      napi_get_typedarray_info(env, value, &type, &length, &data, &buffer, nullptr) != napi_ok ||
      type != napi_uint8_array || data == nullptr || length > UINT32_MAX ||
      napi_is_arraybuffer(env, buffer, &plain) != napi_ok || !plain)
    return result;
  Store store = stores.get(buffer);
  if (store == nullptr || stores.is_resizable(store.get()))
    return result;
  result.view.data = static_cast<uint8_t *>(data);
  result.view.length = length;
  result.store = new (std::nothrow) Store(std::move(store));
  return result;
}

} // namespace

#endif
