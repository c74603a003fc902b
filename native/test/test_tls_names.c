/* Certificates by server name, certificates of clients, and contexts that go on with another's
 * tickets. */
#include <malloc.h>

#include <openssl/dsa.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "tls_peer.h"

static const int versions[] = {TLS1_3_VERSION, TLS1_2_VERSION};

/* The libraries' clock for dates, in place of the system's. */
static _Atomic time_t ahead_s;

time_t time(time_t *result) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  now.tv_sec += ahead_s;
  if (result) {
    *result = now.tv_sec;
  }
  return now.tv_sec;
}

static valk_tls_context_t *make(const valk_tls_options_t *options) {
  char error[256] = "";
  valk_tls_context_t *context;
  int status = valk_tls_context_new(options, &context, error, sizeof error);
  ASSERT_MSG(status == 0, "%s", error);
  return context;
}

/* Which pair's certificate a client gets that asks for |servername|. */
static bool shows(valk_tls_context_t *context, int version, const char *servername,
                  const peer_pair_t *pair) {
  peer_t peer;
  ASSERT_OK(peer_open(&peer, context, &(peer_options_t){.version = version, .alpn = PEER_ALPN_H2}));
  ASSERT(SSL_set_tlsext_host_name(peer.client, servername));
  ASSERT_TRUE(peer_shake_hands(&peer));
  ASSERT_TRUE(valk_tls_is_h2(peer.tls));
  bool same = X509_cmp(test_peer_certificate(peer.client), pair->x509) == 0;
  peer_close(&peer);
  return same;
}

TEST(tls_names_choose_the_certificate) {
  peer_pair_t fallback = peer_make_pair("fallback"), exact = peer_make_pair("exact"),
              wild = peer_make_pair("wild");
  valk_certificate_t contexts[] = {peer_named("b.test", &exact), peer_named("*.a.test", &wild),
                                   peer_named("x.a.test", &exact)};
  valk_tls_options_t options = peer_options(fallback.key, fallback.certificate);
  options.contexts = contexts;
  options.context_count = 3;
  valk_tls_context_t *context = make(&options);
  char longest[256];
  memset(longest, 'a', 255);
  longest[255] = '\0';
  for (int i = 0; i < 2; i++) {
    ASSERT_TRUE(shows(context, versions[i], "b.test", &exact));
    ASSERT_TRUE(shows(context, versions[i], "B.TEST", &exact));
    ASSERT_TRUE(shows(context, versions[i], "x.a.test", &exact));
    ASSERT_TRUE(shows(context, versions[i], "y.a.test", &wild));
    ASSERT_TRUE(shows(context, versions[i], "z.y.a.test", &fallback));
    ASSERT_TRUE(shows(context, versions[i], "a.test", &fallback));
    ASSERT_TRUE(shows(context, versions[i], ".a.test", &fallback));
    ASSERT_TRUE(shows(context, versions[i], "test", &fallback));
    ASSERT_TRUE(shows(context, versions[i], longest, &fallback));
  }
  valk_tls_context_unref(context);

  contexts[1].key = exact.key;
  contexts[1].key_length = strlen(exact.key);
  char error[256] = "";
  ASSERT_EQ(valk_tls_context_new(&options, &context, error, sizeof error), VALK_ETLS);
  ASSERT_STR_EQ(error, "of *.a.test: the key does not match the certificate");
  peer_free_pair(&fallback);
  peer_free_pair(&exact);
  peer_free_pair(&wild);
}

/* Shakes hands with |client|'s certificate (or none); whether the server let it in. */
static bool lets_in(valk_tls_context_t *context, int version, const peer_pair_t *client, bool waive,
                    const char *error) {
  peer_t peer;
  ASSERT_OK(peer_open(&peer, context, &(peer_options_t){.version = version, .alpn = PEER_ALPN_H2}));
  if (waive) {
    ASSERT_OK(valk_tls_waive_certificate(peer.tls));
  }
  if (client) {
    ASSERT(SSL_use_certificate(peer.client, client->x509));
    ASSERT(SSL_use_PrivateKey(peer.client, client->evp));
  }
  peer_shake_hands(&peer);
  bool in = valk_tls_handshaken(peer.tls);
  if (in) {
    uint8_t der[8192];
    size_t length = valk_tls_peer_certificate(peer.tls, der, sizeof der);
    ASSERT_EQ(length > 0, client && !waive);
    ASSERT_EQ(length, valk_tls_peer_certificate(peer.tls, NULL, 0));
    if (length > 0) {
      const uint8_t *at = der;
      X509 *shown = d2i_X509(NULL, &at, (long) length);
      ASSERT_EQ(X509_cmp(shown, client->x509), 0);
      X509_free(shown);
    }
    const char *why = valk_tls_authorization_error(peer.tls);
    ASSERT_STR_EQ(why ? why : "", error);
  }
  peer_close(&peer);
  return in;
}

TEST(tls_clients_show_certificates) {
  peer_pair_t server = peer_make_pair("server"), friend = peer_make_pair("friend"),
              stranger = peer_make_pair("stranger");
  valk_tls_options_t options = peer_options(server.key, server.certificate);
  options.request_certificate = true;
  options.reject_unauthorized = true;
  options.ca = friend.certificate; /* self-signed: vouches for itself */
  options.ca_length = strlen(friend.certificate);
  valk_tls_context_t *strict = make(&options);
  options.reject_unauthorized = false;
  valk_tls_context_t *lax = make(&options);
  for (int i = 0; i < 2; i++) {
    ASSERT_TRUE(lets_in(strict, versions[i], &friend, false, ""));
    ASSERT_FALSE(lets_in(strict, versions[i], &stranger, false, ""));
    ASSERT_FALSE(lets_in(strict, versions[i], NULL, false, ""));
    ASSERT_TRUE(lets_in(strict, versions[i], NULL, true, ""));
    ASSERT_TRUE(lets_in(lax, versions[i], &friend, false, ""));
    ASSERT_TRUE(lets_in(lax, versions[i], &stranger, false, "DEPTH_ZERO_SELF_SIGNED_CERT"));
    ASSERT_TRUE(lets_in(lax, versions[i], NULL, false, "UNABLE_TO_GET_ISSUER_CERT"));
  }
  valk_tls_context_unref(strict);
  valk_tls_context_unref(lax);

  options.ca = "nothing";
  options.ca_length = 7;
  char error[256] = "";
  ASSERT_EQ(valk_tls_context_new(&options, &strict, error, sizeof error), VALK_ETLS);
  ASSERT_STR_EQ(error, "ca holds no certificate in PEM");
  peer_free_pair(&server);
  peer_free_pair(&friend);
  peer_free_pair(&stranger);
}

/* Shakes hands as |servername| with |client|'s certificate and |*session|, either of which may be
 * missing, and leaves the newest session there. */
static bool comes_in(valk_tls_context_t *context, int version, const char *servername,
                     const peer_pair_t *client, bool waive, SSL_SESSION **session) {
  peer_t peer;
  ASSERT_OK(
      peer_open(&peer, context,
                &(peer_options_t){.version = version, .alpn = PEER_ALPN_H2, .session = *session}));
  ASSERT(SSL_set_tlsext_host_name(peer.client, servername));
  if (waive) {
    ASSERT_OK(valk_tls_waive_certificate(peer.tls));
  }
  if (client) {
    ASSERT(SSL_use_certificate(peer.client, client->x509));
    ASSERT(SSL_use_PrivateKey(peer.client, client->evp));
  }
  peer_shake_hands(&peer);
  bool in = valk_tls_handshaken(peer.tls);
  if (in) {
    peer_echo(&peer, "in");
    peer_keep_session(&peer, version, session);
  }
  peer_close(&peer);
  return in;
}

/* Not the session of a health check, which is asked for none, whatever name it was made under. */
TEST(tls_sessions_without_a_certificate_do_not_open_what_asks_for_one) {
  peer_pair_t server = peer_make_pair("server"), friend = peer_make_pair("friend");
  valk_certificate_t contexts[] = {peer_named("a.test", &server)};
  valk_tls_options_t options = peer_options(server.key, server.certificate);
  options.contexts = contexts;
  options.context_count = 1;
  options.request_certificate = options.reject_unauthorized = true;
  options.ca = friend.certificate;
  options.ca_length = strlen(friend.certificate);
  valk_tls_context_t *strict = make(&options);
  static const char *const names[] = {"a.test", "b.test"};
  for (int i = 0; i < 8; i++) {
    int version = versions[i & 1];
    SSL_SESSION *session = NULL;
    ASSERT_TRUE(comes_in(strict, version, names[i >> 1 & 1], NULL, true, &session));
    ASSERT_FALSE(comes_in(strict, version, names[i >> 2], NULL, false, &session));
    SSL_SESSION_free(session);
  }
  valk_tls_context_unref(strict);
  peer_free_pair(&server);
  peer_free_pair(&friend);
}

TEST(tls_sessions_end_with_their_clients_certificates) {
  peer_pair_t server = peer_make_pair("server"), friend = peer_make_pair("friend");
  ASSERT(X509_gmtime_adj(X509_getm_notAfter(friend.x509), 600));
  ASSERT(X509_sign(friend.x509, friend.evp, EVP_sha256()) > 0);
  char *certificate = peer_certificate_pem(friend.x509);
  valk_tls_options_t options = peer_options(server.key, server.certificate);
  options.request_certificate = true;
  options.ca = certificate;
  options.ca_length = strlen(certificate);
  for (int i = 0; i < 4; i++) {
    options.reject_unauthorized = i < 2;
    valk_tls_context_t *context = make(&options);
    int version = versions[i & 1];
    SSL_SESSION *session = NULL;
    ASSERT_TRUE(comes_in(context, version, "b.test", &friend, false, &session));
    ASSERT_TRUE(comes_in(context, version, "b.test", NULL, false, &session)); /* resumed */
    ahead_s = 700;
    ASSERT_EQ(comes_in(context, version, "b.test", NULL, false, &session), i >= 2);
    ahead_s = 0;
    SSL_SESSION_free(session);
    valk_tls_context_unref(context);
  }
  free(certificate);
  peer_free_pair(&server);
  peer_free_pair(&friend);
}

/* AWS-LC has deprecated it. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static EVP_PKEY *dsa_key(int bits) {
  EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_DSA, NULL);
  EVP_PKEY *parameters = NULL, *key = NULL;
  ASSERT(context && EVP_PKEY_paramgen_init(context) > 0);
  ASSERT(EVP_PKEY_CTX_set_dsa_paramgen_bits(context, bits) > 0);
  ASSERT(EVP_PKEY_paramgen(context, &parameters) > 0);
  EVP_PKEY_CTX_free(context);
  context = EVP_PKEY_CTX_new(parameters, NULL);
  ASSERT(context && EVP_PKEY_keygen_init(context) > 0 && EVP_PKEY_keygen(context, &key) > 0);
  EVP_PKEY_CTX_free(context);
  EVP_PKEY_free(parameters);
  return key;
}
#pragma GCC diagnostic pop

/* |key| and a certificate for it, which |issuer| signs with |digest|; NULL: of an authority. */
static peer_pair_t make_signed_pair(EVP_PKEY *key, const peer_pair_t *issuer, const EVP_MD *digest,
                                    bool pss) {
  peer_pair_t pair = {.evp = key};
  const peer_pair_t *by = issuer ? issuer : &pair;
  pair.x509 = peer_certificate(key, issuer ? "client" : "authority", issuer ? issuer->x509 : NULL,
                               issuer ? issuer->evp : NULL);
  if (!issuer) {
    BASIC_CONSTRAINTS *authority = BASIC_CONSTRAINTS_new();
    authority->ca = 0xff;
    ASSERT_EQ(X509_add1_ext_i2d(pair.x509, NID_basic_constraints, authority, 1, 0), 1);
    BASIC_CONSTRAINTS_free(authority);
  }
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  EVP_PKEY_CTX *key_context = NULL;
  ASSERT(EVP_DigestSignInit(context, &key_context, digest, NULL, by->evp));
  ASSERT(!pss || EVP_PKEY_CTX_set_rsa_padding(key_context, RSA_PKCS1_PSS_PADDING));
  ASSERT(X509_sign_ctx(pair.x509, context) > 0);
  EVP_MD_CTX_free(context);
  pair.key = peer_key_pem(pair.evp, NULL);
  pair.certificate = peer_certificate_pem(pair.x509);
  return pair;
}

/* 112 bits of security: RSA and DSA of 2048 bits, no SHA-1 (NIST SP 800-57 part 1). */
TEST(tls_clients_of_too_little_strength_are_refused) {
  ASSERT_OK(valk_tls_init());
  const EVP_MD *sha256 = EVP_sha256();
  EVP_PKEY *key = EVP_RSA_gen(2048);
  peer_pair_t server = make_signed_pair(EVP_RSA_gen(2048), NULL, sha256, false);
  peer_pair_t weak = make_signed_pair(EVP_RSA_gen(1024), NULL, sha256, false);
  peer_pair_t weak_dsa = make_signed_pair(dsa_key(1024), NULL, sha256, false);
  const struct {
    const peer_pair_t *authority;
    EVP_PKEY *key;
    const EVP_MD *digest;
    bool pss, good;
  } cases[] = {
      {&server, key, sha256, false, true},       {&server, key, sha256, true, true},
      {&server, weak.evp, sha256, false, false}, {&server, key, EVP_sha1(), false, false},
      {&server, key, EVP_sha1(), true, false},   {&weak, key, sha256, false, false},
      {&weak_dsa, key, sha256, false, false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    EVP_PKEY_up_ref(cases[i].key);
    peer_pair_t client =
        make_signed_pair(cases[i].key, cases[i].authority, cases[i].digest, cases[i].pss);
    valk_tls_options_t options = peer_options(server.key, server.certificate);
    options.request_certificate = true;
    options.reject_unauthorized = true;
    options.ca = cases[i].authority->certificate;
    options.ca_length = strlen(options.ca);
    valk_tls_context_t *context = make(&options);
    for (int j = 0; j < 2; j++) {
      printf("# client %zu\n", i);
      ASSERT_EQ(lets_in(context, versions[j], &client, false, ""), cases[i].good);
    }
    valk_tls_context_unref(context);
    peer_free_pair(&client);
  }
  EVP_PKEY_free(key);
  peer_free_pair(&server);
  peer_free_pair(&weak);
  peer_free_pair(&weak_dsa);
}

/* TLS 1.2 knows SHA-1 for what is signed in a handshake (RFC 5246, section 7.4.1.4.1). */
TEST(tls_sha1_signs_no_handshake) {
  valk_tls_context_t *context = peer_context((valk_tls_init(), EVP_RSA_gen(2048)));
  static const char *const lists[] = {"RSA+SHA1", "RSA+SHA256"};
  for (int i = 0; i < 2; i++) {
    peer_t peer;
    ASSERT_OK(peer_open(&peer, context,
                        &(peer_options_t){.version = TLS1_2_VERSION, .alpn = PEER_ALPN_H2}));
    ASSERT(SSL_set1_sigalgs_list(peer.client, lists[i]));
    ASSERT_EQ(peer_shake_hands(&peer), i == 1);
    peer_close(&peer);
  }
  valk_tls_context_unref(context);
}

/* What a name of |options| takes beside the first one: bytes on malloc's heap. */
static size_t bytes_a_name(valk_tls_options_t *options, const peer_pair_t *pair) {
  enum { NAMES = 64 };
  static char texts[NAMES][32];
  valk_certificate_t contexts[NAMES];
  for (int i = 0; i < NAMES; i++) {
    snprintf(texts[i], sizeof texts[i], "n%d.test", i);
    contexts[i] = peer_named(texts[i], pair);
  }
  options->contexts = contexts;
  size_t used[2];
  for (int i = 0; i < 2; i++) {
    options->context_count = i == 0 ? 1 : NAMES;
    size_t before = mallinfo2().uordblks;
    valk_tls_context_t *context = make(options);
    used[i] = mallinfo2().uordblks - before;
    valk_tls_context_unref(context);
  }
  options->context_count = 0;
  return (used[1] - used[0]) / (NAMES - 1);
}

TEST(tls_names_share_what_vouches_for_clients) {
  enum { AUTHORITIES = 20 };
  peer_pair_t server = peer_make_pair("server");
  peer_pair_t authorities[AUTHORITIES];
  char *ca = malloc(AUTHORITIES * 1024u);
  size_t length = 0;
  for (int i = 0; i < AUTHORITIES; i++) {
    char name[32];
    snprintf(name, sizeof name, "authority %d", i);
    authorities[i] = peer_make_pair(name);
    size_t more = strlen(authorities[i].certificate);
    ASSERT_LT(more, 1024u);
    memcpy(ca + length, authorities[i].certificate, more);
    length += more;
  }
  valk_tls_options_t options = peer_options(server.key, server.certificate);
  size_t without = bytes_a_name(&options, &server);
  options.request_certificate = options.reject_unauthorized = true;
  options.ca = ca;
  options.ca_length = length;
  size_t with = bytes_a_name(&options, &server);
  /* A pointer for each, where a certificate takes kilobytes. */
  if (without > 0) {
    ASSERT_LT(with, without + AUTHORITIES * 64u);
  }

  valk_certificate_t contexts[] = {peer_named("b.test", &server), peer_named("*.a.test", &server)};
  options.contexts = contexts;
  options.context_count = 2;
  valk_tls_context_t *context = make(&options);
  X509_STORE *store = SSL_CTX_get_cert_store(context->ssl_context);
  for (size_t i = 0; i < context->named_count; i++) {
    ASSERT(SSL_CTX_get_cert_store(context->named[i].ssl_context) == store);
  }
  const char *servernames[] = {"b.test", "x.a.test", "other.test"};
  for (int i = 0; i < 2; i++) {
    for (int j = 0; j < 3; j++) {
      peer_t peer;
      ASSERT_OK(peer_open(&peer, context,
                          &(peer_options_t){.version = versions[i], .alpn = PEER_ALPN_H2}));
      ASSERT(SSL_set_tlsext_host_name(peer.client, servernames[j]));
      ASSERT(SSL_use_certificate(peer.client, authorities[AUTHORITIES - 1].x509));
      ASSERT(SSL_use_PrivateKey(peer.client, authorities[AUTHORITIES - 1].evp));
      ASSERT_TRUE(peer_shake_hands(&peer));
      ASSERT_NULL(valk_tls_authorization_error(peer.tls));
      ASSERT_EQ(sk_X509_NAME_num(SSL_get0_peer_CA_list(peer.client)), AUTHORITIES);
      peer_close(&peer);
    }
  }
  valk_tls_context_unref(context);
  for (int i = 0; i < AUTHORITIES; i++)
    peer_free_pair(&authorities[i]);
  free(ca);
  peer_free_pair(&server);
}

static bool resumes(valk_tls_context_t *context, int version, SSL_SESSION **session) {
  peer_t peer;
  ASSERT_OK(
      peer_open(&peer, context,
                &(peer_options_t){.version = version, .alpn = PEER_ALPN_H2, .session = *session}));
  ASSERT_TRUE(peer_shake_hands(&peer));
  peer_echo(&peer, "so that the ticket comes");
  bool resumed = valk_tls_resumed(peer.tls);
  peer_keep_session(&peer, version, session);
  peer_close(&peer);
  return resumed;
}

TEST(tls_context_goes_on_with_tickets) {
  peer_pair_t one = peer_make_pair("one"), two = peer_make_pair("two");
  for (int i = 0; i < 2; i++) {
    valk_tls_options_t options = peer_options(one.key, one.certificate);
    valk_tls_context_t *old = make(&options);
    SSL_SESSION *session = NULL;
    ASSERT_FALSE(resumes(old, versions[i], &session));
    options = peer_options(two.key, two.certificate);
    options.previous = old;
    valk_tls_context_t *next = make(&options);
    valk_tls_context_unref(old);
    ASSERT_TRUE(resumes(next, versions[i], &session));

    /* Who asks for certificates does not take the word of one that asked for none. */
    options.previous = next;
    options.request_certificate = true;
    valk_tls_context_t *asks = make(&options);
    valk_tls_context_unref(next);
    ASSERT_FALSE(resumes(asks, versions[i], &session));
    ASSERT_TRUE(resumes(asks, versions[i], &session));
    options.previous = asks;
    options.ca = one.certificate;
    options.ca_length = strlen(one.certificate);
    valk_tls_context_t *trusts = make(&options);
    valk_tls_context_unref(asks);
    ASSERT_FALSE(resumes(trusts, versions[i], &session));
    valk_tls_context_unref(trusts);
    SSL_SESSION_free(session);
  }
  peer_free_pair(&one);
  peer_free_pair(&two);
}
