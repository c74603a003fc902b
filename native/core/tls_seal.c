#include "tls_seal.h"

#include <string.h>

#include <linux/tls.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

static const char *const names[VALK__TLS_SEAL_CIPHERS] = {"AES-128-GCM", "AES-256-GCM",
                                                          "ChaCha20-Poly1305"};

bool valk__tls_ciphers_init(valk__tls_ciphers_t *ciphers) {
  for (unsigned i = 0; i < VALK__TLS_SEAL_CIPHERS; i++) {
    ciphers->cipher[i] = EVP_CIPHER_fetch(NULL, names[i], NULL);
    if (!ciphers->cipher[i]) {
      return false;
    }
  }
  return true;
}

void valk__tls_ciphers_free(valk__tls_ciphers_t *ciphers) {
  for (unsigned i = 0; i < VALK__TLS_SEAL_CIPHERS; i++) {
    EVP_CIPHER_free(ciphers->cipher[i]);
  }
}

/* What the kernel's structs say, whose layouts differ by cipher. */
typedef struct {
  unsigned cipher; /* of |names| */
  const uint8_t *key, *sequence;
  uint8_t iv[12];
} material_t;

static bool read_info(const struct tls_crypto_info *info, material_t *key) {
  if (info->version != TLS_1_3_VERSION) {
    return false;
  }
  switch (info->cipher_type) {
  case TLS_CIPHER_AES_GCM_128: {
    const struct tls12_crypto_info_aes_gcm_128 *gcm = (const void *) info;
    *key = (material_t){.cipher = 0, .key = gcm->key, .sequence = gcm->rec_seq};
    memcpy(key->iv, gcm->salt, sizeof gcm->salt);
    memcpy(key->iv + sizeof gcm->salt, gcm->iv, sizeof gcm->iv);
    return true;
  }
  case TLS_CIPHER_AES_GCM_256: {
    const struct tls12_crypto_info_aes_gcm_256 *gcm = (const void *) info;
    *key = (material_t){.cipher = 1, .key = gcm->key, .sequence = gcm->rec_seq};
    memcpy(key->iv, gcm->salt, sizeof gcm->salt);
    memcpy(key->iv + sizeof gcm->salt, gcm->iv, sizeof gcm->iv);
    return true;
  }
  case TLS_CIPHER_CHACHA20_POLY1305: {
    const struct tls12_crypto_info_chacha20_poly1305 *chacha = (const void *) info;
    *key = (material_t){.cipher = 2, .key = chacha->key, .sequence = chacha->rec_seq};
    memcpy(key->iv, chacha->iv, sizeof chacha->iv);
    return true;
  }
  default:
    return false;
  }
}

bool valk__tls_key_set(valk__tls_key_t *key, const valk__tls_ciphers_t *ciphers, const void *info,
                       bool writing) {
  material_t given;
  if (!read_info(info, &given)) {
    valk__tls_key_end(key);
    return false;
  }
  if (!key->context) {
    key->context = EVP_CIPHER_CTX_new();
  }
  if (!key->context || !EVP_CipherInit_ex2(key->context, ciphers->cipher[given.cipher], given.key,
                                           given.iv, writing, NULL)) {
    valk__tls_key_end(key);
    return false;
  }
  memcpy(key->iv, given.iv, sizeof key->iv);
  key->sequence = 0;
  for (unsigned i = 0; i < 8; i++) {
    key->sequence = key->sequence << 8 | given.sequence[i];
  }
  OPENSSL_cleanse(&given, sizeof given);
  return true;
}

void valk__tls_key_end(valk__tls_key_t *key) {
  EVP_CIPHER_CTX_free(key->context);
  OPENSSL_cleanse(key, sizeof *key);
}

/* Begins the next record: its number makes its nonce (RFC 8446, section 5.3), its header is
 * authenticated with it. */
static bool begin(valk__tls_key_t *key, const uint8_t *header) {
  uint8_t nonce[sizeof key->iv];
  memcpy(nonce, key->iv, sizeof nonce);
  for (unsigned i = 0; i < 8; i++) {
    nonce[11 - i] ^= (uint8_t) (key->sequence >> 8 * i);
  }
  int count = 0;
  return key->sequence != UINT64_MAX &&
         EVP_CipherInit_ex2(key->context, NULL, NULL, nonce, -1, NULL) &&
         EVP_CipherUpdate(key->context, NULL, &count, header, VALK__TLS_HEADER);
}

static bool update(valk__tls_key_t *key, uint8_t *out, const uint8_t *in, size_t length) {
  int count = 0;
  return length == 0 || (EVP_CipherUpdate(key->context, out, &count, in, (int) length) &&
                         (size_t) count == length);
}

bool valk__tls_seal(valk__tls_key_t *key, uint8_t type, const uint8_t *plain, size_t length,
                    uint8_t *out) {
  size_t sealed = length + 1 + VALK__TLS_TAG;
  out[0] = SSL3_RT_APPLICATION_DATA;
  out[1] = 3;
  out[2] = 3;
  out[3] = (uint8_t) (sealed >> 8);
  out[4] = (uint8_t) sealed;
  uint8_t *at = out + VALK__TLS_HEADER;
  uint8_t *tag = at + length + 1;
  int count = 0;
  if (!begin(key, out) || !update(key, at, plain, length) || !update(key, at + length, &type, 1) ||
      !EVP_CipherFinal_ex(key->context, tag, &count) ||
      !EVP_CIPHER_CTX_ctrl(key->context, EVP_CTRL_AEAD_GET_TAG, VALK__TLS_TAG, tag)) {
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
static valk__tls_open_result_t unpad(const uint8_t *plain, size_t length, uint8_t last,
                                     valk__tls_opened_t *opened) {
  while (last == 0 && length > 0) {
    last = plain[--length];
  }
  if (last == 0) {
    return bad(opened, SSL_AD_UNEXPECTED_MESSAGE);
  }
  opened->type = last;
  opened->data = plain;
  opened->length = length;
  return VALK__TLS_OPEN_RECORD;
}

static valk__tls_open_result_t decrypt(valk__tls_open_t *open, const uint8_t *sealed, uint8_t *out,
                                       valk__tls_opened_t *opened) {
  size_t length = open->length - SEALED_MIN;
  uint8_t last = 0, tag[VALK__TLS_TAG], none[VALK__TLS_TAG];
  memcpy(tag, sealed + length + 1, sizeof tag);
  int count = 0;
  if (!begin(&open->key, open->header) || !update(&open->key, out, sealed, length) ||
      !update(&open->key, &last, sealed + length, 1) ||
      !EVP_CIPHER_CTX_ctrl(open->key.context, EVP_CTRL_AEAD_SET_TAG, sizeof tag, tag) ||
      !EVP_CipherFinal_ex(open->key.context, none, &count)) {
    return bad(opened, SSL_AD_BAD_RECORD_MAC);
  }
  open->key.sequence++;
  open->header_length = 0;
  return unpad(out, length, last, opened);
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
  bool fits = open->length - SEALED_MIN <= plain_size;
  if (!open->record && fits && open->length <= left) {
    const uint8_t *sealed = input->data + input->used;
    input->used += open->length;
    return decrypt(open, sealed, plain, opened);
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
  valk__tls_open_result_t result = decrypt(open, open->record, fits ? plain : open->record, opened);
  if (fits) {
    drop_record(open);
  }
  return result;
}

void valk__tls_open_end(valk__tls_open_t *open) {
  valk__tls_key_end(&open->key);
  drop_record(open);
}
