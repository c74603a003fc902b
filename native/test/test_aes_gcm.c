/* AES-GCM as the library that is linked in computes it, which for the shipped AWS-LC is patched
 * (scripts/aws-lc.patch): whole and in pieces, of every length around its blocks, against digests
 * of what OpenSSL 3.0 computes. Which of its functions are at work depends on the processor; the
 * variable OPENSSL_ia32cap hides what one has. */
#include <openssl/evp.h>

#include "test.h"

#define LENGTH_MAX 16384
#define TAG_BYTES 16

static uint8_t plain[LENGTH_MAX + 3];
static uint8_t sealed[LENGTH_MAX + TAG_BYTES];
static uint8_t opened[LENGTH_MAX];

typedef struct {
  uint8_t nonce[12];
  size_t aad_length; /* of |plain| */
  size_t length;
  uint8_t *tag;
} message_t;

/* |first| bytes in a call of their own. False where the library refuses, as it does a wrong tag. */
static bool run(EVP_CIPHER_CTX *context, bool encrypts, const message_t *message, const uint8_t *in,
                uint8_t *out, size_t first) {
  size_t rest = message->length - first;
  int written;
  if (EVP_CipherInit_ex(context, NULL, NULL, NULL, message->nonce, encrypts) != 1) {
    return false;
  }
  int control = encrypts ? EVP_CTRL_GCM_GET_TAG : EVP_CTRL_GCM_SET_TAG;
  if (!encrypts && EVP_CIPHER_CTX_ctrl(context, control, TAG_BYTES, message->tag) != 1) {
    return false;
  }
  if (message->aad_length > 0 &&
      EVP_CipherUpdate(context, NULL, &written, plain, (int) message->aad_length) != 1) {
    return false;
  }
  if ((first > 0 && EVP_CipherUpdate(context, out, &written, in, (int) first) != 1) ||
      (rest > 0 && EVP_CipherUpdate(context, out + first, &written, in + first, (int) rest) != 1) ||
      EVP_CipherFinal_ex(context, out + message->length, &written) != 1) {
    return false;
  }
  return !encrypts || EVP_CIPHER_CTX_ctrl(context, control, TAG_BYTES, message->tag) == 1;
}

static void check(const EVP_CIPHER *cipher, const char *expected) {
  uint8_t key[32], digest[32], tag[TAG_BYTES];
  for (size_t i = 0; i < sizeof key; i++) {
    key[i] = (uint8_t) (i * 31 + 7);
  }
  for (size_t i = 0; i < sizeof plain; i++) {
    plain[i] = (uint8_t) (i * 7 + i / 251);
  }
  EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
  EVP_MD_CTX *sum = EVP_MD_CTX_new();
  ASSERT_TRUE(context && sum && EVP_DigestInit_ex(sum, EVP_sha256(), NULL) == 1);
  ASSERT_EQ(EVP_CipherInit_ex(context, cipher, NULL, key, NULL, 1), 1);
  for (size_t n = 0; n <= 1200; n++) {
    /* Several rounds of the widest functions with each tail, then up to a record's length. */
    size_t length = n <= 1190 ? n : LENGTH_MAX - (1200 - n) * 13;
    size_t first = n * 5 % (length + 1);
    const uint8_t *in = plain + n % 3; /* aligned and not */
    message_t message = {.aad_length = n % 40, .length = length, .tag = sealed + length};
    memset(message.nonce, (int) (n & 0xff), sizeof message.nonce);
    message.nonce[0] = (uint8_t) (n >> 8);
    ASSERT_TRUE(run(context, true, &message, in, sealed, 0));
    ASSERT_EQ(EVP_DigestUpdate(sum, sealed, length + TAG_BYTES), 1);
    ASSERT_TRUE(run(context, false, &message, sealed, opened, 0));
    ASSERT_MEM_EQ(opened, in, length);
    ASSERT_TRUE(run(context, false, &message, sealed, opened, first));
    ASSERT_MEM_EQ(opened, in, length);

    message_t pieces = message;
    pieces.tag = tag;
    ASSERT_TRUE(run(context, true, &pieces, in, opened, first));
    ASSERT_MEM_EQ(opened, sealed, length);
    ASSERT_MEM_EQ(tag, message.tag, TAG_BYTES);

    sealed[n * 11 % (length + TAG_BYTES)] ^= (uint8_t) (1u << n % 8);
    ASSERT_FALSE(run(context, false, &message, sealed, opened, 0));
  }
  ASSERT_EQ(EVP_DigestFinal_ex(sum, digest, NULL), 1);
  char text[2 * sizeof digest + 1];
  for (size_t i = 0; i < sizeof digest; i++) {
    snprintf(text + 2 * i, 3, "%02x", digest[i]);
  }
  ASSERT_STR_EQ(text, expected);
  EVP_CIPHER_CTX_free(context);
  EVP_MD_CTX_free(sum);
}

TEST(aes_gcm_with_keys_of_128_bits) {
  check(EVP_aes_128_gcm(), "244990afc9122a8af4878fb39107b2be6218525e7791065188a9cf38cb940b15");
}

TEST(aes_gcm_with_keys_of_256_bits) {
  check(EVP_aes_256_gcm(), "8d9012af300666a760abcbf5cfdd0bf60a0a1f5309dd0f6c786b55d63fa5fd81");
}
