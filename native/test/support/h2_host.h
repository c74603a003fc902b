/* The owner of an HTTP/2 session, for tests: records what the events bring, answers as it is told,
 * and talks to a client of h2_client.h. */
#ifndef VALK_TEST_H2_HOST_H
#define VALK_TEST_H2_HOST_H

#include "../../core/h2.h"
#include "h2_client.h"

#define H2_HOST_STREAMS 8192

/* A request's pseudo-fields, and what becomes of them in valk_head_t. */
#define HEAD(method, path)                                                                         \
  ":method\n" method "\n:scheme\nhttps\n:authority\nexample.com\n:path\n" path "\n"
#define TEXT(method, path) method "\nhttps\nexample.com\n" path "\n"

typedef struct h2_host h2_host_t;

typedef struct {
  h2_host_t *host;
  int32_t id;
  bool end_stream;
  int problem;
  h2_bytes_t head; /* valk_head_t's text */
  uint32_t field_count;
  int64_t content_length;
  bool expects_continue;
  h2_bytes_t body;
  size_t received;
  bool ended; /* on_end */
  h2_bytes_t trailers;
  bool closed;
  uint32_t code;
  bool by_peer;
  /* The answer's body: |left| bytes of a pattern. */
  size_t left, sent;
  bool defer;           /* on_read defers */
  bool fail;            /* on_read fails */
  bool late_end;        /* the end comes with a read of its own, without bytes */
  const char *trailing; /* trailers given from inside on_read */
  bool trailing_before; /* valk_h2_trailers was called before */
  unsigned reads;
} h2_host_stream_t;

struct h2_host {
  valk_h2_t *h2;
  valk_ledger_t *ledger;
  h2_client_t client;
  uint64_t now_ms;
  h2_host_stream_t *streams[H2_HOST_STREAMS];
  size_t count;
  bool refuse;      /* on_request gives NULL */
  bool hold_data;   /* what on_data brings is not consumed */
  bool forget_body; /* ... and not kept */
  /* What the test does inside the events; may be NULL. */
  void (*on_request)(h2_host_t *host, h2_host_stream_t *stream);
  void (*on_data)(h2_host_t *host, h2_host_stream_t *stream);
  void (*on_read)(h2_host_t *host, h2_host_stream_t *stream);
  void *test;
};

/* NULL |options|: those of h2_host_options. */
void h2_host_init(h2_host_t *host, const valk_h2_options_t *options);
void h2_host_deinit(h2_host_t *host);
/* 100 streams, lists of 32 KiB and 128 fields, windows of 64 KiB and 1 MiB, 1000 resets. */
valk_h2_options_t h2_host_options(void);
/* Gives the client's bytes, and empties them. */
valk_h2_result_t h2_host_receive(h2_host_t *host, h2_bytes_t *bytes);
/* Gives the client all that there is to send. VALK_ENOMEM or 0. */
int h2_host_flush(h2_host_t *host);
/* Both; fails the test when the session ends. */
void h2_host_talk(h2_host_t *host, h2_bytes_t *bytes);
/* The preface and its acknowledgements. */
void h2_host_begin(h2_host_t *host, uint32_t window);
/* The nth request, from 0; fails the test when there was none. */
h2_host_stream_t *h2_host_stream(h2_host_t *host, size_t nth);
/* The one that has |id|; NULL when there was none. */
h2_host_stream_t *h2_host_find(h2_host_t *host, int32_t id);
/* 200 with |length| bytes of the pattern. */
void h2_host_answer(h2_host_stream_t *stream, size_t length);
uint8_t h2_host_pattern(size_t at);
/* The same, for |on_request|: "ok". */
void h2_host_answer_small(h2_host_t *host, h2_host_stream_t *stream);
/* The session still answers: a new request on |stream_id| does. */
void h2_host_assert_good(h2_host_t *host, int32_t stream_id);

#endif
