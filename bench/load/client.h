// A client of many HTTP/2 connections on one thread, for what h2load does not measure.
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <netinet/in.h>
#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conn;

// One request of a connection, in one of its slots.
struct exchange {
  struct conn *conn;
  uint64_t sent_ns;
  int status;
  bool is_busy;
};

struct conn_events {
  // TLS is established and the server's SETTINGS have come.
  void (*on_open)(struct conn *conn);
  // The answer has ended; a status of 0 is a reset.
  void (*on_answer)(struct conn *conn, int status, uint64_t sent_ns);
  // It has ended without conn_close().
  void (*on_lost)(struct conn *conn);
};

struct client {
  int epoll;
  SSL_CTX *tls;
  struct sockaddr_in address;
  SSL_SESSION *session; // the newest ticket
  bool resumes;
  struct conn *dead;
};

struct conn {
  struct client *client;
  const struct conn_events *events;
  void *user;
  int fd;
  SSL *ssl;
  nghttp2_session *h2;
  bool is_secure, is_open, is_closing, is_in_h2, is_dead;
  uint32_t interest;
  const uint8_t *out;
  uint8_t *rest;
  size_t out_size;
  uint64_t begun_ns;
  int slot_count;
  struct exchange *slots;
  struct conn *next_dead;
};

uint64_t now_ns(void);

// Exits with a message where it fails.
void client_init(struct client *client, int port);

// Begins to connect; NULL where no descriptor can be had.
struct conn *conn_open(struct client *client, int slots, const struct conn_events *events,
                       void *user);

// Sends a GET in a free slot; goes out with the next conn_flush() or client_poll().
void conn_get(struct conn *conn, const char *path);
void conn_flush(struct conn *conn);
void conn_close(struct conn *conn);

// Works on what is ready, and waits for it up to |timeout_ms|.
void client_poll(struct client *client, int timeout_ms);

#endif
