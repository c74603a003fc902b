/* Debian's libnghttp2.a refers to `stderr` in a way that a shared object cannot relocate. The addon
 * is linked with `--wrap=stderr`: such references then mean this variable, inside the object. */
#include <stdio.h>

extern FILE *__real_stderr;

__attribute__((visibility("hidden"))) FILE *__wrap_stderr;

__attribute__((constructor)) static void wrap_stderr(void) {
  __wrap_stderr = __real_stderr;
}
