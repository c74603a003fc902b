/* The two libraries that TLS is built with: OpenSSL 3, which is the system's, and AWS-LC, which the
 * shipped addon has in it (of BoringSSL's family; a new connection costs it about two thirds). What
 * differs between them stands here, in tls_seal.c (how a record is encrypted) and in tls_handover.c
 * (how keys are told). */
#ifndef VALK_CORE_TLS_LIBRARY_H
#define VALK_CORE_TLS_LIBRARY_H

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#ifdef OPENSSL_IS_AWSLC

#include <openssl/pool.h>

#define VALK__TLS_AWSLC 1

/* Names of authorities, as clients are told of them. */
typedef STACK_OF(CRYPTO_BUFFER) valk__tls_names_t;

#define VALK__TLS_LIBRARY "AWS-LC " AWSLC_VERSION_NUMBER_STRING
#define ERR_raise(library, reason) ERR_put_error((library), 0, (reason), __FILE__, __LINE__)
#define SSL_get1_peer_certificate SSL_get_peer_certificate
/* It has no such option: see on_client_hello in tls_context.c. */
#define SSL_OP_PRIORITIZE_CHACHA 0

#else

#include <openssl/core_names.h>
#include <openssl/params.h>

#define VALK__TLS_AWSLC 0

typedef STACK_OF(X509_NAME) valk__tls_names_t;
#endif

#endif
