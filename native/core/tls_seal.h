/* Records of TLS 1.3 that are encrypted straight into a TCP buffer, and decrypted straight out of
 * one (RFC 8446, section 5.2).
 *
 * A TLS library builds a record in a buffer of its own, encrypts it there and gives it to the BIO:
 * two copies of every byte, and two for one that comes in. Here there are none. Belongs to one
 * connection and its thread.
 */
#ifndef VALK_CORE_TLS_SEAL_H
#define VALK_CORE_TLS_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tls.h"
#include "tls_library.h"

#define VALK__TLS_HEADER 5u
#define VALK__TLS_TAG 16u
/* What a record is longer than its plaintext: header, inner type, tag. */
#define VALK__TLS_SEAL_OVERHEAD (VALK__TLS_HEADER + 1u + VALK__TLS_TAG)

/* A cipher suite (RFC 8446, appendix B.4). */
typedef struct {
  uint16_t id;
  uint8_t key_length;
  /* The digest's length is a secret's. */
#if VALK__TLS_AWSLC
  const EVP_MD *digest;
  const EVP_AEAD *cipher;
#else
  EVP_MD *digest;
  EVP_CIPHER *cipher;
#endif
} valk__tls_suite_t;

#define VALK__TLS_SUITES 3u
#define VALK__TLS_SECRET_MAX 48u

/* Those that are offered, looked up once a context. */
typedef struct {
  valk__tls_suite_t suite[VALK__TLS_SUITES];
} valk__tls_suites_t;

/* False when out of memory; what was looked up is to be freed all the same. */
bool valk__tls_suites_init(valk__tls_suites_t *suites);
void valk__tls_suites_free(valk__tls_suites_t *suites);
/* NULL: none of them. */
const valk__tls_suite_t *valk__tls_suite(const valk__tls_suites_t *suites, uint16_t id);

/* So many records are written under a key before it is changed (RFC 8446, section 5.5: 2^24.5 full
 * ones under AES-GCM). */
#define VALK__TLS_KEY_RECORDS (1u << 24)

/* The key of one direction. */
typedef struct {
#if VALK__TLS_AWSLC
  EVP_AEAD_CTX *context; /* NULL: none yet */
#else
  EVP_CIPHER_CTX *context;
#endif
  uint64_t sequence; /* of the next record */
  uint8_t iv[12];
} valk__tls_key_t;

typedef struct {
  valk__tls_key_t key;
  uint8_t header[VALK__TLS_HEADER];
  uint8_t header_length;
  uint8_t *record; /* one that came in part, or that the caller had no room for */
  uint32_t length; /* of its ciphertext, of which |have| have come */
  uint32_t have;
} valk__tls_open_t;

/* Begins with the key that follows from |secret| (RFC 8446, section 7.3), and with record 0. False:
 * no memory; |key| is then not to be used any more, but ended. */
bool valk__tls_key_set(valk__tls_key_t *key, const valk__tls_suite_t *suite, const uint8_t *secret,
                       bool writing);
void valk__tls_key_end(valk__tls_key_t *key);
/* Puts the next secret in the place of |secret| (RFC 8446, section 7.2). False: no memory. */
bool valk__tls_secret_next(const valk__tls_suite_t *suite, uint8_t *secret);

/* Writes one record of |type| to |out|, which has room for |length| (at most 16,384) and the
 * overhead. False: the library failed, or the key's last record has been written. */
bool valk__tls_seal(valk__tls_key_t *key, uint8_t type, const uint8_t *plain, size_t length,
                    uint8_t *out);

typedef enum {
  VALK__TLS_OPEN_RECORD,
  VALK__TLS_OPEN_MORE, /* the input ended inside a record, which is kept */
  VALK__TLS_OPEN_BAD,  /* see |alert| */
  VALK__TLS_OPEN_MEMORY
} valk__tls_open_result_t;

typedef struct {
  uint8_t type;
  uint8_t alert; /* why it is bad: one of SSL_AD_* */
  /* What it held: in the caller's |plain|, or in |record| until the next call. */
  const uint8_t *data;
  size_t length;
} valk__tls_opened_t;

/* Takes the next record of |input| and decrypts it, into |plain| where that has room for it and one
 * byte. */
valk__tls_open_result_t valk__tls_open(valk__tls_open_t *open, valk_tls_input_t *input,
                                       uint8_t *plain, size_t plain_size,
                                       valk__tls_opened_t *opened);
void valk__tls_open_end(valk__tls_open_t *open);

#endif
