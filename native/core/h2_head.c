/* A request's head, and its trailers, as the text of valk_head_t: built field by field from what
 * nghttp2 decodes, with no memory of its own while a block arrives in one piece. */
#include <string.h>

#include "h2_internal.h"

/* Holds a list of the size that is usually allowed, twice; a longer one moves to the ledger. */
#define SCRATCH_SIZE 73728u
static _Thread_local char scratch[SCRATCH_SIZE];

/* ---- authority and path ---- */

enum { PATH_NEVER = 1, HOST_NEVER = 2, IPV6 = 4, DIGIT = 8 };

/* HOST_NEVER: WHATWG's forbidden host code points, less '%' (a percent-encoded host may parse) and
 * ':' (ends the host). */
static const uint8_t kinds[256] = {
    [0 ... 0x20] = PATH_NEVER | HOST_NEVER,
    [0x7f] = PATH_NEVER | HOST_NEVER,
    ['#'] = PATH_NEVER | HOST_NEVER,
    ['/'] = HOST_NEVER,
    ['<'] = HOST_NEVER,
    ['>'] = HOST_NEVER,
    ['?'] = HOST_NEVER,
    ['@'] = HOST_NEVER,
    ['['] = HOST_NEVER,
    ['\\'] = HOST_NEVER,
    [']'] = HOST_NEVER,
    ['^'] = HOST_NEVER,
    ['|'] = HOST_NEVER,
    ['0' ... '9'] = IPV6 | DIGIT,
    ['A' ... 'F'] = IPV6,
    ['a' ... 'f'] = IPV6,
    [':'] = IPV6,
    ['.'] = IPV6,
};

static bool is(char c, uint8_t kind) {
  return (kinds[(uint8_t) c] & kind) != 0;
}

bool valk__h2_authority_valid(const char *text, size_t length) {
  const char *at = text, *end = text + length;
  if (at < end && *at == '[') {
    for (at++; at < end && is(*at, IPV6); at++) {
    }
    if (at - text < 3 || at == end || *at != ']')
      return false;
    at++;
  } else {
    for (; at < end && *at != ':'; at++) {
      if (is(*at, HOST_NEVER))
        return false;
    }
    if (at == text)
      return false;
  }
  if (at == end)
    return true;
  if (*at != ':')
    return false;
  uint32_t port = 0;
  for (at++; at < end; at++) {
    if (!is(*at, DIGIT))
      return false;
    port = port * 10 + (uint32_t) (*at - '0');
    if (port > 65535)
      return false;
  }
  return true; /* an empty port stands for the scheme's */
}

bool valk__h2_path_valid(const char *text, size_t length, bool options) {
  if (length == 1 && text[0] == '*')
    return options;
  if (length == 0 || text[0] != '/')
    return false;
  for (size_t i = 1; i < length; i++) {
    if (is(text[i], PATH_NEVER))
      return false;
  }
  return true;
}

/* In any case, whatever the locale. */
static bool same_text(const char *left, const char *right, size_t length) {
  for (size_t i = 0; i < length; i++) {
    char a = left[i], b = right[i];
    if (a >= 'A' && a <= 'Z')
      a = (char) (a | 0x20);
    if (b >= 'A' && b <= 'Z')
      b = (char) (b | 0x20);
    if (a != b)
      return false;
  }
  return true;
}

/* ---- the text ---- */

/* Room for |size| bytes more. */
static bool make_room(valk_h2_t *h2, size_t size) {
  valk__h2_head_t *head = &h2->head;
  if (size <= head->capacity - head->length)
    return true;
  uint32_t capacity = head->length + (uint32_t) size;
  capacity += capacity / 2;
  char *text = valk_ledger_realloc(h2->ledger, head->spilled ? head->text : NULL, capacity);
  if (text == NULL)
    return false;
  if (!head->spilled)
    memcpy(text, head->text, head->length);
  head->spilled = true;
  head->text = text;
  head->capacity = capacity;
  return true;
}

/* |bytes| and '\n' at the end; the caller made room. Returns where they begin. */
static uint32_t append(valk__h2_head_t *head, const uint8_t *bytes, size_t length) {
  uint32_t at = head->length;
  memcpy(head->text + at, bytes, length);
  head->text[at + length] = '\n';
  head->length = at + (uint32_t) length + 1;
  return at;
}

/* |length| bytes of room at |at|, which moves what stands there. The caller made room. */
static void open_gap(valk__h2_head_t *head, uint32_t at, size_t length) {
  memmove(head->text + at + length, head->text + at, head->length - at);
  head->length += (uint32_t) length;
}

static bool write_pseudo(valk_h2_t *h2) {
  valk__h2_head_t *head = &h2->head;
  nghttp2_vec values[VALK__PSEUDO_COUNT] = {{NULL, 0}};
  size_t size = 0;
  for (int i = 0; i < VALK__PSEUDO_COUNT; i++) {
    if (head->pseudo[i] != NULL)
      values[i] = nghttp2_rcbuf_get_buf(head->pseudo[i]);
    size += values[i].len + 1;
  }
  head->begun = true;
  if (!make_room(h2, size))
    return false;
  for (int i = 0; i < VALK__PSEUDO_COUNT; i++) {
    head->size[i] = (uint32_t) values[i].len;
    head->at[i] =
        append(head, values[i].len > 0 ? values[i].base : (const uint8_t *) "", values[i].len);
  }
  return true;
}

/* Crumbs are joined where the first one stands (RFC 9113 section 8.2.3). */
static bool add_crumb(valk_h2_t *h2, nghttp2_vec value) {
  valk__h2_head_t *head = &h2->head;
  if (!make_room(h2, value.len + 2))
    return false;
  open_gap(head, head->cookie_end, value.len + 2);
  char *to = head->text + head->cookie_end;
  to[0] = ';';
  to[1] = ' ';
  memcpy(to + 2, value.base, value.len);
  if (head->host_at > head->cookie_end)
    head->host_at += (uint32_t) value.len + 2;
  head->cookie_end += (uint32_t) value.len + 2;
  return true;
}

static bool add_field(valk_h2_t *h2, nghttp2_vec name, nghttp2_vec value) {
  valk__h2_head_t *head = &h2->head;
  if (!head->begun && !write_pseudo(h2))
    return false;
  bool cookie = name.len == 6 && memcmp(name.base, "cookie", 6) == 0;
  if (cookie && head->cookie_end > 0)
    return add_crumb(h2, value);
  if (!make_room(h2, name.len + value.len + 2))
    return false;
  append(head, name.base, name.len);
  uint32_t at = append(head, value.base, value.len);
  head->fields++;
  if (cookie) {
    head->cookie_end = at + (uint32_t) value.len;
  } else if (name.len == 4 && memcmp(name.base, "host", 4) == 0) {
    head->host_at = at;
    head->host_size = (uint32_t) value.len;
  } else if (name.len == 14 && memcmp(name.base, "content-length", 14) == 0 && !head->trailers) {
    /* nghttp2 lets through digits that fit, once. */
    head->content_length = 0;
    for (size_t i = 0; i < value.len; i++)
      head->content_length = head->content_length * 10 + (value.base[i] - '0');
  } else if (name.len == 6 && memcmp(name.base, "expect", 6) == 0) {
    head->expects_continue |=
        value.len == 12 && same_text((const char *) value.base, "100-continue", 12);
  }
  return true;
}

static int pseudo_place(nghttp2_vec name) {
  switch (name.len) {
  case 5:
    return VALK__PATH;
  case 7:
    return name.base[1] == 'm' ? VALK__METHOD : VALK__SCHEME;
  case 10:
    return VALK__AUTHORITY;
  default:
    return -1; /* :protocol, which nghttp2 refuses while we do not offer it */
  }
}

/* ---- a block ---- */

int valk__h2_head_begin(valk_h2_t *h2, int32_t stream_id, bool trailers) {
  valk__h2_head_drop(h2);
  valk__h2_head_t *head = &h2->head;
  memset(head, 0, sizeof(*head));
  head->stream_id = stream_id;
  head->trailers = head->begun = trailers;
  head->text = scratch;
  head->capacity = SCRATCH_SIZE;
  head->content_length = -1;
  return 0;
}

/* A limit was passed. Of a head the rest is decoded and dropped, and the request answered; trailers
 * have no answer. */
static int pass_limit(valk_h2_t *h2) {
  valk__h2_head_t *head = &h2->head;
  head->overflow = true;
  if (!head->trailers)
    return 0;
  int32_t stream_id = head->stream_id;
  valk__h2_head_drop(h2);
  int error = nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, stream_id,
                                        NGHTTP2_ENHANCE_YOUR_CALM);
  if (nghttp2_is_fatal(error))
    return valk__h2_stop(h2, VALK_H2_MEMORY);
  return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* no field of it is given to us any more */
}

int valk__h2_head_field(valk_h2_t *h2, nghttp2_rcbuf *name_buffer, nghttp2_rcbuf *value_buffer) {
  valk__h2_head_t *head = &h2->head;
  nghttp2_vec name = nghttp2_rcbuf_get_buf(name_buffer);
  nghttp2_vec value = nghttp2_rcbuf_get_buf(value_buffer);
  uint64_t limit = h2->options.max_header_list_size;
  head->list_size += name.len + value.len + 32;
  if (head->list_size > limit) {
    if (head->list_size > VALK__H2_LIST_MAX && head->list_size > 2 * limit)
      return valk__h2_stop(h2, VALK_H2_FLOOD);
    return head->overflow ? 0 : pass_limit(h2);
  }
  if (head->overflow)
    return 0;
  if (name.base[0] == ':') {
    int place = pseudo_place(name);
    if (place >= 0 && head->pseudo[place] == NULL) {
      head->pseudo[place] = value_buffer;
      nghttp2_rcbuf_incref(value_buffer);
    }
    return 0;
  }
  bool crumb = head->cookie_end > 0 && name.len == 6 && memcmp(name.base, "cookie", 6) == 0;
  if (!crumb && ++head->lines > h2->options.max_header_fields)
    return pass_limit(h2);
  return add_field(h2, name, value) ? 0 : valk__h2_stop(h2, VALK_H2_MEMORY);
}

void valk__h2_head_drop(valk_h2_t *h2) {
  valk__h2_head_t *head = &h2->head;
  if (head->stream_id == 0)
    return;
  for (int i = 0; i < VALK__PSEUDO_COUNT; i++) {
    if (head->pseudo[i] != NULL)
      nghttp2_rcbuf_decref(head->pseudo[i]);
  }
  if (head->spilled)
    valk_ledger_free(head->text);
  head->stream_id = 0;
}

bool valk__h2_head_keep(valk_h2_t *h2) {
  valk__h2_head_t *head = &h2->head;
  if (head->stream_id == 0 || head->spilled)
    return true;
  uint32_t capacity = head->length + 512;
  char *text = valk_ledger_malloc(h2->ledger, capacity);
  if (text == NULL)
    return false;
  memcpy(text, head->text, head->length);
  head->text = text;
  head->capacity = capacity;
  head->spilled = true;
  return true;
}

/* The authority of a request without :authority is its host field's (section 8.3.1). */
static bool take_host(valk_h2_t *h2) {
  valk__h2_head_t *head = &h2->head;
  if (!make_room(h2, head->host_size))
    return false;
  open_gap(head, head->at[VALK__AUTHORITY], head->host_size);
  head->host_at += head->host_size;
  head->at[VALK__PATH] += head->host_size;
  memcpy(head->text + head->at[VALK__AUTHORITY], head->text + head->host_at, head->host_size);
  head->size[VALK__AUTHORITY] = head->host_size;
  return true;
}

static int find_problem(const valk__h2_head_t *head) {
  if (head->overflow)
    return 431;
  const char *method = head->text;
  const char *authority = head->text + head->at[VALK__AUTHORITY];
  uint32_t method_size = head->size[VALK__METHOD], authority_size = head->size[VALK__AUTHORITY];
  bool options = method_size == 7 && memcmp(method, "OPTIONS", 7) == 0;
  /* CONNECT has no path, so it ends here. */
  if (!valk__h2_path_valid(head->text + head->at[VALK__PATH], head->size[VALK__PATH], options) ||
      !valk__h2_authority_valid(authority, authority_size))
    return 400;
  if (head->host_size > 0 && (head->host_size != authority_size ||
                              !same_text(head->text + head->host_at, authority, authority_size)))
    return 400;
  return 0;
}

static int end_trailers(valk_h2_t *h2) {
  valk__h2_head_t *head = &h2->head;
  valk__h2_stream_t *stream = valk__h2_find(h2, head->stream_id);
  if (stream != NULL) {
    stream->ended = true; /* nghttp2 takes no trailers without END_STREAM */
    if (!stream->resetting && !stream->reset_after_end) {
      valk_bytes_t trailers = {(const uint8_t *) head->text, head->length};
      h2->events->on_end(h2->data, stream->owner, trailers);
    }
  }
  valk__h2_head_drop(h2);
  return 0;
}

int valk__h2_head_end(valk_h2_t *h2, bool end_stream) {
  valk__h2_head_t *head = &h2->head;
  if (head->trailers)
    return end_trailers(h2);
  if ((!head->begun && !write_pseudo(h2)) ||
      (head->size[VALK__AUTHORITY] == 0 && head->host_size > 0 && !take_host(h2)))
    return valk__h2_stop(h2, VALK_H2_MEMORY);
  int32_t stream_id = head->stream_id;
  valk__h2_stream_t *stream = valk__h2_add(h2, stream_id);
  if (stream == NULL)
    return valk__h2_stop(h2, VALK_H2_MEMORY);
  stream->ended = end_stream;
  valk__h2_limits_request(h2);
  valk_head_t given = {head->text, head->length, head->fields, head->content_length,
                       head->expects_continue};
  void *owner = h2->events->on_request(h2->data, stream_id, &given, end_stream, find_problem(head));
  valk__h2_head_drop(h2);
  if (owner == NULL) {
    h2->counts.refused++;
    valk__h2_reset_now(h2, stream_id, NGHTTP2_REFUSED_STREAM);
  } else {
    stream->owner = owner;
    h2->open++;
  }
  return 0;
}
