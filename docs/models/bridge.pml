/* The crossing between engine threads and JavaScript: native/binding/bridge.c and the turn of
 * lib/server-dispatch.ts, in Promela. A load or store of a shared word is one step, sequentially
 * consistent as Atomics are.
 *
 * Each request comes once; it is claimed, or dropped while it is queued, or refused while it waits
 * for room. No run ends while a request is queued, waits for room, or an event is untold (a lost
 * wake-up is an invalid end state), and no run is without end (a non-progress cycle).
 *
 * -DBROKEN=1: valk_bridge_sleep stores AWAKE without reading WRITE again.
 * -DBROKEN=2: valk_bridge_sleep does not look at EVENTS.
 * -DBROKEN=3: block does not look for room again.
 * -DBROKEN=4: valk_bridge_unblock clears BLOCKED last.
 * -DBROKEN=5: on_turn looks at AWAKE before it stores WRITE. */
#ifndef BROKEN
#define BROKEN 0
#endif

#define THREADS 2
#define REQUESTS(thread) (2 - (thread))
#define CAPACITY 2  /* options.queue_capacity, and a power of two */
#ifndef TEXT_LACKS
#define TEXT_LACKS false
#endif
#define REFUSALS 1 /* of the first thread: if all could be, nobody would be seen to be stuck */

mtype = { free, queued, claimed, dropped };

byte WRITE, READ, UNBLOCK_AT; /* what counts up never wraps here */
bool AWAKE, EVENTS, BLOCKED;
mtype record[CAPACITY] = free;

bool ring_lock;
byte write;            /* bridge->write: written, published or not */
bool waits[THREADS];   /* inbox.waits */
bool wake[THREADS];    /* VALK_SIGNAL_WAKE: see gate.pml for how it gets there */
bool turn_due;         /* options.wake: JavaScript's uv_async_t */
byte events;           /* that stand in the bridge's list, under bridge->lock */
byte taken;            /* requests that JavaScript claimed */
byte ended;            /* requests that were dropped or refused */
byte told;             /* events */

/* has_room. Text may lack too, but never while the ring is empty. */
inline has_room() {
  atomic {
    if
    :: write - READ < CAPACITY -> room = true
    :: TEXT_LACKS && write > READ -> room = false
    :: write - READ == CAPACITY -> room = false
    fi
  }
}

/* enqueue, with block */
inline offer() {
  atomic { !ring_lock -> ring_lock = true; has_room() };
  if
  :: !room ->
     atomic { waits[me] = true; read = READ };
     atomic { UNBLOCK_AT = read + (write - read) / 2; read = 0 };
     BLOCKED = true;
#if BROKEN != 3
     has_room()
#endif
  :: else
  fi;
  if
  :: atomic { room ->
              position = write; record[write % CAPACITY] = queued; write++;
              mine++; news = true; ring_lock = false }
  :: atomic { else -> ring_lock = false }
  fi
}

/* on_turn */
inline on_turn() {
  news = false;
#if BROKEN == 5
  atomic { was = AWAKE; AWAKE = true };
#endif
  atomic { !ring_lock -> WRITE = write }; /* the store and the lock around it */
#if BROKEN != 5
  atomic { was = AWAKE; AWAKE = true };
#endif
  if
  :: atomic { !was -> turn_due = true }
  :: atomic { else -> was = false }
  fi
}

/* valk__admission_run_queue */
inline run_queue() {
  do
  :: blocked > 0 ->
     offer();
     if
     :: atomic { room -> room = false; blocked-- }
     :: else -> break
     fi
  :: else -> break
  od
}

/* An engine thread. */
proctype thread(byte me) {
  byte left = REQUESTS(me);
  byte blocked, mine, position, read;
  byte refused = (me == 0 -> 0 : REFUSALS);
  bool room, news, was;
  bool event = (me != 0); /* one thread's will do */
  do
  :: left > 0 -> /* valk__request_dispatch */
     left--;
     if
     :: blocked > 0 -> blocked++
     :: else ->
        offer();
        if
        :: atomic { room -> room = false }
        :: else -> blocked++
        fi
     fi
  :: blocked > 0 && refused < REFUSALS -> refused++; blocked--; ended++ /* queue_expired, BLOCKED */
  :: mine > 0 && position >= READ && record[position % CAPACITY] == queued &&
     refused < REFUSALS -> /* on_drop, withdraw */
     atomic {
       !ring_lock ->
       if
       :: position >= READ && record[position % CAPACITY] == queued ->
          record[position % CAPACITY] = dropped; refused++; mine--; ended++
       :: else
       fi
     }
  :: !event -> /* add_event; the list and the word under bridge->lock */
     atomic { event = true; events++; EVENTS = true };
     news = true
  :: news -> on_turn()
  :: !news && wake[me] -> wake[me] = false; run_queue()
  :: left == 0 && blocked == 0 && event && !news -> break
  od;
  /* Signals that come now find nothing to do. */
end:
  do
  :: wake[me] -> wake[me] = false
  od
}

/* valk_bridge_unblock */
inline unblock() {
#if BROKEN != 4
  BLOCKED = false;
#endif
  i = 0;
  do
  :: i < THREADS ->
     atomic { !ring_lock -> was = waits[i]; waits[i] = false };
     if
     :: was -> wake[i] = true
     :: else
     fi;
     i++
  :: else -> break
  od;
#if BROKEN == 4
  BLOCKED = false;
#endif
  atomic { i = 0; was = false }
}

/* The turn: events, then records, each of which moves READ on (#advance). It may end early, after
 * at least one record. */
inline turn() {
  AWAKE = true; /* valk_bridge_begin */
  if
  :: EVENTS -> atomic { told = told + events; events = 0; EVENTS = false } /* valk_bridge_events */
  :: else
  fi;
  end_of_ring = WRITE;
  do
  :: READ != end_of_ring ->
     atomic {
       if
       :: record[READ % CAPACITY] == queued -> record[READ % CAPACITY] = claimed; taken++
       :: record[READ % CAPACITY] == dropped
       fi
     };
     READ++;
     if
     :: BLOCKED ->
        if
        :: READ >= UNBLOCK_AT -> unblock()
        :: else
        fi
     :: else
     fi;
     if
     :: break /* the slice of time is over */
     :: end_of_ring = WRITE
     fi
  :: else -> break
  od
}

/* JavaScript's thread: lib/server-dispatch.ts, and valk_bridge_sleep. */
proctype javascript() {
  byte end_of_ring, i;
  bool was, asleep;
end:
  do
  :: atomic { turn_due -> turn_due = false };
     do
     :: turn();
        AWAKE = false;
        asleep = true;
#if BROKEN != 1
        if
        :: WRITE != READ -> asleep = false
        :: else
        fi;
#endif
#if BROKEN != 2
        if
        :: EVENTS -> asleep = false
        :: else
        fi;
#endif
        if
        :: asleep -> break
        :: else -> AWAKE = true
        fi
     od
  od
}

/* At the end nothing is left: this process ends only when everything has been taken. */
init {
  atomic { run javascript(); run thread(0); run thread(1) };
  taken + ended == REQUESTS(0) + REQUESTS(1) && told == 1
}
