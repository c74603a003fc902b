/* Records of TLS 1.3 that are encrypted straight into a TCP buffer, and decrypted straight out of
 * one (RFC 8446, section 5.2).
 *
 * OpenSSL builds a record in a buffer of its own, encrypts it there and gives it to the BIO: two
 * copies of every byte, and two for one that comes in. It can also leave the protection of records
 * to whoever is behind the BIO, the kernel as a rule (SSL_OP_ENABLE_KTLS): it then hands over key,
 * IV and sequence number, and writes and reads plaintext. Here our BIO takes that place. OpenSSL
 * keeps the handshake, alerts and key updates and says with each key change what holds from then
 * on.
 *
 * With OpenSSL 3.2 and newer, and built with enable-ktls; others, TLS 1.2 and clients that asked
 * for smaller fragments go through OpenSSL's own records. Belongs to one connection and its thread.
 */
#ifndef VALK_CORE_TLS_SEAL_H
#define VALK_CORE_TLS_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>
#include <openssl/opensslv.h>
#include <openssl/ssl.h>

#include "tls.h"

/* Whether OpenSSL is asked to. 3.0 and 3.1 do not tell of a key update (tls13_update_key). */
#if OPENSSL_VERSION_NUMBER >= 0x30200000L && !defined(OPENSSL_NO_KTLS)
#define VALK__TLS_SEALS 1
#else
#define VALK__TLS_SEALS 0
#endif

#define VALK__TLS_HEADER 5u
#define VALK__TLS_TAG 16u
/* What a record is longer than its plaintext: header, inner type, tag. */
#define VALK__TLS_SEAL_OVERHEAD (VALK__TLS_HEADER + 1u + VALK__TLS_TAG)
#define VALK__TLS_SEAL_CIPHERS 3u

/* The ciphers of the suites that are offered, looked up once a context. */
typedef struct {
  EVP_CIPHER *cipher[VALK__TLS_SEAL_CIPHERS];
} valk__tls_ciphers_t;

/* So many records are written under a key before it is changed (RFC 8446, section 5.5: 2^24.5 full
 * ones under AES-GCM). */
#define VALK__TLS_KEY_RECORDS (1u << 24)

/* The key of one direction. */
typedef struct {
  EVP_CIPHER_CTX *context; /* NULL: records are OpenSSL's */
  uint64_t sequence;       /* of the next record */
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

/* False when out of memory; what was looked up is to be freed all the same. */
bool valk__tls_ciphers_init(valk__tls_ciphers_t *ciphers);
void valk__tls_ciphers_free(valk__tls_ciphers_t *ciphers);

/* Commands of a BIO that takes the protection over: OpenSSL's numbers, which bio.h reserves. */
enum {
  VALK__BIO_SET_KTLS = 72,      /* number: 1 for writing; pointer: the kernel's struct */
  VALK__BIO_GET_KTLS_SEND = 73, /* whether it does */
  VALK__BIO_SET_KTLS_TYPE = 74  /* number: the type of what is written next */
};

/* Takes a key over, for writing or for reading, as the kernel's struct says. False: not one of
 * ours, or no memory; records are OpenSSL's from now on. */
bool valk__tls_key_set(valk__tls_key_t *key, const valk__tls_ciphers_t *ciphers, const void *info,
                       bool writing);
void valk__tls_key_end(valk__tls_key_t *key);

/* Writes one record of |type| to |out|, which has room for |length| (at most 16,384) and the
 * overhead. False: OpenSSL failed, or the key's last record has been written. */
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

/* Takes the next record of |input| and decrypts it, into |plain| where that has room. */
valk__tls_open_result_t valk__tls_open(valk__tls_open_t *open, valk_tls_input_t *input,
                                       uint8_t *plain, size_t plain_size,
                                       valk__tls_opened_t *opened);
void valk__tls_open_end(valk__tls_open_t *open);

#endif
