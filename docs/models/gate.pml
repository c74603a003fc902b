/* The gate of native/core/gate.c, and how it wakes a thread (native/core/thread.c), in Promela.
 * Included by buffers.pml and admission.pml, which define THREADS, GATES, LEVELS, CAPACITY(gate)
 * and RESERVE(gate).
 *
 * What a call of gate.c does under its lock is one atomic step. The notification, made outside the
 * lock, is two more: the bit in valk_thread_t.signals, and uv_async_send. Both may come late. */

#define NOBODY 255
#define QUEUE(gate, level) ((gate) * LEVELS + (level))
#define PLACE(gate, level, thread) (QUEUE(gate, level) * THREADS + (thread))

mtype = { idle, waiting, granted };

mtype state[GATES * LEVELS * THREADS] = idle; /* valk_gate_consumer_t */
chan fifo[GATES * LEVELS] = [THREADS] of { byte };
byte in_use[GATES];
byte lent[GATES]; /* places that a request or connection has: |in_use| without the grants */

bool signals[THREADS]; /* valk_thread_t.signals: the one bit of this protocol */
bool async[THREADS];   /* the loop's wake-up is pending */

/* has_free */
#if LEVELS > 1
#define FREE(gate, level) (in_use[gate] + ((level) == 0 -> 0 : RESERVE(gate)) < CAPACITY(gate))
#define OTHERS_FIRST(gate, level) \
  (len(fifo[QUEUE(gate, 0)]) > 0 || ((level) == 1 && len(fifo[QUEUE(gate, 1)]) > 0))
#else
#define FREE(gate, level) (in_use[gate] < CAPACITY(gate))
#define OTHERS_FIRST(gate, level) (len(fifo[QUEUE(gate, 0)]) > 0)
#endif

/* What gate.c says of itself: nobody waits at a level at which a place could be taken. */
inline check(gate) {
  assert(in_use[gate] <= CAPACITY(gate) && lent[gate] <= in_use[gate]);
  assert(!(len(fifo[QUEUE(gate, 0)]) > 0 && FREE(gate, 0)));
#if LEVELS > 1
  assert(!(len(fifo[QUEUE(gate, 1)]) > 0 && FREE(gate, 1)))
#endif
}

/* grant: |next| is whom to notify. Within an atomic step. */
inline grant(gate) {
  next = NOBODY;
  if
  :: len(fifo[QUEUE(gate, 0)]) > 0 ->
     if
     :: FREE(gate, 0) ->
        fifo[QUEUE(gate, 0)]?next; state[PLACE(gate, 0, next)] = granted; in_use[gate]++
     :: else
     fi
#if LEVELS > 1
  :: len(fifo[QUEUE(gate, 0)]) == 0 && len(fifo[QUEUE(gate, 1)]) > 0 && FREE(gate, 1) ->
     fifo[QUEUE(gate, 1)]?next; state[PLACE(gate, 1, next)] = granted; in_use[gate]++
#endif
  :: else
  fi;
  check(gate)
}

/* valk__thread_signal: only the first signal after a turn pays for the wake-up. */
inline signal(thread) {
  atomic { was = signals[thread]; signals[thread] = true };
  if
  :: atomic { !was -> async[thread] = true }
  :: atomic { else -> was = false }
  fi
}

/* The gate's |notify|: valk__thread_signal of VALK_SIGNAL_BUFFERS or VALK_SIGNAL_ARENAS. */
inline notify() {
  if
  :: next != NOBODY -> signal(next)
  :: else
  fi;
  next = NOBODY
}

/* valk_gate_acquire, called by the thread |me|. */
inline acquire(gate, level) {
  atomic {
    if
    :: state[PLACE(gate, level, me)] == granted ->
       state[PLACE(gate, level, me)] = idle; lent[gate]++; taken = true
    :: state[PLACE(gate, level, me)] != granted && !OTHERS_FIRST(gate, level) && FREE(gate, level) ->
       in_use[gate]++; lent[gate]++; taken = true
    :: else ->
       taken = false;
       if
       :: state[PLACE(gate, level, me)] == idle ->
          state[PLACE(gate, level, me)] = waiting; fifo[QUEUE(gate, level)]!me
       :: else
       fi
    fi;
    check(gate)
  }
}

/* valk_gate_release */
inline release(gate) {
  atomic { in_use[gate]--; lent[gate]--; grant(gate) };
  notify()
}

/* valk_gate_settle, called by the thread |me|. */
inline settle(gate, level) {
#if BROKEN != 1
  atomic {
    next = NOBODY;
    if
    :: state[PLACE(gate, level, me)] == waiting -> fifo[QUEUE(gate, level)]??eval(me)
    :: state[PLACE(gate, level, me)] == granted -> in_use[gate]--; grant(gate)
    :: else
    fi;
    state[PLACE(gate, level, me)] = idle;
    check(gate)
  };
  notify()
#else
  skip /* as if a thread kept the grants that it has no use for */
#endif
}
