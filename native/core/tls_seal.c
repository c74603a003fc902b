#include "tls_seal.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#if VALK__TLS_SEALS

#include <linux/tls.h>

#define TAG_SIZE 16

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

bool valk__tls_seal_set(valk__tls_seal_t *seal, const valk__tls_ciphers_t *ciphers,
                        const void *info) {
  material_t key;
  if (!read_info(info, &key)) {
    valk__tls_seal_end(seal);
    return false;
  }
  if (!seal->context) {
    seal->context = EVP_CIPHER_CTX_new();
  }
  if (!seal->context ||
      !EVP_EncryptInit_ex2(seal->context, ciphers->cipher[key.cipher], key.key, key.iv, NULL)) {
    valk__tls_seal_end(seal);
    return false;
  }
  memcpy(seal->iv, key.iv, sizeof seal->iv);
  seal->sequence = 0;
  for (unsigned i = 0; i < 8; i++) {
    seal->sequence = seal->sequence << 8 | key.sequence[i];
  }
  OPENSSL_cleanse(&key, sizeof key);
  return true;
}

void valk__tls_seal_end(valk__tls_seal_t *seal) {
  EVP_CIPHER_CTX_free(seal->context);
  OPENSSL_cleanse(seal, sizeof *seal);
}

bool valk__tls_seal(valk__tls_seal_t *seal, uint8_t type, const uint8_t *plain, size_t length,
                    uint8_t *out) {
  if (seal->sequence == UINT64_MAX) {
    return false;
  }
  /* The number of each record makes its nonce (RFC 8446, section 5.3). */
  uint8_t nonce[sizeof seal->iv];
  memcpy(nonce, seal->iv, sizeof nonce);
  for (unsigned i = 0; i < 8; i++) {
    nonce[11 - i] ^= (uint8_t) (seal->sequence >> 8 * i);
  }
  size_t sealed = length + 1 + TAG_SIZE;
  out[0] = SSL3_RT_APPLICATION_DATA;
  out[1] = 3;
  out[2] = 3;
  out[3] = (uint8_t) (sealed >> 8);
  out[4] = (uint8_t) sealed;
  uint8_t *at = out + 5;
  int count = 0, last = 0;
  if (!EVP_EncryptInit_ex2(seal->context, NULL, NULL, nonce, NULL) ||
      !EVP_EncryptUpdate(seal->context, NULL, &count, out, 5) ||
      !EVP_EncryptUpdate(seal->context, at, &count, plain, (int) length) ||
      !EVP_EncryptUpdate(seal->context, at + length, &last, &type, 1) || (size_t) count != length ||
      last != 1 || !EVP_EncryptFinal_ex(seal->context, at + length + 1, &last) ||
      !EVP_CIPHER_CTX_ctrl(seal->context, EVP_CTRL_AEAD_GET_TAG, TAG_SIZE, at + length + 1)) {
    return false;
  }
  seal->sequence++;
  return true;
}

#else

bool valk__tls_ciphers_init(valk__tls_ciphers_t *ciphers) {
  (void) ciphers;
  return true;
}

void valk__tls_ciphers_free(valk__tls_ciphers_t *ciphers) {
  (void) ciphers;
}

bool valk__tls_seal_set(valk__tls_seal_t *seal, const valk__tls_ciphers_t *ciphers,
                        const void *info) {
  (void) seal, (void) ciphers, (void) info;
  return false;
}

void valk__tls_seal_end(valk__tls_seal_t *seal) {
  (void) seal;
}

bool valk__tls_seal(valk__tls_seal_t *seal, uint8_t type, const uint8_t *plain, size_t length,
                    uint8_t *out) {
  (void) seal, (void) type, (void) plain, (void) length, (void) out;
  return false;
}

#endif
