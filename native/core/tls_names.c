/* Certificates by server name (RFC 6066, section 3). */
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "tls_internal.h"

#define NAME_MAX_LENGTH 255u

static int compare_names(const void *a, const void *b) {
  return strcmp(((const valk__tls_named_t *) a)->name, ((const valk__tls_named_t *) b)->name);
}

bool valk__tls_names_new(valk_tls_context_t *context, const valk_tls_options_t *options) {
  if (options->context_count == 0) {
    return true;
  }
  context->named = OPENSSL_zalloc(options->context_count * sizeof *context->named);
  if (!context->named) {
    return false;
  }
  for (size_t i = 0; i < options->context_count; i++) {
    context->named[i].name = OPENSSL_strdup(options->contexts[i].name);
    if (!context->named[i].name) {
      return false;
    }
    context->named_count++;
  }
  qsort(context->named, context->named_count, sizeof *context->named, compare_names);
  return true;
}

void valk__tls_names_free(valk_tls_context_t *context) {
  for (size_t i = 0; i < context->named_count; i++) {
    valk__tls_verify_clients_end(context->named[i].ssl_context);
    SSL_CTX_free(context->named[i].ssl_context);
    OPENSSL_free(context->named[i].name);
  }
  OPENSSL_free(context->named);
}

static SSL_CTX *find(const valk_tls_context_t *context, char *name) {
  valk__tls_named_t wanted = {.name = name};
  valk__tls_named_t *found =
      bsearch(&wanted, context->named, context->named_count, sizeof *context->named, compare_names);
  return found ? found->ssl_context : NULL;
}

static SSL_CTX *choose(const valk_tls_context_t *context, const char *servername) {
  char name[NAME_MAX_LENGTH + 1];
  size_t length = strlen(servername);
  if (length == 0 || length > NAME_MAX_LENGTH) {
    return NULL;
  }
  for (size_t i = 0; i <= length; i++) {
    name[i] = servername[i] >= 'A' && servername[i] <= 'Z' ? (char) (servername[i] | 0x20)
                                                           : servername[i];
  }
  SSL_CTX *exact = find(context, name);
  char *dot = strchr(name, '.');
  if (exact || !dot || dot == name) {
    return exact;
  }
  dot[-1] = '*';
  return find(context, dot - 1);
}

int valk__tls_on_servername(SSL *ssl, int *alert, void *data) {
  (void) alert;
  (void) data;
  const valk_tls_context_t *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
  const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (name && context->named_count > 0) {
    SSL_CTX *chosen = choose(context, name);
    bool waived = SSL_get_verify_mode(ssl) == SSL_VERIFY_NONE;
    /* Only memory can fail it: the default's certificate would be the wrong one then. */
    if (chosen && !SSL_set_SSL_CTX(ssl, chosen)) {
      return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    /* AWS-LC takes the chosen one's session context too: what a client is told to be good for that
     * was not asked for its certificate must be good here alone. */
    if (chosen && waived && SSL_CTX_get_verify_mode(chosen) != SSL_VERIFY_NONE &&
        valk__tls_waive(ssl) != 0) {
      return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
  }
  /* Acknowledged, whatever it is: only then does a TLS 1.2 session remember it. */
  return SSL_TLSEXT_ERR_OK;
}
