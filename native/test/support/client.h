/* A client for tests: TLS and HTTP/2 (OpenSSL's and nghttp2's client sides) over a real socket,
 * driven by the test's own thread. */
#ifndef VALK_TEST_CLIENT_H
#define VALK_TEST_CLIENT_H

#include <nghttp2/nghttp2.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
  int32_t id;
  int status;   /* of the answer; 0: none yet */
  bool interim; /* a 100 came */
  bool closed;
  uint32_t error;    /* how it was closed */
  size_t received;   /* body bytes */
  uint32_t checksum; /* of the body, Adler-like, in order */
  char text[256];    /* the body's beginning */
  char retry_after[16];
  char date[32];
  char trailer[64]; /* the value of x-trailer */
  size_t send_left; /* request body bytes still to send */
  size_t send_offset;
  bool hold;      /* the request body waits until client_release */
  size_t hold_at; /* ... once so many of its bytes were sent; 0: nowhere */
} client_stream_t;

typedef struct {
  const char *alpn; /* NULL: "h2" */
  bool no_alpn;
  uint32_t window;    /* stream window; 0: the protocol's default */
  bool manual_window; /* DATA is not credited until client_credit */
  int receive_buffer; /* SO_RCVBUF; 0: the system's */
  int fd;             /* a socket that is connected already, taken over; 0: none */
  EVP_PKEY *key;      /* with |certificate|: shown to a server that asks; NULL: none */
  X509 *certificate;
} client_options_t;

typedef struct {
  int fd;
  SSL_CTX *context;
  SSL *ssl;
  nghttp2_session *session;
  client_stream_t *streams;
  size_t stream_count, stream_capacity;
  bool eof;    /* the server closed */
  bool failed; /* TLS or HTTP/2 error */
  bool goaway;
  uint32_t goaway_code;
  unsigned ping_acks;
  bool manual_window;
  unsigned long ssl_error;
} client_t;

/* Connects and shakes hands; false when the handshake failed (see ssl_error). Blocks for at most 10
 * s. */
bool client_open(client_t *client, uint16_t port, const client_options_t *options);
void client_close(client_t *client);
/* Closes the socket without a word (|reset|: with a TCP reset). */
void client_vanish(client_t *client, bool reset);
/* Submits a request; its index. |fields|: pairs of strings ended by NULL, or NULL. |body| bytes of
 * a pattern follow, < 0: no body. */
size_t client_request(client_t *client, const char *method, const char *path,
                      const char *const *fields, int64_t body);
void client_release(client_t *client, size_t index);
void client_reset(client_t *client, size_t index, uint32_t code);
void client_ping(client_t *client);
/* Reads and writes what there is, waiting at most |timeout_ms| for something. */
void client_pump(client_t *client, int timeout_ms);
/* Pumps until the stream is closed, or the connection; false after |timeout_ms|. */
bool client_wait(client_t *client, size_t index, int timeout_ms);
bool client_wait_all(client_t *client, int timeout_ms);
bool client_wait_eof(client_t *client, int timeout_ms);
uint64_t client_clock_ms(void);
/* The checksum of |length| bytes of the pattern. */
uint32_t client_pattern_checksum(size_t length);
uint8_t client_pattern(size_t offset);
uint32_t client_checksum(uint32_t sum, const uint8_t *bytes, size_t length);

#endif
