#include "h2_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void give_up(const char *why) {
  fprintf(stderr, "h2_client: %s\n", why);
  abort();
}

void h2_bytes_add(h2_bytes_t *bytes, const void *data, size_t length) {
  if (bytes->capacity - bytes->length < length + 1) {
    bytes->capacity = (bytes->length + length + 1) * 2;
    bytes->data = realloc(bytes->data, bytes->capacity);
    if (bytes->data == NULL)
      give_up("no memory");
  }
  if (length > 0)
    memcpy(bytes->data + bytes->length, data, length);
  bytes->length += length;
  bytes->data[bytes->length] = '\0';
}

void h2_bytes_free(h2_bytes_t *bytes) {
  free(bytes->data);
  memset(bytes, 0, sizeof(*bytes));
}

const char *h2_text(const h2_bytes_t *bytes) {
  return bytes->data == NULL ? "" : (const char *) bytes->data;
}

/* ---- writing ---- */

static void add_u32(h2_bytes_t *out, uint32_t value) {
  uint8_t bytes[4] = {(uint8_t) (value >> 24), (uint8_t) (value >> 16), (uint8_t) (value >> 8),
                      (uint8_t) value};
  h2_bytes_add(out, bytes, sizeof(bytes));
}

void h2_frame(h2_bytes_t *out, unsigned type, unsigned flags, int32_t stream_id,
              const void *payload, size_t length) {
  uint8_t head[5] = {(uint8_t) (length >> 16), (uint8_t) (length >> 8), (uint8_t) length,
                     (uint8_t) type, (uint8_t) flags};
  h2_bytes_add(out, head, sizeof(head));
  add_u32(out, (uint32_t) stream_id);
  h2_bytes_add(out, payload, length);
}

void h2_setting(h2_bytes_t *out, unsigned id, uint32_t value) {
  uint8_t payload[6] = {(uint8_t) (id >> 8),     (uint8_t) id,           (uint8_t) (value >> 24),
                        (uint8_t) (value >> 16), (uint8_t) (value >> 8), (uint8_t) value};
  h2_frame(out, NGHTTP2_SETTINGS, 0, 0, payload, sizeof(payload));
}

void h2_preface(h2_bytes_t *out, uint32_t window) {
  h2_bytes_add(out, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
  if (window == 0) {
    h2_frame(out, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
  } else {
    h2_setting(out, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window);
  }
}

void h2_settings_ack(h2_bytes_t *out) {
  h2_frame(out, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, NULL, 0);
}

static void u32_frame(h2_bytes_t *out, unsigned type, int32_t stream_id, uint32_t value) {
  uint8_t payload[4] = {(uint8_t) (value >> 24), (uint8_t) (value >> 16), (uint8_t) (value >> 8),
                        (uint8_t) value};
  h2_frame(out, type, 0, stream_id, payload, sizeof(payload));
}

void h2_window_update(h2_bytes_t *out, int32_t stream_id, uint32_t increment) {
  u32_frame(out, NGHTTP2_WINDOW_UPDATE, stream_id, increment);
}

void h2_rst_stream(h2_bytes_t *out, int32_t stream_id, uint32_t code) {
  u32_frame(out, NGHTTP2_RST_STREAM, stream_id, code);
}

void h2_data(h2_bytes_t *out, int32_t stream_id, const void *data, size_t length, bool end) {
  h2_frame(out, NGHTTP2_DATA, end ? NGHTTP2_FLAG_END_STREAM : 0, stream_id, data, length);
}

void h2_data_fill(h2_bytes_t *out, int32_t stream_id, size_t length, bool end) {
  static uint8_t fill[16384];
  memset(fill, 'd', sizeof(fill));
  do {
    size_t piece = length < sizeof(fill) ? length : sizeof(fill);
    length -= piece;
    h2_data(out, stream_id, fill, piece, end && length == 0);
  } while (length > 0);
}

/* RFC 7541 section 5.2, without Huffman coding. */
static void add_string(h2_bytes_t *out, const char *text, size_t length) {
  uint8_t bytes[8];
  size_t count = 0;
  if (length < 127) {
    bytes[count++] = (uint8_t) length;
  } else {
    size_t rest = length - 127;
    bytes[count++] = 127;
    for (; rest >= 128; rest >>= 7)
      bytes[count++] = (uint8_t) (0x80 | (rest & 0x7f));
    bytes[count++] = (uint8_t) rest;
  }
  h2_bytes_add(out, bytes, count);
  h2_bytes_add(out, text, length);
}

void h2_block(h2_bytes_t *out, const char *fields, bool index) {
  for (const char *at = fields; *at != '\0';) {
    const char *name_end = strchr(at, '\n');
    const char *value_end = name_end == NULL ? NULL : strchr(name_end + 1, '\n');
    if (value_end == NULL)
      give_up("fields must be pairs of lines");
    h2_bytes_add(out, index ? "\x40" : "\0", 1);
    add_string(out, at, (size_t) (name_end - at));
    add_string(out, name_end + 1, (size_t) (value_end - name_end - 1));
    at = value_end + 1;
  }
}

void h2_headers(h2_bytes_t *out, int32_t stream_id, const char *fields, bool end) {
  h2_bytes_t block = {0};
  h2_block(&block, fields, false);
  h2_frame(out, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | (end ? NGHTTP2_FLAG_END_STREAM : 0),
           stream_id, block.data, block.length);
  h2_bytes_free(&block);
}

void h2_get(h2_bytes_t *out, int32_t stream_id) {
  h2_headers(out, stream_id, ":method\nGET\n:scheme\nhttps\n:authority\nexample.com\n:path\n/\n",
             true);
}

void h2_post(h2_bytes_t *out, int32_t stream_id, const char *more_fields) {
  h2_bytes_t fields = {0};
  const char *head = ":method\nPOST\n:scheme\nhttps\n:authority\nexample.com\n:path\n/\n";
  h2_bytes_add(&fields, head, strlen(head));
  h2_bytes_add(&fields, more_fields, strlen(more_fields));
  h2_headers(out, stream_id, h2_text(&fields), false);
  h2_bytes_free(&fields);
}

/* ---- reading ---- */

void h2_client_init(h2_client_t *client) {
  memset(client, 0, sizeof(*client));
  if (nghttp2_hd_inflate_new(&client->inflater) != 0)
    give_up("no memory");
}

void h2_client_deinit(h2_client_t *client) {
  nghttp2_hd_inflate_del(client->inflater);
  for (size_t i = 0; i < client->frame_count; i++)
    free(client->frames[i].payload);
  for (size_t i = 0; i < client->answer_count; i++) {
    h2_answer_t *answer = &client->answers[i];
    h2_bytes_free(&answer->interim);
    h2_bytes_free(&answer->fields);
    h2_bytes_free(&answer->body);
    h2_bytes_free(&answer->trailers);
  }
  free(client->frames);
  free(client->answers);
  h2_bytes_free(&client->input);
  h2_bytes_free(&client->block);
  memset(client, 0, sizeof(*client));
}

h2_answer_t *h2_answer(h2_client_t *client, int32_t stream_id) {
  size_t place = (size_t) (stream_id / 2);
  if (stream_id <= 0 || stream_id % 2 == 0)
    give_up("not a client's stream");
  if (place >= client->answer_count) {
    size_t count = (place + 1) * 2;
    client->answers = realloc(client->answers, count * sizeof(h2_answer_t));
    if (client->answers == NULL)
      give_up("no memory");
    memset(client->answers + client->answer_count, 0,
           (count - client->answer_count) * sizeof(h2_answer_t));
    client->answer_count = count;
  }
  return &client->answers[place];
}

static void take_block(h2_client_t *client) {
  h2_answer_t *answer = h2_answer(client, client->block_stream);
  h2_bytes_t fields = {0};
  const uint8_t *in = client->block.data;
  size_t left = client->block.length;
  for (;;) {
    nghttp2_nv field;
    int flags = 0;
    ssize_t taken = nghttp2_hd_inflate_hd2(client->inflater, &field, &flags, in, left, 1);
    if (taken < 0)
      give_up("the server's HPACK does not decode");
    in += taken;
    left -= (size_t) taken;
    if (flags & NGHTTP2_HD_INFLATE_EMIT) {
      h2_bytes_add(&fields, field.name, field.namelen);
      h2_bytes_add(&fields, "\n", 1);
      h2_bytes_add(&fields, field.value, field.valuelen);
      h2_bytes_add(&fields, "\n", 1);
    }
    if (flags & NGHTTP2_HD_INFLATE_FINAL)
      break;
  }
  nghttp2_hd_inflate_end_headers(client->inflater);
  h2_bytes_t *into = &answer->fields;
  if (strncmp(h2_text(&fields), ":status\n1", 9) == 0) {
    into = &answer->interim;
  } else if (answer->fields.length > 0) {
    into = &answer->trailers;
  }
  h2_bytes_add(into, fields.data, fields.length);
  h2_bytes_free(&fields);
  client->block.length = 0;
  answer->ended = answer->ended || client->block_end;
}

static uint32_t u32(const uint8_t *bytes) {
  return (uint32_t) bytes[0] << 24 | (uint32_t) bytes[1] << 16 | (uint32_t) bytes[2] << 8 |
         bytes[3];
}

static void take_frame(h2_client_t *client, const h2_frame_t *frame) {
  switch (frame->type) {
  case NGHTTP2_DATA: {
    h2_answer_t *answer = h2_answer(client, frame->stream_id);
    if (answer->ended || answer->reset)
      give_up("DATA after the stream's end");
    h2_bytes_add(&answer->body, frame->payload, frame->length);
    answer->data_frames++;
    if (frame->length > answer->largest)
      answer->largest = frame->length;
    answer->ended = (frame->flags & NGHTTP2_FLAG_END_STREAM) != 0;
    break;
  }
  case NGHTTP2_HEADERS:
    client->block_stream = frame->stream_id;
    client->block_end = (frame->flags & NGHTTP2_FLAG_END_STREAM) != 0;
    /* fall through */
  case NGHTTP2_CONTINUATION:
    h2_bytes_add(&client->block, frame->payload, frame->length);
    if (frame->flags & NGHTTP2_FLAG_END_HEADERS)
      take_block(client);
    break;
  case NGHTTP2_RST_STREAM: {
    h2_answer_t *answer = h2_answer(client, frame->stream_id);
    answer->reset = true;
    answer->code = u32(frame->payload);
    break;
  }
  case NGHTTP2_SETTINGS:
    if (frame->flags & NGHTTP2_FLAG_ACK) {
      client->settings_acks++;
    } else {
      client->settings++;
    }
    break;
  case NGHTTP2_PING:
    client->pings++;
    break;
  case NGHTTP2_GOAWAY:
    client->goaways++;
    client->goaway_last = (int32_t) u32(frame->payload);
    client->goaway_code = u32(frame->payload + 4);
    break;
  case NGHTTP2_WINDOW_UPDATE:
    if (frame->stream_id == 0) {
      client->window += u32(frame->payload);
    } else {
      h2_answer(client, frame->stream_id)->window += u32(frame->payload);
    }
    break;
  default:
    give_up("a frame of a type that no server sends");
  }
}

void h2_client_take(h2_client_t *client, const uint8_t *bytes, size_t length) {
  h2_bytes_t *input = &client->input;
  h2_bytes_add(input, bytes, length);
  size_t at = 0;
  while (input->length - at >= 9) {
    const uint8_t *head = input->data + at;
    size_t size = (size_t) head[0] << 16 | (size_t) head[1] << 8 | head[2];
    if (input->length - at < 9 + size)
      break;
    if (client->frame_count == client->frame_capacity) {
      client->frame_capacity = client->frame_capacity * 2 + 64;
      client->frames = realloc(client->frames, client->frame_capacity * sizeof(h2_frame_t));
      if (client->frames == NULL)
        give_up("no memory");
    }
    h2_frame_t *frame = &client->frames[client->frame_count++];
    *frame = (h2_frame_t){head[3], head[4], (int32_t) (u32(head + 5) & 0x7fffffff), size, NULL};
    frame->payload = malloc(size + 1);
    if (frame->payload == NULL)
      give_up("no memory");
    memcpy(frame->payload, head + 9, size);
    take_frame(client, frame);
    at += 9 + size;
  }
  memmove(input->data, input->data + at, input->length - at);
  input->length -= at;
}

const char *h2_field(const h2_bytes_t *fields, const char *name, char *value, size_t size) {
  for (const char *at = h2_text(fields); *at != '\0';) {
    const char *name_end = strchr(at, '\n');
    const char *value_end = strchr(name_end + 1, '\n');
    if (strlen(name) == (size_t) (name_end - at) && strncmp(at, name, strlen(name)) == 0) {
      snprintf(value, size, "%.*s", (int) (value_end - name_end - 1), name_end + 1);
      return value;
    }
    at = value_end + 1;
  }
  return NULL;
}

long h2_find_frame(const h2_client_t *client, unsigned type, int32_t stream_id, size_t nth) {
  for (size_t i = 0; i < client->frame_count; i++) {
    if (client->frames[i].type == type && client->frames[i].stream_id == stream_id && nth-- == 0)
      return (long) i;
  }
  return -1;
}
