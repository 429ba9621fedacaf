/* How long threads wait in run queues. What is known of each thread: its last step (it got the CPU, left it, was born), and
   the first waking after that. A waking may run at the same time as the switch in which its thread leaves another CPU:
   each word has one writer, wake the wakers (one at a time, the kernel's p->pi_lock), the others the switches, and which
   came first is decided by their times, when the thread gets a CPU. The same rules as store/views/delays.sql. */
#define STEP_NONE 0 /* only woken so far */
#define STEP_IN 1
#define STEP_SLEEP 2
#define STEP_PREEMPTED 3
#define STEP_NEW 4
#define NO_RACE (~0ULL)
#define MOST_THREADS 65536
/* before: when a thread that now sleeps had got the CPU. */
struct steps { u64 step, before, wake, what; };
BPF_HASH(steps, s32, struct steps, MOST_THREADS);
/* Set for good when a thread had no room: from then on any thread that is not known may have waited. */
BPF_ARRAY(steps_full, u32, 1);
static __always_inline int some_unknown(void) {
    int zero = 0;
    u32 *full = steps_full.lookup(&zero);
    return !full || *full;
}
/* What is known of a thread; 0: there is no room. Two CPUs that meet a thread at once get the same entry. */
static __always_inline struct steps *steps_of(s32 tid) {
    int zero = 0;
    u32 yes = 1;
    struct steps none = {};
    struct steps *s = steps.lookup_or_try_init(&tid, &none);
    if (!s) steps_full.update(&zero, &yes);
    return s;
}

/* Only the first waking since the last step counts. */
static __always_inline void runq_woken(s32 tid) {
    u64 ts = bpf_ktime_get_ns();
    struct steps *s = steps_of(tid);
    if (s && s->wake <= s->step) s->wake = ts;
}

/* Whatever an earlier thread with this tid did. */
static __always_inline void runq_born(s32 tid) {
    u64 ts = bpf_ktime_get_ns();
    struct steps *s = steps_of(tid);
    if (!s) return;
    s->what = STEP_NEW;
    s->step = ts;
}

static __always_inline void runq_leaves(u64 ts, s32 tid, int preempted, u32 state) {
    if (!tid) return; /* idle */
    if (!preempted && state & 0x80 /* TASK_DEAD */) {
        steps.delete(&tid);
        return;
    }
    struct steps *s = steps_of(tid);
    if (!s) return;
    s->before = s->what == STEP_IN || s->what == STEP_NONE ? s->step : NO_RACE;
    s->what = preempted || !state ? STEP_PREEMPTED : STEP_SLEEP;
    s->step = ts;
}

/* since: 0 where no wait is known to end; unsure: whether one does cannot be told. */
struct wait { u64 since; u32 cause; u32 unsure; };
static __always_inline struct wait runq_gets(u64 ts, s32 tid) {
    struct wait wait = {};
    if (!tid) return wait;
    struct steps *s = steps_of(tid);
    if (!s) {
        wait.unsure = 1;
        return wait;
    }
    u64 what = s->what;
    if (what == STEP_PREEMPTED || what == STEP_NEW) {
        wait.since = s->step;
        wait.cause = what == STEP_NEW ? CAUSE_NEW : CAUSE_PREEMPTED;
    } else if (what == STEP_SLEEP) {
        /* A waking that came first, though the thread left asleep, and nothing since: runnable as it left. */
        wait.since = s->wake > s->step ? s->wake : s->wake > s->before ? s->step : 0;
        wait.cause = CAUSE_WAKEUP;
    } else if (what == STEP_NONE) {
        wait.unsure = some_unknown(); /* an earlier step may have had no room */
        wait.since = s->wake;
        wait.cause = CAUSE_WAKEUP;
    }
    s->what = STEP_IN;
    s->step = ts;
    return wait;
}

/* A wait that began before the recording is none of its rows: how it began may not have been seen. */
static __always_inline int runq_late(struct wait *wait, u64 ts) {
    int zero = 0;
    struct gate *g = gate.lookup(&zero);
    return g && wait->since && wait->since >= g->from && (s64)(ts - wait->since) > MIN_DELAY;
}
