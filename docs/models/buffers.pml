/* Waiting for TCP buffers: native/core/slab.c and native/core/connection.c over the gate, in
 * Promela. Buffers to write have level 0, buffers to read level 1 and leave a reserve.
 *
 * Each connection comes once, and waits, is served or vanishes. Whoever waits is in the end served
 * or gone: no run ends while one waits (a lost wake-up is an invalid end state), and no run is
 * without end (a non-progress cycle). -DLIVE: connections come again without end, and the same is
 * said in LTL, under weak fairness.
 *
 * -DBROKEN=1: valk_gate_settle does nothing.
 * -DBROKEN=2: take_signals clears the signals after it has served them, not before.
 * -DBROKEN=3: no reserve; then a thread keeps a grant to read while it waits for one to write. */
#ifndef BROKEN
#define BROKEN 0
#endif

#ifdef LIVE
#define THREADS 3
#define LEVELS 1
#define CAPACITY(gate) 1
#define RESERVE(gate) 0
#else
#define THREADS 2
#define LEVELS 2
#define CAPACITY(gate) 2
#if BROKEN == 3
#define RESERVE(gate) 0
#else
#define RESERVE(gate) 1
#endif
#define CONNECTIONS(level) (2 - (level)) /* of a thread */
#define VANISH 1      /* of a thread: if all could, nobody would ever be seen to be stuck */
#endif
#define GATES 1

#include "gate.pml"

/* valk__connections_serve_buffers, one of its two halves; leaves |blocked| set where it returns
 * early. */
inline serve(level) {
  do
  :: waits[level] > 0 ->
     acquire(0, level);
     if
     :: taken -> atomic { taken = false; waits[level]--; held++ }
     :: else -> blocked = true; break
     fi
  :: else -> settle(0, level); break
  od
}

/* take_signals */
inline take_signals() {
  atomic { was = signals[me]; signals[me] = (BROKEN == 2 -> was : false) };
  if
  :: was ->
     blocked = false;
     serve(0);
#if LEVELS > 1
     if
     :: !blocked -> serve(1)
     :: else
     fi;
#endif
     if
     :: BROKEN == 2 -> signals[me] = false
     :: else
     fi;
     blocked = false;
     was = false
  :: else
  fi
}

#ifdef LIVE

bool in_line[THREADS];

/* An engine thread with one connection, which needs a buffer again and again. */
proctype thread(byte me) {
  byte waits[LEVELS];
  byte held;
  byte next = NOBODY;
  bool taken, was, blocked;
  do
  :: held == 0 && waits[0] == 0 ->
     in_line[me] = true;
     acquire(0, 0);
     if
     :: taken -> held = 1; in_line[me] = false
     :: else -> waits[0] = 1
     fi
  :: atomic { async[me] -> async[me] = false };
     take_signals();
     if
     :: held > 0 -> in_line[me] = false
     :: else
     fi
  :: held > 0 -> held = 0; release(0)
  od
}

init {
  atomic { run thread(0); run thread(1); run thread(2) }
}

ltl served { [] (in_line[0] -> <> !in_line[0]) }

#else

/* An engine thread: what its connections do, and its turns. */
proctype thread(byte me) {
  byte come[LEVELS], waits[LEVELS];
  byte held, vanished, level;
  byte next = NOBODY;
  bool taken, was, blocked;
  do
  :: come[0] < CONNECTIONS(0) || come[1] < CONNECTIONS(1) -> /* make_room_out, receive */
     atomic {
       if
       :: come[0] < CONNECTIONS(0) -> level = 0
       :: come[1] < CONNECTIONS(1) -> level = 1
       fi;
       come[level]++;
       if
       :: waits[level] > 0 -> waits[level]++ /* behind the thread's own */
       :: else ->
          acquire(0, level);
          if
          :: taken -> held++
          :: else -> waits[level]++
          fi
       fi;
       taken = false;
       level = 0
     }
  :: held > 0 -> held--; release(0) /* sent, or read */
  :: waits[0] > 0 && vanished < VANISH -> vanished++; waits[0]-- /* valk__connection_close */
  :: waits[1] > 0 && vanished < VANISH -> vanished++; waits[1]--
  :: atomic { async[me] -> async[me] = false }; take_signals() /* a turn that a signal began */
  :: signals[me] -> take_signals() /* the end of a turn that something else began */
  :: come[0] == CONNECTIONS(0) && come[1] == CONNECTIONS(1) && held == 0 && waits[0] == 0 &&
     waits[1] == 0 && state[PLACE(0, 0, me)] == idle && state[PLACE(0, 1, me)] == idle &&
     !async[me] && !signals[me] ->
     break
  od
}

init {
  atomic { run thread(0); run thread(1) };
  _nr_pr == 1 -> assert(in_use[0] == 0 && lent[0] == 0)
}

#endif
