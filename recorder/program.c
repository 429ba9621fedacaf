/* What every generated program begins with. Expanded by recorder/program.py; no kernel header is included. */
#include <uapi/linux/ptrace.h>

/* Events outside [from, to] are not emitted: one switch for all CPUs and probes, set ahead of time. */
struct gate { u64 from, to; };
BPF_ARRAY(gate, struct gate, 1);
static __always_inline int gate_open(u64 ts) {
    int zero = 0;
    struct gate *g = gate.lookup(&zero);
    return g && ts >= g->from && ts <= g->to;
}

/* Per stream: emitted, then failed submits by reason. Atomic, since an interrupt may count on the same CPU. */
BPF_PERCPU_ARRAY(counts, u64, COUNTERS);
static __always_inline void count(int which) {
    u64 *value = counts.lookup(&which);
    if (value) lock_xadd(value, 1);
}
static __always_inline void count_failure(int base, int error) {
    /* EOPNOTSUPP: the CPU was offline meanwhile, and its ring is off since then. */
    count(base + (error == -28 /* ENOSPC */ ? 1 : error == -2 /* ENOENT */ || error == -95 /* EOPNOTSUPP */ ? 2 : 3));
}

/* Whether this event of a kind is one of those that --every takes: the first of each n on this CPU. */
#if EVERY > 1
BPF_PERCPU_ARRAY(passed, u64, KINDS);
static __always_inline int taken(int kind) {
    u64 *number = passed.lookup(&kind);
    if (!number) return 1;
    u64 before = *number;
    *number = before + 1;
    return before % EVERY == 0;
}
#endif

/* The interrupt context of each CPU: a stack of (class << 24 | vector), innermost last. */
#define LEVELS 8
#define NO_VECTOR 0xffffff
/* The compiler may know that an index is small and leave the mask out; the verifier of Linux 6.1 does not, and refuses. */
static __always_inline u32 level_index(u32 index) {
    asm volatile("" : "+r"(index));
    return index & (LEVELS - 1);
}
struct context_stack { u32 depth; u32 level[LEVELS]; };
BPF_PERCPU_ARRAY(contexts, struct context_stack, 1);
static __always_inline void context_enter(u32 class, u32 vector) {
    int zero = 0;
    struct context_stack *s = contexts.lookup(&zero);
    if (!s) return;
    u32 depth = s->depth;
    if (depth < LEVELS) s->level[level_index(depth)] = class << 24 | (vector & NO_VECTOR);
    s->depth = depth + 1;
}
/* Leave the innermost level of a class; an exit whose entry was never seen (probes were just attached) does nothing. */
static __always_inline void context_leave(u32 class) {
    int zero = 0;
    struct context_stack *s = contexts.lookup(&zero);
    if (!s) return;
    u32 depth = s->depth;
    if (depth > LEVELS) { s->depth = depth - 1; return; }
    #pragma unroll
    for (int back = 1; back <= 3; back++) {
        if (depth >= back && s->level[level_index(depth - back)] >> 24 == class) { s->depth = depth - back; return; }
    }
}
/* A switch never happens in an interrupt, so whatever the stack holds then is a mistake. */
static __always_inline void context_reset(void) {
    int zero = 0;
    struct context_stack *s = contexts.lookup(&zero);
    if (s) s->depth = 0;
}
/* How deep in interrupts this CPU is. */
static __always_inline u32 context_depth(void) {
    int zero = 0;
    struct context_stack *s = contexts.lookup(&zero);
    return s ? s->depth : 0;
}
/* In the top byte the class, below it the vector. */
static __always_inline u32 context_now(void) {
    int zero = 0;
    struct context_stack *s = contexts.lookup(&zero);
    if (!s || s->depth > LEVELS) return CONTEXT_UNKNOWN << 24 | NO_VECTOR;
    u32 depth = s->depth;
    if (depth == 0) return CONTEXT_TASK << 24 | NO_VECTOR;
    return s->level[level_index(depth - 1)];
}
/* ksoftirqd/N is woken by the tail of softirq processing, an irq thread by the tail of interrupt handling: both after
   the exit tracepoint. With an empty stack the context of such a wakeup is not known; task would be a guess. */
static __always_inline int woken_by_a_tail(char *comm) {
    return (comm[0] == 'k' && comm[1] == 's' && comm[2] == 'o' && comm[3] == 'f' && comm[4] == 't' && comm[5] == 'i'
            && comm[6] == 'r' && comm[7] == 'q' && comm[8] == 'd') || (comm[0] == 'i' && comm[1] == 'r' && comm[2] == 'q' && comm[3] == '/');
}

static __always_inline s32 read_s32(u64 address) {
    s32 value = 0;
    bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
    return value;
}
static __always_inline u64 read_u64(u64 address) {
    u64 value = 0;
    bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
    return value;
}
/* A pointer at an address; 0 where it cannot be read. */
static __always_inline u64 read_kernel(u64 address) { return read_u64(address); }
static __always_inline u64 read_user(u64 address) {
    u64 value = 0;
    bpf_probe_read_user(&value, sizeof(value), (void *)address);
    return value;
}
/* A number at an address in kernel or user space. */
#define NOT_READ (-0x7fffffffffffffffLL - 1)
#define LOAD(space, type, address) ({ \
    type loaded = 0; \
    bpf_probe_read_##space(&loaded, sizeof(loaded), (void *)(address)) ? NOT_READ : (s64)loaded; \
})
/* A USDT argument, which may be in memory, as a number of some type, or with a constant added. */
#define CONVERTED(type, value) ({ s64 given = (value); given == NOT_READ ? NOT_READ : (s64)(type)given; })
#define ADDED(value, constant) ({ s64 given = (value); given == NOT_READ ? NOT_READ : given + (constant); })
