/* TLS as a byte machine: ciphertext in, plaintext out, and back. No sockets, no uv, no HTTP/2.
 *
 * OpenSSL, or AWS-LC, shakes hands, through a BIO of our own that reads from a span which the
 * caller lends for one call and writes straight into a span of a TCP buffer. With TLS 1.3 it is let
 * go of then: records, key updates and alerts are ours (tls_traffic.c), and no copy is made of a
 * byte. With TLS 1.2 it stays. Between calls no span is kept, but at most a part of one record. One
 * valk_tls_t belongs to one connection and its thread; a valk_tls_context_t is shared by threads,
 * counted, and immutable but for its ticket keys, which rotate under a lock. RFC 8446, RFC 5246,
 * RFC 7301. Specification, section 5.
 */
#ifndef VALK_CORE_TLS_H
#define VALK_CORE_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../include/valk.h"

/* A record's largest ciphertext without compression: 5 + 16384 + 320 (RFC 5246 allows 2048, suites
 * here need far less). */
#define VALK_TLS_RECORD_MAX 16709u
#define VALK_TLS_PLAIN_MAX 16384u
/* What a caller lends to have any record's plaintext, and the type behind it, without a copy. */
#define VALK_TLS_PLAIN_SPACE (VALK_TLS_PLAIN_MAX + 1u)

typedef struct valk_tls_context valk_tls_context_t;
typedef struct valk_tls valk_tls_t;

typedef struct {
  const char *key; /* PEM */
  size_t key_length;
  const char *certificate; /* PEM: leaf first, then intermediates */
  size_t certificate_length;
  const valk_certificate_t *contexts; /* by server name; see valk_server_options_t */
  size_t context_count;
  bool request_certificate; /* of clients */
  bool reject_unauthorized;
  const char *ca; /* PEM: whose certificates of clients are trusted */
  size_t ca_length;
  /* Whose ticket keys to go on with, so that its sessions can be resumed; NULL: fresh ones. Not
   * kept. */
  valk_tls_context_t *previous;
} valk_tls_options_t;

/* The most that a client may send as its certificate and chain. */
#define VALK_TLS_PEER_CHAIN_MAX (32u << 10)

/* Initialises this copy of OpenSSL and gives it the ledger's allocator; once a process, later calls
 * return the same. valk_tls_context_new does it too: call it first when OpenSSL is used for
 * something else before. Any thread. 0; VALK_EINVAL: OpenSSL has allocated already; VALK_ETLS. */
int valk_tls_init(void);

/* A server context: TLS 1.2 and 1.3, forward-secret AEAD suites, ALPN h2 only (a client that offers
 * ALPN without h2 gets no_application_protocol; one that offers none shakes hands, valk_tls_is_h2
 * is then false and the connection closes), stateless tickets whose keys rotate (used for an hour,
 * accepted for two), no renegotiation, no compression. |error| gets a sentence. 0, VALK_ETLS (bad,
 * mismatched, missing or passphrase-protected key or certificate), VALK_ENOMEM. */
int valk_tls_context_new(const valk_tls_options_t *options, valk_tls_context_t **context,
                         char *error, size_t error_size);
void valk_tls_context_ref(valk_tls_context_t *context);
void valk_tls_context_unref(valk_tls_context_t *context);

/* 0 or VALK_ENOMEM. */
int valk_tls_new(valk_tls_context_t *context, valk_tls_t **tls);
void valk_tls_free(valk_tls_t *tls);
/* Before the handshake: asks this client for no certificate, whatever the context says. Its tickets
 * are good for such connections only. 0 or VALK_ENOMEM. */
int valk_tls_waive_certificate(valk_tls_t *tls);

/* What a step did. */
typedef enum {
  VALK_TLS_OK = 0,      /* progress; see the counts */
  VALK_TLS_WANT_INPUT,  /* all input taken; nothing more to give */
  VALK_TLS_WANT_OUTPUT, /* the output span is too full: send it, then call again with room */
  VALK_TLS_CLOSED,      /* the peer's close_notify */
  /* A protocol error; an alert may have been written to the output span. If valk_tls_pending_output
   * says so, it waits for room: valk_tls_read with an empty input writes it, and returns FAILED. */
  VALK_TLS_FAILED
} valk_tls_result_t;

/* A span of bytes to read from: |data| up to |length|, |used| grows. */
typedef struct {
  const uint8_t *data;
  size_t length;
  size_t used;
} valk_tls_input_t;

/* A span to write to: |capacity| bytes at |data|, |length| of them filled; grows. |data| may be
 * NULL with capacity 0: a step that has something to write then returns WANT_OUTPUT. */
typedef struct {
  uint8_t *data;
  size_t capacity;
  size_t length;
} valk_tls_output_t;

/* Takes ciphertext: shakes hands, or decrypts one call's worth into |plain|. On OK *|plain_length|
 * (maybe 0) bytes were decrypted and the caller calls again, until WANT_INPUT; input is always
 * taken whole before WANT_INPUT. Output (handshake, tickets, key updates, alerts) goes to |output|.
 * |plain_size| is at least 1; what does not fit comes with the next call. */
valk_tls_result_t valk_tls_read(valk_tls_t *tls, valk_tls_input_t *input, valk_tls_output_t *output,
                                uint8_t *plain, size_t plain_size, size_t *plain_length);
/* Encrypts |length| (1..VALK_TLS_PLAIN_MAX) bytes as one record. OK only when all of it was written
 * to |output|; WANT_OUTPUT, and nothing taken, unless |output| has VALK_TLS_RECORD_MAX bytes of
 * room: as many as that is enough, but for a client that asked for smaller fragments (RFC 6066,
 * section 4: several records, 17,408 bytes at most) and after pending output, which goes first.
 * WANT_INPUT, and nothing taken: the handshake is not done. FAILED. */
valk_tls_result_t valk_tls_write(valk_tls_t *tls, const uint8_t *plain, size_t length,
                                 valk_tls_output_t *output);
/* Writes close_notify (once). OK (also inside a handshake, where there is nothing to close),
 * WANT_OUTPUT (call again) or FAILED. After it nothing may be written; reading goes on. */
valk_tls_result_t valk_tls_shutdown(valk_tls_t *tls, valk_tls_output_t *output);

bool valk_tls_handshaken(const valk_tls_t *tls);
bool valk_tls_resumed(const valk_tls_t *tls);
/* True when ciphertext is held that could not be written yet (call valk_tls_read with an empty
 * input and room to go on; valk_tls_write and valk_tls_shutdown write it first, too). */
bool valk_tls_pending_output(const valk_tls_t *tls);
/* True once the handshake is done and ALPN chose h2. */
bool valk_tls_is_h2(const valk_tls_t *tls);
/* Key updates and renegotiations that the peer has asked for since its handshake: for the caller's
 * flood budget. */
uint32_t valk_tls_rekeys(const valk_tls_t *tls);
/* "TLSv1.3", the suite's standard name ("TLS_AES_128_GCM_SHA256"), and the SNI name or NULL. Valid
 * while |tls| lives. */
const char *valk_tls_version(const valk_tls_t *tls);
const char *valk_tls_cipher(const valk_tls_t *tls);
const char *valk_tls_servername(const valk_tls_t *tls);
/* The client's certificate: writes its DER to |der| when that has room (NULL: only asks) and gives
 * its length; 0: none. After the handshake. */
size_t valk_tls_peer_certificate(const valk_tls_t *tls, uint8_t *der, size_t size);
/* NULL: the client's certificate was verified, or none was asked for; else OpenSSL's name of what
 * is wrong. */
const char *valk_tls_authorization_error(const valk_tls_t *tls);
/* A few static words for the last failure: "plain HTTP", "no application protocol", "bad record",
 * ... ; NULL when none. */
const char *valk_tls_error(const valk_tls_t *tls);

#endif
