/* What tls.c and tls_context.c share, and the tests' hook into the clock of the ticket keys. */
#ifndef VALK_CORE_TLS_INTERNAL_H
#define VALK_CORE_TLS_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "tls.h"
#include "tls_seal.h"

/* A ticket is written with the newest key; a key is used for the first hour of its life and
 * accepted for the second. */
#define VALK_TLS_TICKET_ROTATION_S 3600u
#define VALK_TLS_TICKET_LIFETIME_S 7200u
#define VALK_TLS_TICKET_KEYS (VALK_TLS_TICKET_LIFETIME_S / VALK_TLS_TICKET_ROTATION_S)

typedef struct {
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
  X509_STORE *trust;                 /* of clients' certificates: one for all of its SSL_CTX */
  STACK_OF(X509_NAME) * trust_names; /* what clients are told of it, shared too */
  BIO_METHOD *bio_method;
  EVP_CIPHER *ticket_cipher;
  valk__tls_ciphers_t ciphers;
  atomic_uint references;
  pthread_mutex_t ticket_lock;
  valk__tls_ticket_key_t ticket_keys[VALK_TLS_TICKET_KEYS]; /* newest first */
  uint64_t (*now_s)(void); /* a monotonic clock; tests put their own here */
  uint64_t key_records;    /* VALK__TLS_KEY_RECORDS, or what tests put here */
};

/* The BIO between OpenSSL and the spans that a valk_tls_t was lent; NULL when out of memory. */
BIO_METHOD *valk__tls_bio_method_new(void);
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
/* What valk_tls_waive_certificate, ..._peer_certificate and ..._authorization_error do. */
int valk__tls_waive(SSL *ssl);
size_t valk__tls_certificate_of(const SSL *ssl, uint8_t *der, size_t size);
const char *valk__tls_verify_error(const SSL *ssl);
/* Whether data leave, and come, as records of tls_seal.h. */
bool valk__tls_seals(const valk_tls_t *tls);
bool valk__tls_opens(const valk_tls_t *tls);
/* Counts what a peer makes us do after the handshake: an SSL_CTX's info callback. */
void valk__tls_on_info(const SSL *ssl, int where, int value);

#endif
