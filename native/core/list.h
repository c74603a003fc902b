/* An intrusive doubly linked list; a link that stands in no list points to itself, so leaving is
 * O(1) and may be repeated. */
#ifndef VALK_CORE_LIST_H
#define VALK_CORE_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct valk_link {
  struct valk_link *prev;
  struct valk_link *next;
} valk_link_t;

#define VALK_CONTAINER(link, type, member)                                                         \
  ((type *) (void *) ((char *) (link) -offsetof(type, member)))

static inline void valk__list_init(valk_link_t *link) {
  link->prev = link->next = link;
}

static inline bool valk__list_empty(const valk_link_t *list) {
  return list->next == list;
}

/* Whether |link| stands in some list. */
static inline bool valk__listed(const valk_link_t *link) {
  return link->next != link;
}

static inline void valk__list_append(valk_link_t *list, valk_link_t *link) {
  link->prev = list->prev;
  link->next = list;
  list->prev->next = link;
  list->prev = link;
}

static inline void valk__list_remove(valk_link_t *link) {
  link->prev->next = link->next;
  link->next->prev = link->prev;
  link->prev = link->next = link;
}

/* Moves all of |from| to the end of |to|. */
static inline void valk__list_splice(valk_link_t *to, valk_link_t *from) {
  if (valk__list_empty(from))
    return;
  from->next->prev = to->prev;
  to->prev->next = from->next;
  from->prev->next = to;
  to->prev = from->prev;
  valk__list_init(from);
}

#endif
