/* Records of TLS 1.3 that are encrypted straight into a TCP buffer (RFC 8446, section 5.2).
 *
 * OpenSSL builds a record in a buffer of its own, encrypts it there and gives it to the BIO: two
 * copies of every byte. It can also leave the protection of records to whoever is behind the BIO,
 * the kernel as a rule (SSL_OP_ENABLE_KTLS): it then hands over key, IV and sequence number, and
 * writes plaintext. Here our BIO takes that place. OpenSSL keeps the handshake, alerts and key
 * updates and says with each key change what holds from then on.
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

/* OpenSSL 3.0 and 3.1 do not tell of a key update (tls13_update_key). */
#if OPENSSL_VERSION_NUMBER >= 0x30200000L && !defined(OPENSSL_NO_KTLS)
#define VALK__TLS_SEALS 1
#else
#define VALK__TLS_SEALS 0
#endif

/* What a record is longer than its plaintext: header, inner type, tag. */
#define VALK__TLS_SEAL_OVERHEAD (5u + 1u + 16u)
#define VALK__TLS_SEAL_CIPHERS 3u

/* The ciphers of the suites that are offered, looked up once a context. */
typedef struct {
  EVP_CIPHER *cipher[VALK__TLS_SEAL_CIPHERS];
} valk__tls_ciphers_t;

typedef struct {
  EVP_CIPHER_CTX *context; /* NULL: records are OpenSSL's */
  uint64_t sequence;       /* of the next record */
  uint8_t iv[12];
  uint8_t type; /* of what OpenSSL writes next: 20 to 22 */
} valk__tls_seal_t;

/* False when out of memory; what was looked up is to be freed all the same. */
bool valk__tls_ciphers_init(valk__tls_ciphers_t *ciphers);
void valk__tls_ciphers_free(valk__tls_ciphers_t *ciphers);

/* Commands of a BIO that takes the protection over: OpenSSL's numbers, which bio.h reserves. */
enum {
  VALK__BIO_SET_KTLS = 72,      /* number: writing; pointer: the kernel's struct of the cipher */
  VALK__BIO_GET_KTLS_SEND = 73, /* whether it does */
  VALK__BIO_SET_KTLS_TYPE = 74  /* number: the type of what is written next */
};

/* Takes a key over. False: not one of ours, or no memory; records are OpenSSL's from now on. */
bool valk__tls_seal_set(valk__tls_seal_t *seal, const valk__tls_ciphers_t *ciphers,
                        const void *info);
void valk__tls_seal_end(valk__tls_seal_t *seal);
/* Writes one record of |type| to |out|, which has room for |length| (at most 16,384) and the
 * overhead. False: OpenSSL failed, or the key's last record has been written. */
bool valk__tls_seal(valk__tls_seal_t *seal, uint8_t type, const uint8_t *plain, size_t length,
                    uint8_t *out);

#endif
