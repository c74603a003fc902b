#include <uv.h>

#include "../include/valk.h"

const char *valk_strerror(int error) {
  switch (error) {
  case VALK_OK:
    return "success";
  case VALK_ENOMEM:
    return "out of memory";
  case VALK_EINVAL:
    return "invalid argument";
  case VALK_ETLS:
    return "the key, the certificate or the TLS library failed";
  case VALK_ESTOPPED:
    return "the system has been stopped";
  case VALK_EAGAIN:
    return "full for now, try again when told";
  case VALK_ESTALE:
    return "the request has ended";
  case VALK_ELIMIT:
    return "the configuration needs more memory than the process may map";
  default: {
    /* uv_strerror would leak the sentence of an unknown error. */
    static _Thread_local char sentence[128];
    return uv_strerror_r(error, sentence, sizeof sentence);
  }
  }
}
