/* What the files of tls share, and the tests' hook into the clock of the ticket keys. */
#ifndef VALK_CORE_TLS_INTERNAL_H
#define VALK_CORE_TLS_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include <openssl/bio.h>

#include "tls.h"
#include "tls_library.h"
#include "tls_seal.h"

/* A ticket is written with the newest key; a key is used for the first hour of its life and
 * accepted for the second. */
#define VALK_TLS_TICKET_ROTATION_S 3600u
#define VALK_TLS_TICKET_LIFETIME_S 7200u
#define VALK_TLS_TICKET_KEYS (VALK_TLS_TICKET_LIFETIME_S / VALK_TLS_TICKET_ROTATION_S)

typedef struct {
  bool is_made; /* else nobody's, and zeros, which everybody knows */
  uint64_t created_s;
  uint8_t name[16]; /* what a ticket names its key by (RFC 5077, section 4) */
  uint8_t cipher_key[32];
  uint8_t mac_key[32];
} valk__tls_ticket_key_t;

typedef struct {
  char *name;
  SSL_CTX *ssl_context;
} valk__tls_named_t;

struct valk_tls_context {
  SSL_CTX *ssl_context;
  valk__tls_named_t *named; /* sorted by name */
  size_t named_count;
  X509_STORE *trust;              /* of clients' certificates: one for all of its SSL_CTX */
  valk__tls_names_t *trust_names; /* what clients are told of it, shared too */
  BIO_METHOD *bio_method;
#if VALK__TLS_AWSLC
  const EVP_CIPHER *ticket_cipher;
#else
  EVP_CIPHER *ticket_cipher;
#endif
  valk__tls_suites_t suites;
  atomic_uint references;
  pthread_mutex_t ticket_lock;
  valk__tls_ticket_key_t ticket_keys[VALK_TLS_TICKET_KEYS]; /* newest first */
  uint64_t (*now_s)(void); /* a monotonic clock; tests put their own here */
  uint64_t key_records;    /* VALK__TLS_KEY_RECORDS, or what tests put here */
};

/* TLS 1.3 after the handshake: what tls_traffic.c has of a connection. */
typedef struct {
  const valk__tls_suite_t *suite; /* NULL: not begun */
  valk__tls_key_t seal;
  valk__tls_open_t open;
  const uint8_t *rest; /* of an opened record that the caller had no room for */
  size_t rest_length;
  uint32_t fragment;     /* a record's largest plaintext */
  bool owes_key_update;  /* one goes before the next data */
  bool closed;           /* the peer's close_notify has come */
  bool shut;             /* ours has been written */
  uint8_t empty_records; /* in a row */
  uint8_t warnings;
  uint8_t message_length; /* of a message of the handshake that came in part */
  uint8_t message[5];
  uint8_t read_secret[VALK__TLS_SECRET_MAX];
  uint8_t write_secret[VALK__TLS_SECRET_MAX];
} valk__tls_traffic_t;

/* Holds what was written when the output span had ended: two alerts of 31 bytes, so that none is
 * lost where the caller lent no room. */
#define VALK__TLS_SPILL_SIZE 64u

struct valk_tls {
  valk_tls_input_t *input; /* lent for the length of one call */
  valk_tls_output_t *output;
  size_t spill_length;
  bool handshaken;
  bool h2;
  bool resumed;
  bool failed;
  bool refused; /* in this call the BIO had no room for what the library wrote */
  bool blocked; /* the library waits for room */
  uint32_t rekeys;
  valk__tls_traffic_t traffic;
  /* Until the handshake is done, with TLS 1.2 to the end; then NULL. */
  SSL *ssl;
  BIO *bio; /* owned by |ssl| */
  valk_tls_context_t *context;
  const char *error;
  /* What the handshake said: literals, and blocks of ours or NULL. */
  const char *version;
  const char *cipher;
  const char *authorization_error;
  char *servername;
  uint8_t *certificate;
  size_t certificate_length;
  uint8_t spill[VALK__TLS_SPILL_SIZE];
};

/* Before a thread first has anything encrypted. False: no memory. */
bool valk__tls_begin_thread(void);
/* The BIO between the library and the spans that a valk_tls_t was lent; NULL when out of memory. */
BIO_METHOD *valk__tls_bio_method_new(void);
/* What is written to the output span, and behind its end to the spill. The bytes that were taken.
 */
size_t valk__tls_put(valk_tls_t *tls, const uint8_t *data, size_t length);
size_t valk__tls_output_room(const valk_tls_t *tls);
valk_tls_result_t valk__tls_fail(valk_tls_t *tls, const char *error);

/* Has the library tell the secrets of a handshake, where it has to be asked before. */
void valk__tls_hand_over_watch(SSL_CTX *ssl_context);
/* After the handshake: keeps what it said, and with TLS 1.3 takes the records over and lets go of
 * the SSL. NULL, or why not. */
const char *valk__tls_hand_over(valk_tls_t *tls);

/* A record's largest plaintext: a client may have asked for less than 16,384 (RFC 6066, section 4).
 */
uint32_t valk__tls_largest_fragment(const SSL *ssl);

/* valk_tls_read, valk_tls_write and valk_tls_shutdown with a traffic that has begun, and no spill
 * left. */
valk_tls_result_t valk__tls_traffic_read(valk_tls_t *tls, uint8_t *plain, size_t plain_size,
                                         size_t *plain_length);
valk_tls_result_t valk__tls_traffic_write(valk_tls_t *tls, const uint8_t *plain, size_t length);
valk_tls_result_t valk__tls_traffic_shutdown(valk_tls_t *tls);
void valk__tls_traffic_end(valk__tls_traffic_t *traffic);

/* A pem_password_cb; |asked|: a bool, set to true. Without it OpenSSL would ask at the terminal. */
int valk__tls_refuse_passphrase(char *buffer, int size, int writing, void *asked);
/* An SSL_CTX's callback: chooses among |named| by the client's server name. */
int valk__tls_on_servername(SSL *ssl, int *alert, void *data);
/* Reads the |ca| of |options|, once for all names. 0, VALK_ETLS or VALK_ENOMEM; the sentence goes
 * to |error|. What was read before a failure is freed with the context. */
int valk__tls_trust_new(valk_tls_context_t *context, const valk_tls_options_t *options, char *error,
                        size_t error_size);
void valk__tls_trust_free(valk_tls_context_t *context);
/* Asks for certificates of clients as |options| say, verified by what |context| trusts, and binds
 * tickets to that. 0 or VALK_ENOMEM; the sentence goes to |error|. */
int valk__tls_verify_clients(const valk_tls_context_t *context, SSL_CTX *ssl_context,
                             const valk_tls_options_t *options, char *error, size_t error_size);
/* To be called before |ssl_context|, which may be NULL, is freed: lets go of what is shared. */
void valk__tls_verify_clients_end(SSL_CTX *ssl_context);
/* Fills |named|, which is calloc'ed here by OpenSSL's allocator: each entry's context is to be set
 * up by the caller. False when out of memory. */
bool valk__tls_names_new(valk_tls_context_t *context, const valk_tls_options_t *options);
void valk__tls_names_free(valk_tls_context_t *context);
/* Why |certificate| is too weak to be shown or taken, in OpenSSL's words, or NULL: what its
 * security level 2 sees to where it is the library (112 bits, NIST SP 800-57 part 1). Then NULL. */
const char *valk__tls_weakness(X509 *certificate, bool leaf);
/* Asks this client for no certificate. 0 or VALK_ENOMEM. */
int valk__tls_waive(SSL *ssl);
/* Keeps the client's certificate, if it has shown one, and what is wrong with it. False: no memory.
 */
bool valk__tls_keep_certificate(valk_tls_t *tls);
/* Counts what a peer makes us do after the handshake: an SSL_CTX's info callback. */
void valk__tls_on_info(const SSL *ssl, int where, int value);

#endif
