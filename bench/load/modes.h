// What the load generator can do; each prints a line of JSON, and exits the program where it cannot
// go on.
#ifndef BENCH_MODES_H
#define BENCH_MODES_H

#include <stdbool.h>

// |count| new connections, |parallel| at one time, each with one request.
void run_handshakes(int port, int count, int parallel, bool resumes);

// |connections| that are opened and fall idle; then, at a line on standard input, |requests| with
// |streams| open on each. Prints `ready` before and a line of JSON after.
void run_steady(int port, int connections, int streams, int requests, const char *path);

// A closed loop of |connections| × |streams| for |seconds|, with health checks beside it.
void run_overload(int port, int connections, int streams, int seconds, const char *path,
                  const char *health);

#endif
