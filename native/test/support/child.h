/* A client in a process of its own: what is counted or made to fail in the test's is the engine's
 * alone. */
#ifndef VALK_TEST_CHILD_H
#define VALK_TEST_CHILD_H

#include <stdbool.h>
#include <stdint.h>

/* Forks: before there is anything that the child would inherit. For each port that it is given it
 * calls |meet|. Asserts success. */
void child_start(void (*meet)(uint16_t port));
/* Has it meet the server at |port|; child_done tells when it has. */
void child_meet(uint16_t port);
/* Whether it has; waits for that if |wait|. */
bool child_done(bool wait);
void child_end(void);

#endif
