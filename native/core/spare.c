#include "spare.h"

#include <stdlib.h>

static size_t class_of(size_t size) {
  return (size + VALK_SPARE_STEP - VALK_SPARE_OVERHEAD - 1) / VALK_SPARE_STEP;
}

static size_t bytes_of(size_t class) {
  return (class + 1) * VALK_SPARE_STEP;
}

void *valk__spare_get(valk_spares_t *spares, size_t size) {
  if (spares == NULL || size > VALK_SPARE_MOST)
    return NULL;
  size_t class = class_of(size);
  void *block = spares->lists[class];
  if (block != NULL) {
    spares->lists[class] = *(void **) block;
    spares->bytes -= bytes_of(class);
  }
  return block;
}

bool valk__spare_put(valk_spares_t *spares, void *block, size_t size) {
  if (spares == NULL || size > VALK_SPARE_MOST)
    return false;
  size_t class = class_of(size);
  if (bytes_of(class) > VALK_SPARES_BYTES - spares->bytes)
    return false;
  *(void **) block = spares->lists[class];
  spares->lists[class] = block;
  spares->bytes += bytes_of(class);
  return true;
}

void valk__spares_trim(valk_spares_t *spares) {
  for (size_t class = 0; class < VALK_SPARE_CLASSES; class ++) {
    while (spares->lists[class] != NULL) {
      void *block = spares->lists[class];
      spares->lists[class] = *(void **) block;
      free(block);
    }
  }
  spares->bytes = 0;
}
