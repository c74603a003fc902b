#include "tls_seal.h"

#include <string.h>

/* ---- suites ---- */

static const struct {
  uint16_t id;
  uint8_t key_length;
  const char *name;
} suites_of_13[VALK__TLS_SUITES] = {
    {0x1301, 16, "AES-128-GCM"}, {0x1302, 32, "AES-256-GCM"}, {0x1303, 32, "ChaCha20-Poly1305"}};

bool valk__tls_suites_init(valk__tls_suites_t *suites) {
#if VALK__TLS_AWSLC
  const EVP_AEAD *const ciphers[] = {EVP_aead_aes_128_gcm(), EVP_aead_aes_256_gcm(),
                                     EVP_aead_chacha20_poly1305()};
#endif
  for (unsigned i = 0; i < VALK__TLS_SUITES; i++) {
    valk__tls_suite_t *suite = &suites->suite[i];
    suite->id = suites_of_13[i].id;
    suite->key_length = suites_of_13[i].key_length;
#if VALK__TLS_AWSLC
    suite->digest = suite->id == 0x1302 ? EVP_sha384() : EVP_sha256();
    suite->cipher = ciphers[i];
#else
    suite->digest = EVP_MD_fetch(NULL, suite->id == 0x1302 ? "SHA384" : "SHA256", NULL);
    suite->cipher = EVP_CIPHER_fetch(NULL, suites_of_13[i].name, NULL);
#endif
    if (!suite->cipher || !suite->digest) {
      return false;
    }
  }
  return true;
}

void valk__tls_suites_free(valk__tls_suites_t *suites) {
#if VALK__TLS_AWSLC
  (void) suites;
#else
  for (unsigned i = 0; i < VALK__TLS_SUITES; i++) {
    EVP_CIPHER_free(suites->suite[i].cipher);
    EVP_MD_free(suites->suite[i].digest);
  }
#endif
}

const valk__tls_suite_t *valk__tls_suite(const valk__tls_suites_t *suites, uint16_t id) {
  for (unsigned i = 0; i < VALK__TLS_SUITES; i++) {
    if (suites->suite[i].id == id) {
      return &suites->suite[i];
    }
  }
  return NULL;
}

/* ---- secrets and keys ---- */

#define BLOCK_MAX 128u /* SHA-384's */

/* HMAC (RFC 2104) with a key that is no longer than a block. OpenSSL's own looks its algorithms up
 * by name, each time: 75,000 instructions. */
static bool hmac(const EVP_MD *digest, const uint8_t *key, const uint8_t *data, size_t length,
                 uint8_t *out) {
  size_t block = (size_t) EVP_MD_block_size(digest), size = (size_t) EVP_MD_size(digest);
  uint8_t pad[BLOCK_MAX];
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  bool done = context != NULL;
  for (int outer = 0; done && outer < 2; outer++) {
    for (size_t i = 0; i < block; i++) {
      pad[i] = (uint8_t) ((i < size ? key[i] : 0) ^ (outer ? 0x5c : 0x36));
    }
    done = EVP_DigestInit_ex(context, digest, NULL) && EVP_DigestUpdate(context, pad, block) &&
           EVP_DigestUpdate(context, outer ? out : data, outer ? size : length) &&
           EVP_DigestFinal_ex(context, out, NULL);
  }
  EVP_MD_CTX_free(context);
  OPENSSL_cleanse(pad, sizeof pad);
  return done;
}

/* HKDF-Expand-Label with an empty context (RFC 8446, section 7.1), of one digest at most: that is
 * one HMAC (RFC 5869, section 2.3). */
static bool expand(const valk__tls_suite_t *suite, const uint8_t *secret, const char *label,
                   uint8_t *out, size_t length) {
  uint8_t info[32] = {0,  (uint8_t) length, (uint8_t) (6 + strlen(label)), 't', 'l', 's', '1', '3',
                      ' '};
  size_t size = 9;
  memcpy(info + size, label, strlen(label));
  size += strlen(label);
  info[size++] = 0; /* the context's length */
  info[size++] = 1; /* the first block */
  uint8_t block[EVP_MAX_MD_SIZE];
  bool done = hmac(suite->digest, secret, info, size, block);
  if (done) {
    memcpy(out, block, length);
  }
  OPENSSL_cleanse(block, sizeof block);
  return done;
}

bool valk__tls_secret_next(const valk__tls_suite_t *suite, uint8_t *secret) {
  return expand(suite, secret, "traffic upd", secret, (size_t) EVP_MD_size(suite->digest));
}

#if VALK__TLS_AWSLC

static bool load(valk__tls_key_t *key, const valk__tls_suite_t *suite, const uint8_t *bytes,
                 bool writing) {
  (void) writing;
  EVP_AEAD_CTX_free(key->context);
  key->context = EVP_AEAD_CTX_new(suite->cipher, bytes, suite->key_length, VALK__TLS_TAG);
  return key->context != NULL;
}

void valk__tls_key_end(valk__tls_key_t *key) {
  EVP_AEAD_CTX_free(key->context);
  OPENSSL_cleanse(key, sizeof *key);
}

static bool encrypt(valk__tls_key_t *key, const uint8_t *nonce, const uint8_t *header,
                    const uint8_t *plain, size_t length, uint8_t type, uint8_t *out) {
  size_t count = 0; /* the type is encrypted in front of the tag */
  return EVP_AEAD_CTX_seal_scatter(key->context, out, out + length, &count, 1 + VALK__TLS_TAG,
                                   nonce, sizeof key->iv, plain, length, &type, 1, header,
                                   VALK__TLS_HEADER) == 1;
}

static bool decrypt(valk__tls_key_t *key, const uint8_t *nonce, const uint8_t *header,
                    const uint8_t *sealed, size_t length, uint8_t *out) {
  return EVP_AEAD_CTX_open_gather(key->context, out, nonce, sizeof key->iv, sealed, length,
                                  sealed + length, VALK__TLS_TAG, header, VALK__TLS_HEADER) == 1;
}

#else

static bool load(valk__tls_key_t *key, const valk__tls_suite_t *suite, const uint8_t *bytes,
                 bool writing) {
  if (!key->context) {
    key->context = EVP_CIPHER_CTX_new();
  }
  return key->context &&
         EVP_CipherInit_ex2(key->context, suite->cipher, bytes, key->iv, writing, NULL);
}

void valk__tls_key_end(valk__tls_key_t *key) {
  EVP_CIPHER_CTX_free(key->context);
  OPENSSL_cleanse(key, sizeof *key);
}

static bool begin(valk__tls_key_t *key, const uint8_t *nonce, const uint8_t *header) {
  int count = 0;
  return EVP_CipherInit_ex2(key->context, NULL, NULL, nonce, -1, NULL) &&
         EVP_CipherUpdate(key->context, NULL, &count, header, VALK__TLS_HEADER);
}

static bool update(valk__tls_key_t *key, uint8_t *out, const uint8_t *in, size_t length) {
  int count = 0;
  return length == 0 || (EVP_CipherUpdate(key->context, out, &count, in, (int) length) &&
                         (size_t) count == length);
}

static bool encrypt(valk__tls_key_t *key, const uint8_t *nonce, const uint8_t *header,
                    const uint8_t *plain, size_t length, uint8_t type, uint8_t *out) {
  uint8_t *tag = out + length + 1;
  int count = 0;
  return begin(key, nonce, header) && update(key, out, plain, length) &&
         update(key, out + length, &type, 1) && EVP_CipherFinal_ex(key->context, tag, &count) &&
         EVP_CIPHER_CTX_ctrl(key->context, EVP_CTRL_AEAD_GET_TAG, VALK__TLS_TAG, tag);
}

static bool decrypt(valk__tls_key_t *key, const uint8_t *nonce, const uint8_t *header,
                    const uint8_t *sealed, size_t length, uint8_t *out) {
  uint8_t tag[VALK__TLS_TAG], none[VALK__TLS_TAG];
  memcpy(tag, sealed + length, sizeof tag);
  int count = 0;
  return begin(key, nonce, header) && update(key, out, sealed, length) &&
         EVP_CIPHER_CTX_ctrl(key->context, EVP_CTRL_AEAD_SET_TAG, sizeof tag, tag) &&
         EVP_CipherFinal_ex(key->context, none, &count);
}

#endif

bool valk__tls_key_set(valk__tls_key_t *key, const valk__tls_suite_t *suite, const uint8_t *secret,
                       bool writing) {
  uint8_t bytes[32];
  bool done = expand(suite, secret, "iv", key->iv, sizeof key->iv) &&
              expand(suite, secret, "key", bytes, suite->key_length) &&
              load(key, suite, bytes, writing);
  key->sequence = 0;
  OPENSSL_cleanse(bytes, sizeof bytes);
  return done;
}

/* Of the next record (RFC 8446, section 5.3). */
static void make_nonce(const valk__tls_key_t *key, uint8_t *nonce) {
  memcpy(nonce, key->iv, sizeof key->iv);
  for (unsigned i = 0; i < 8; i++) {
    nonce[11 - i] ^= (uint8_t) (key->sequence >> 8 * i);
  }
}

bool valk__tls_seal(valk__tls_key_t *key, uint8_t type, const uint8_t *plain, size_t length,
                    uint8_t *out) {
  size_t sealed = length + 1 + VALK__TLS_TAG;
  out[0] = SSL3_RT_APPLICATION_DATA;
  out[1] = 3;
  out[2] = 3;
  out[3] = (uint8_t) (sealed >> 8);
  out[4] = (uint8_t) sealed;
  uint8_t nonce[sizeof key->iv];
  make_nonce(key, nonce);
  if (key->sequence == UINT64_MAX ||
      !encrypt(key, nonce, out, plain, length, type, out + VALK__TLS_HEADER)) {
    return false;
  }
  key->sequence++;
  return true;
}

/* ---- what comes in ---- */

/* Type and tag, and with padding no more than 16,384 bytes beside them (RFC 8446, section 5.4). */
#define SEALED_MIN (1u + VALK__TLS_TAG)
#define SEALED_MAX (SSL3_RT_MAX_PLAIN_LENGTH + SEALED_MIN)

static void drop_record(valk__tls_open_t *open) {
  OPENSSL_free(open->record);
  open->record = NULL;
  open->header_length = 0;
  open->length = open->have = 0;
}

static void take(valk_tls_input_t *input, uint8_t *to, size_t length) {
  if (length > 0) {
    memcpy(to, input->data + input->used, length);
    input->used += length;
  }
}

static size_t least(size_t a, size_t b) {
  return a < b ? a : b;
}

static valk__tls_open_result_t bad(valk__tls_opened_t *opened, uint8_t alert) {
  opened->alert = alert;
  return VALK__TLS_OPEN_BAD;
}

/* The type is the last byte that is not 0 (RFC 8446, section 5.4). */
static valk__tls_open_result_t unpad(const uint8_t *plain, size_t length,
                                     valk__tls_opened_t *opened) {
  opened->type = 0;
  while (opened->type == 0 && length > 0) {
    opened->type = plain[--length];
  }
  if (opened->type == 0) {
    return bad(opened, SSL_AD_UNEXPECTED_MESSAGE);
  }
  opened->data = plain;
  opened->length = length;
  return VALK__TLS_OPEN_RECORD;
}

static valk__tls_open_result_t finish(valk__tls_open_t *open, const uint8_t *sealed, uint8_t *out,
                                      valk__tls_opened_t *opened) {
  uint8_t nonce[sizeof open->key.iv];
  make_nonce(&open->key, nonce);
  size_t length = open->length - VALK__TLS_TAG;
  if (open->key.sequence == UINT64_MAX ||
      !decrypt(&open->key, nonce, open->header, sealed, length, out)) {
    return bad(opened, SSL_AD_BAD_RECORD_MAC);
  }
  open->key.sequence++;
  open->header_length = 0;
  return unpad(out, length, opened);
}

valk__tls_open_result_t valk__tls_open(valk__tls_open_t *open, valk_tls_input_t *input,
                                       uint8_t *plain, size_t plain_size,
                                       valk__tls_opened_t *opened) {
  if (open->record && open->header_length == 0) {
    drop_record(open); /* what the last call gave */
  }
  size_t part = least(input->length - input->used, VALK__TLS_HEADER - open->header_length);
  take(input, open->header + open->header_length, part);
  open->header_length += (uint8_t) part;
  if (open->header_length < VALK__TLS_HEADER) {
    return VALK__TLS_OPEN_MORE;
  }
  open->length = (uint32_t) open->header[3] << 8 | open->header[4];
  if (open->header[0] != SSL3_RT_APPLICATION_DATA) {
    return bad(opened, SSL_AD_UNEXPECTED_MESSAGE);
  }
  if (open->length > SEALED_MAX) {
    return bad(opened, SSL_AD_RECORD_OVERFLOW);
  }
  if (open->length < SEALED_MIN) {
    return bad(opened, SSL_AD_BAD_RECORD_MAC);
  }
  size_t left = input->length - input->used;
  bool fits = open->length - VALK__TLS_TAG <= plain_size;
  if (!open->record && fits && open->length <= left) {
    const uint8_t *sealed = input->data + input->used;
    input->used += open->length;
    return finish(open, sealed, plain, opened);
  }
  if (!open->record) {
    open->have = 0;
    open->record = OPENSSL_malloc(open->length);
    if (!open->record) {
      return VALK__TLS_OPEN_MEMORY;
    }
  }
  part = least(left, open->length - open->have);
  take(input, open->record + open->have, part);
  open->have += (uint32_t) part;
  if (open->have < open->length) {
    return VALK__TLS_OPEN_MORE;
  }
  valk__tls_open_result_t result = finish(open, open->record, fits ? plain : open->record, opened);
  if (fits) {
    drop_record(open);
  }
  return result;
}

void valk__tls_open_end(valk__tls_open_t *open) {
  valk__tls_key_end(&open->key);
  drop_record(open);
}
