#include "test.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <uv.h>

#include "../core/fault.h"
#include "../core/ledger.h"
#include "../include/valk.h"
#include "library.h"

enum { HEADER = 16 };

static size_t used(valk_ledger_t *ledger) {
  return atomic_load(&ledger->used);
}

TEST(ledger_charges_each_block_and_its_header) {
  valk_ledger_t *ledger = valk_ledger_new(0);
  ASSERT_NOT_NULL(ledger);
  ASSERT_EQ(used(ledger), 0u);
  uint8_t *first = valk_ledger_malloc(ledger, 100);
  ASSERT_NOT_NULL(first);
  ASSERT_EQ((uintptr_t) first % 16, 0u);
  memset(first, 1, 100);
  ASSERT_EQ(used(ledger), 100u + HEADER);
  uint8_t *second = valk_ledger_calloc(ledger, 7, 9);
  ASSERT_EQ((uintptr_t) second % 16, 0u);
  for (unsigned i = 0; i < 63; i++) {
    ASSERT_EQ(second[i], 0);
  }
  ASSERT_EQ(used(ledger), 163u + 2 * HEADER);
  void *empty = valk_ledger_malloc(ledger, 0);
  ASSERT_NOT_NULL(empty);
  ASSERT_EQ(used(ledger), 163u + 3 * HEADER);
  valk_ledger_free(first);
  valk_ledger_free(empty);
  ASSERT_EQ(used(ledger), 63u + HEADER);
  valk_ledger_free(second);
  valk_ledger_free(NULL);
  ASSERT_EQ(used(ledger), 0u);
  ASSERT_EQ(atomic_load(&ledger->peak), 163u + 3 * HEADER);
  ASSERT_EQ(atomic_load(&ledger->refused), 0u);
  valk_ledger_close(ledger);
}

TEST(ledger_realloc_keeps_bytes_and_owner) {
  valk_ledger_t *owner = valk_ledger_new(0);
  valk_ledger_t *other = valk_ledger_new(0);
  uint8_t *block = valk_ledger_realloc(owner, NULL, 10);
  ASSERT_EQ(used(owner), 10u + HEADER);
  memset(block, 5, 10);
  block = valk_ledger_realloc(other, block, 100000);
  ASSERT_NOT_NULL(block);
  ASSERT_EQ((uintptr_t) block % 16, 0u);
  ASSERT_EQ(block[0], 5);
  ASSERT_EQ(block[9], 5);
  ASSERT_EQ(used(owner), 100000u + HEADER);
  ASSERT_EQ(used(other), 0u);
  block = valk_ledger_realloc(NULL, block, 4);
  ASSERT_EQ(block[3], 5);
  ASSERT_EQ(used(owner), 4u + HEADER);
  ASSERT_NULL(valk_ledger_realloc(other, block, 0));
  ASSERT_EQ(used(owner), 0u);
  /* A block of nobody stays nobody's. */
  block = valk_ledger_realloc(NULL, NULL, 8);
  block = valk_ledger_realloc(owner, block, 16);
  ASSERT_EQ(used(owner), 0u);
  valk_ledger_free(block);
  valk_ledger_close(owner);
  valk_ledger_close(other);
}

TEST(ledger_limit_is_exact) {
  valk_ledger_t *ledger = valk_ledger_new(1000);
  void *block = valk_ledger_malloc(ledger, 1000 - HEADER - 1);
  ASSERT_NOT_NULL(block);
  ASSERT_NULL(valk_ledger_malloc(ledger, 0));
  ASSERT_NULL(valk_ledger_calloc(ledger, 1, 1));
  ASSERT_EQ(atomic_load(&ledger->refused), 2u);
  ASSERT_EQ(used(ledger), 999u);
  block = valk_ledger_realloc(ledger, block, 1000 - HEADER);
  ASSERT_NOT_NULL(block);
  ASSERT_EQ(used(ledger), 1000u);
  memset(block, 1, 1000 - HEADER);
  ASSERT_NULL(valk_ledger_realloc(ledger, block, 1000 - HEADER + 1));
  ASSERT_EQ(((uint8_t *) block)[1000 - HEADER - 1], 1); /* it is as it was */
  ASSERT_EQ(used(ledger), 1000u);
  ASSERT_EQ(atomic_load(&ledger->refused), 3u);
  ASSERT_EQ(atomic_load(&ledger->peak), 1000u);
  valk_ledger_free(block);
  block = valk_ledger_malloc(ledger, 1000 - HEADER);
  ASSERT_NOT_NULL(block);
  valk_ledger_free(block);
  valk_ledger_close(ledger);
}

/* Kept from the compiler, which knows that no malloc gives so much. */
static volatile size_t too_much = SIZE_MAX;

TEST(ledger_sizes_that_overflow_fail) {
  valk_ledger_t *ledger = valk_ledger_new(0);
  errno = 0;
  ASSERT_NULL(valk_ledger_malloc(ledger, too_much));
  ASSERT_EQ(errno, ENOMEM);
  ASSERT_NULL(valk_ledger_malloc(ledger, too_much - 15));
  ASSERT_NULL(valk_ledger_calloc(ledger, too_much / 2, 3));
  ASSERT_NULL(valk_ledger_calloc(NULL, too_much, 1));
  void *block = valk_ledger_malloc(ledger, 10);
  ASSERT_NULL(valk_ledger_realloc(ledger, block, too_much - 7));
  ASSERT_EQ(used(ledger), 10u + HEADER);
  ASSERT_FALSE(valk_ledger_charge(ledger, too_much));
  valk_ledger_free(block);
  ASSERT_EQ(used(ledger), 0u);
  valk_ledger_close(ledger);
}

TEST(ledger_charges_what_lies_elsewhere) {
  valk_ledger_t *ledger = valk_ledger_new(100);
  ASSERT(valk_ledger_charge(ledger, 60));
  ASSERT_FALSE(valk_ledger_charge(ledger, 41));
  ASSERT(valk_ledger_charge(ledger, 40));
  ASSERT(valk_ledger_charge(ledger, 0));
  ASSERT_EQ(used(ledger), 100u);
  ASSERT_NULL(valk_ledger_malloc(ledger, 0));
  valk_ledger_credit(ledger, 100);
  valk_ledger_credit(ledger, 0);
  ASSERT_EQ(used(ledger), 0u);
  ASSERT(valk_ledger_charge(NULL, too_much));
  valk_ledger_credit(NULL, too_much);
  /* It is used again after it was empty. */
  ASSERT(valk_ledger_charge(ledger, 1));
  valk_ledger_credit(ledger, 1);
  valk_ledger_close(ledger);
}

TEST(ledger_forgets_a_block_that_is_disowned) {
  valk_ledger_t *ledger = valk_ledger_new(1000);
  uint8_t *block = valk_ledger_malloc(ledger, 500);
  memset(block, 7, 500);
  valk_ledger_disown(block);
  valk_ledger_disown(NULL);
  ASSERT_EQ(used(ledger), 0u);
  /* It was the last one: the ledger may go before it. */
  valk_ledger_close(ledger);
  ASSERT_EQ(block[499], 7);
  valk_ledger_disown(block);
  valk_ledger_free(block);
}

/* That it is freed then, and not before: valgrind and ASan. */
TEST(ledger_lives_until_its_last_block_is_free) {
  valk_ledger_t *ledger = valk_ledger_new(1000);
  void *first = valk_ledger_malloc(ledger, 10);
  void *second = valk_ledger_malloc(ledger, 10);
  valk_ledger_close(ledger);
  valk_ledger_free(first);
  ASSERT_EQ(used(ledger), 10u + HEADER);
  second = valk_ledger_realloc(NULL, second, 100);
  ASSERT_EQ(used(ledger), 100u + HEADER);
  valk_ledger_free(second);
  valk_ledger_close(NULL);
}

enum { THREADS = 4, ROUNDS = 20000, SLOTS = 64 };

static valk_ledger_t *shared;
static _Atomic(void *) slots[SLOTS];

/* Each block is freed by whoever finds it. */
static void exchange_blocks(void *seed) {
  uint32_t random = (uint32_t) (uintptr_t) seed;
  for (unsigned i = 0; i < ROUNDS; i++) {
    random = random * 1664525 + 1013904223;
    void *block = valk_ledger_malloc(shared, (random >> 16) % 100);
    if (block && i % 3 == 0) {
      void *other = valk_ledger_realloc(NULL, block, (random >> 20) % 200 + 1);
      block = other ? other : block;
    }
    valk_ledger_free(atomic_exchange(&slots[(random >> 8) % SLOTS], block));
  }
}

TEST(ledger_counts_right_when_threads_share_it) {
  enum { LIMIT = 6000 };
  shared = valk_ledger_new(LIMIT);
  uv_thread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++) {
    ASSERT_OK(uv_thread_create(&threads[i], exchange_blocks, (void *) (i + 1)));
  }
  for (unsigned i = 0; i < THREADS; i++) {
    ASSERT_OK(uv_thread_join(&threads[i]));
  }
  ASSERT_LE(atomic_load(&shared->peak), (size_t) LIMIT);
  ASSERT_LE(used(shared), (size_t) LIMIT);
  ASSERT_GT(atomic_load(&shared->refused), 0u);
  valk_ledger_t *ledger = shared;
  valk_ledger_close(ledger);
  for (unsigned i = 0; i < SLOTS; i++) {
    valk_ledger_free(atomic_exchange(&slots[i], NULL));
  }
}

/* The last block is freed on one thread while another closes the ledger. */
static void free_block(void *block) {
  valk_ledger_free(block);
}

TEST(ledger_close_and_last_free_may_meet) {
  for (unsigned i = 0; i < 200; i++) {
    valk_ledger_t *ledger = valk_ledger_new(0);
    void *block = valk_ledger_malloc(ledger, 10);
    uv_thread_t thread;
    ASSERT_OK(uv_thread_create(&thread, free_block, block));
    valk_ledger_close(ledger);
    ASSERT_OK(uv_thread_join(&thread));
  }
}

/* ---- OpenSSL ---- */

static void run_handshake_up_to_client_hello(SSL_CTX *context, valk_ledger_t *ledger) {
  valk_ledger_t *outer = valk_ledger_enter(ledger);
  SSL *ssl = SSL_new(context);
  ASSERT_NOT_NULL(ssl);
  BIO *in = BIO_new(BIO_s_mem());
  BIO *out = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl, in, out);
  SSL_set_connect_state(ssl);
  ASSERT_EQ(SSL_do_handshake(ssl), -1);
  ASSERT_EQ(SSL_get_error(ssl, -1), SSL_ERROR_WANT_READ);
  ASSERT_GT(BIO_pending(out), 100);
  ASSERT_GT(used(ledger), 5000u);
  SSL_free(ssl);
  ERR_clear_error();
  ASSERT_PTR_EQ(valk_ledger_enter(outer), ledger);
}

TEST(ledger_charges_openssl_to_the_thread_s_current_ledger) {
  ASSERT_OK(valk_ledger_install());
  ASSERT_OK(valk_ledger_install());
  ASSERT_PTR_EQ(valk_ledger_enter(NULL), NULL);
#if VALK__TLS_AWSLC
  /* It keeps this until the thread ends, and so longer than the test has its ledgers. */
  uint8_t byte;
  ASSERT_EQ(RAND_bytes(&byte, 1), 1);
#endif
  valk_ledger_t *ledger = valk_ledger_new(0);
  valk_ledger_t *setup = valk_ledger_new(0);
  ASSERT_PTR_EQ(valk_ledger_enter(setup), NULL);
  SSL_CTX *context = SSL_CTX_new(TLS_method());
  ASSERT_NOT_NULL(context);
  ASSERT_PTR_EQ(valk_ledger_enter(NULL), setup);
  size_t of_context = used(setup);
  ASSERT_GT(of_context, 1000u);
  ASSERT_EQ(used(ledger), 0u);
  /* The first connection leaves behind what OpenSSL keeps for the thread and the process ... */
  run_handshake_up_to_client_hello(context, ledger);
  size_t kept = used(ledger);
  ASSERT_EQ(used(setup), of_context);
  /* ... and the second nothing at all. */
  valk_ledger_t *second = valk_ledger_new(0);
  run_handshake_up_to_client_hello(context, second);
  ASSERT_EQ(used(second), 0u);
  ASSERT_GT(atomic_load(&second->peak), 5000u);
  ASSERT_EQ(used(ledger), kept);
  SSL_CTX_free(context);
  /* The ledgers close before, and after, the last of their blocks is free. */
  valk_ledger_close(ledger);
  valk_ledger_close(setup);
  OPENSSL_cleanup();
  valk_ledger_close(second);
}

TEST(ledger_limit_makes_openssl_fail_and_not_crash) {
  ASSERT_OK(valk_ledger_install());
  uint8_t byte;
  ASSERT_EQ(RAND_bytes(&byte, 1), 1); /* AWS-LC has no way on without its state */
  SSL_CTX *context = SSL_CTX_new(TLS_method());
  ASSERT_NOT_NULL(context);
  bool succeeded = false;
  unsigned failures = 0;
  for (size_t limit = 64; limit < 65536 && !succeeded; limit += 256) {
    valk_ledger_t *ledger = valk_ledger_new(limit);
    valk_ledger_enter(ledger);
    SSL *ssl = SSL_new(context);
    succeeded = ssl != NULL;
    failures += ssl == NULL;
    SSL_free(ssl);
    ERR_clear_error();
    valk_ledger_enter(NULL);
    ASSERT_LE(atomic_load(&ledger->peak), limit);
    ASSERT(succeeded || atomic_load(&ledger->refused) > 0);
    valk_ledger_close(ledger);
  }
  ASSERT(succeeded);
  ASSERT_GT(failures, 0u);
  SSL_CTX_free(context);
  OPENSSL_cleanup();
}

#if !VALK__TLS_AWSLC /* which takes another allocator at any time */
TEST(ledger_install_after_openssl_has_allocated_fails) {
  void *block = OPENSSL_malloc(1);
  ASSERT_NOT_NULL(block);
  ASSERT_EQ(valk_ledger_install(), VALK_EINVAL);
  ASSERT_EQ(valk_ledger_install(), VALK_EINVAL);
  OPENSSL_free(block);
}

#endif

#if defined(VALK_FAULTS) && VALK_FAULTS
TEST(ledger_without_memory_charges_nothing) {
  valk_ledger_t *ledger = valk_ledger_new(1000);
  void *block = valk_ledger_malloc(ledger, 10);
  valk__fault_arm(VALK_FAULT_MALLOC, 1, true, 0);
  ASSERT_NULL(valk_ledger_new(0));
  ASSERT_NULL(valk_ledger_malloc(ledger, 10));
  ASSERT_NULL(valk_ledger_calloc(ledger, 1, 10));
  ASSERT_NULL(valk_ledger_realloc(ledger, NULL, 10));
  ASSERT_NULL(valk_ledger_realloc(ledger, block, 20));
  ASSERT_EQ(valk__fault_count(VALK_FAULT_MALLOC), 5u);
  ASSERT_EQ(used(ledger), 10u + HEADER);
  ASSERT_EQ(atomic_load(&ledger->refused), 0u);
  valk__fault_arm(VALK_FAULT_MALLOC, 0, false, 0);
  valk_ledger_free(block);
  valk_ledger_close(ledger);
}
#endif
