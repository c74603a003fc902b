/* Waiting for arenas: native/core/admission.c over two gates, the one of bodies that are still
 * coming and the one of arenas, in Promela.
 *
 * Each request comes once. It is served, or leaves while it waits (refused after queueTimeoutMs, or
 * its client is gone), or its body ends while it waits, and then it needs no place for a body. No
 * run ends while a request waits, and no run is without end.
 *
 * -DBROKEN=1: valk_gate_settle does nothing.
 * -DBROKEN=2: take_signals clears the signals after it has served them, not before.
 * -DBROKEN=3: take_arena keeps the place of a body for which it found no arena. */
#ifndef BROKEN
#define BROKEN 0
#endif

#define THREADS 2
#define GATES 2
#define LEVELS 1
#define BODIES 0
#define ARENAS 1
#define CAPACITY(gate) 1
#define RESERVE(gate) 0
#define REQUESTS 1 /* of a thread, of each kind */
#define LEAVE 1    /* of a thread: if all could, nobody would ever be seen to be stuck */

#include "gate.pml"

/* take_arena */
inline take_arena(body) {
  taken = true;
  if
  :: body ->
     acquire(BODIES, 0);
     if
     :: !taken -> body_blocked = true
     :: else
     fi
  :: else
  fi;
  if
  :: taken ->
     acquire(ARENAS, 0);
     if
     :: !taken ->
        arena_blocked = true;
        if
        :: body && BROKEN != 3 -> release(BODIES)
        :: else
        fi
     :: else
     fi
  :: else
  fi
}

inline admit(kind) {
  held[kind]++
}

/* valk__admission_run, with |turns| as the requests that wait. */
inline admission_run() {
  do
  :: turns[0] == 0 && (turns[1] == 0 || body_blocked) -> break
  :: turns[0] > 0 || (turns[1] > 0 && !body_blocked) ->
     if
     :: turns[1] > 0 && !body_blocked && (turn == 1 || turns[0] == 0) -> kind = 1
     :: else -> kind = 0
     fi;
     take_arena(kind == 1);
     if
     :: taken -> turn = 1 - kind; turns[kind]--; admit(kind)
     :: !taken && arena_blocked -> break
     :: else
     fi
  od;
  if
  :: turns[0] == 0 && turns[1] == 0 -> settle(ARENAS, 0)
  :: else
  fi;
  if
  :: turns[1] == 0 -> settle(BODIES, 0); body_blocked = false
  :: else
  fi;
  atomic { taken = false; kind = 0 }
}

/* take_signals */
inline take_signals() {
  atomic { was = signals[me]; signals[me] = (BROKEN == 2 -> was : false) };
  if
  :: was ->
     arena_blocked = false;
     body_blocked = false;
     admission_run();
     if
     :: BROKEN == 2 -> signals[me] = false
     :: else
     fi;
     was = false
  :: else
  fi
}

/* valk__admission_leave */
inline leave(which) {
  left++;
  turns[which]--;
  if
  :: turns[0] == 0 && turns[1] == 0 -> signal(me)
  :: else
  fi
}

/* An engine thread: what its requests do, and its turns. */
proctype thread(byte me) {
  byte come[2], turns[2], held[2];
  byte left, kind, turn;
  byte next = NOBODY;
  bool taken, was, arena_blocked, body_blocked;
  do
  :: come[0] < REQUESTS || come[1] < REQUESTS -> /* valk__admission_enter */
     atomic {
       if
       :: come[0] < REQUESTS -> kind = 0
       :: come[1] < REQUESTS -> kind = 1
       fi;
       come[kind]++
     };
     if
     :: arena_blocked || turns[kind] > 0 || (kind == 1 && body_blocked) -> turns[kind]++
     :: else ->
        take_arena(kind == 1);
        if
        :: taken -> admit(kind)
        :: else -> turns[kind]++
        fi
     fi;
     atomic { taken = false; kind = 0 }
  :: held[0] > 0 -> held[0]--; release(ARENAS)
  :: held[1] > 0 -> held[1]--; release(BODIES); release(ARENAS)
  :: turns[0] > 0 && left < LEAVE -> leave(0)
  :: turns[1] > 0 && left < LEAVE -> leave(1)
  :: turns[1] > 0 -> /* valk__admission_body_ended */
     turns[1]--; turns[0]++;
     if
     :: !arena_blocked -> signal(me)
     :: else
     fi
  :: atomic { async[me] -> async[me] = false }; take_signals() /* a turn that a signal began */
  :: signals[me] -> take_signals() /* the end of a turn that something else began */
  :: come[0] == REQUESTS && come[1] == REQUESTS && held[0] == 0 && held[1] == 0 &&
     turns[0] == 0 && turns[1] == 0 && state[PLACE(BODIES, 0, me)] == idle &&
     state[PLACE(ARENAS, 0, me)] == idle && !async[me] && !signals[me] ->
     break
  od
}

init {
  atomic { run thread(0); run thread(1) };
  _nr_pr == 1 -> assert(in_use[BODIES] == 0 && in_use[ARENAS] == 0)
}
