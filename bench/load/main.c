#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "modes.h"

static int usage(void) {
  fputs("usage: load full|resumed port connections parallel\n"
        "       load steady port connections streams requests path\n"
        "       load overload port connections streams seconds path health-path\n",
        stderr);
  return 2;
}

int main(int count, char **words) {
  signal(SIGPIPE, SIG_IGN);
  const char *mode = count > 1 ? words[1] : "";
  int number[4] = {0};
  for (int i = 0; i < 4 && i + 2 < count; i++)
    number[i] = atoi(words[i + 2]);
  if (count == 5 && strcmp(mode, "full") == 0) {
    run_handshakes(number[0], number[1], number[2], false);
  } else if (count == 5 && strcmp(mode, "resumed") == 0) {
    run_handshakes(number[0], number[1], number[2], true);
  } else if (count == 7 && strcmp(mode, "steady") == 0) {
    run_steady(number[0], number[1], number[2], number[3], words[6]);
  } else if (count == 8 && strcmp(mode, "overload") == 0) {
    run_overload(number[0], number[1], number[2], number[3], words[6], words[7]);
  } else {
    return usage();
  }
  return 0;
}
