/* What the addon needs of its process and of valk.h's tables, without Node. */
#ifndef VALK_BINDING_PROCESS_H
#define VALK_BINDING_PROCESS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Something to end when the process exits, on the thread that added it: other threads end theirs by
 * themselves. */
typedef struct valk_at_exit {
  void (*end)(void *data); /* removes it */
  void *data;
  unsigned long thread;
  struct valk_at_exit *prev, *next;
} valk_at_exit_t;

void valk_at_exit_add(valk_at_exit_t *entry, void (*end)(void *data), void *data);
/* Does nothing when it was removed before. On the thread that added it. */
void valk_at_exit_remove(valk_at_exit_t *entry);

/* Lifts the soft limit of descriptors to |wanted|, as far as the hard one allows. UINT64_MAX: none.
 */
void valk_raise_descriptor_limit(uint64_t wanted, uint64_t *soft, uint64_t *hard);

/* The JavaScript names of valk_stats_t's numbers, in their order. Three histograms follow them,
 * each VALK_HISTOGRAM_SIZE counts and a sum: waiting, handler, writing. */
extern const char *const valk_stat_names[];
extern const size_t valk_stat_name_count;

#ifdef __cplusplus
}
#endif
#endif
