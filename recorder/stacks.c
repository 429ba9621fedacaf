/* Call stacks. An event holds the 64-bit hash of its stack; the frames themselves travel once, through a ring of their own,
   and the reader computes the hash again: a stack whose memory was overwritten on the way is never taken for another.
   Expanded by recorder/program.py. */
#define STACK_USER (1 << 8) /* BPF_F_USER_STACK */
#define STACK_NONE 0
#define STACK_LOST -1
#define FRAMES 127 /* kernel.perf_event_max_stack */
/* A probe may interrupt another one on its CPU (task, softirq, hardirq, nmi). */
#define STACK_SLOTS 4
struct stack_slot { u64 token; struct row_stack_frames row; };
struct stack_slots { u32 depth, unused; struct stack_slot at[STACK_SLOTS]; };
BPF_PERCPU_ARRAY(stack_slots, struct stack_slots, 1);
/* Sent already. What is forgotten is sent again. */
BPF_TABLE("lru_hash", u64, u8, stacks_seen, 65536);

static __always_inline u32 slot_index(u32 index) {
    asm volatile("" : "+r"(index));
    return index & (STACK_SLOTS - 1);
}
static __always_inline s64 take_stack_into(void *ctx, struct stack_slot *slot, u64 ts, u64 flags, u64 space) {
    volatile u64 *token = &slot->token;
    struct row_stack_frames *row = &slot->row;
    u64 mine = ts << 1 | 1;
    *token = mine;
    int bytes = bpf_get_stack(ctx, row->frames, sizeof(row->frames), flags);
    if (bytes <= 0) return STACK_LOST;
    u64 hash = space ^ 0x9e3779b97f4a7c15ULL;
    u32 count = bytes / 8;
    #pragma clang loop unroll(disable)
    for (u32 i = 0; i < FRAMES; i++) {
        asm volatile("" : "+r"(i)); /* else it counts down from an unknown number, which Linux 6.12 refuses (LLVM 19) */
        if (i >= count) break;
        hash = (hash ^ row->frames[i]) * 0xff51afd7ed558ccdULL;
        hash ^= hash >> 32;
    }
    if (hash + 1 <= 1) hash = 2; /* neither none nor lost */
    if (*token != mine) { *token = 0; return STACK_LOST; }
    if (stacks_seen.lookup(&hash)) return hash;
    u64 pid_tgid = bpf_get_current_pid_tgid();
    row->ts = ts; row->kind = STACK_KIND; row->pid = pid_tgid >> 32; row->tid = pid_tgid;
    bpf_get_current_comm(&row->comm, sizeof(row->comm));
    row->frame_count = count; row->space = space; row->stack_id = hash;
    u8 yes = 1;
    if (ring_stack.perf_submit(ctx, row, sizeof(*row)) == 0) stacks_seen.update(&hash, &yes);
    if (*token != mine) { *token = 0; stacks_seen.delete(&hash); }
    return hash;
}
static __always_inline s64 take_stack(void *ctx, u64 ts, u64 flags, u64 space) {
    int zero = 0;
    struct stack_slots *all = stack_slots.lookup(&zero);
    if (!all) return STACK_LOST;
    volatile u32 *depth = &all->depth;
    u32 level = *depth;
    if (level >= STACK_SLOTS) return STACK_LOST;
    *depth = level + 1;
    s64 id = take_stack_into(ctx, &all->at[slot_index(level)], ts, flags, space);
    *depth = level;
    return id;
}
static __always_inline s64 kernel_stack(void *ctx, u64 ts) { return take_stack(ctx, ts, 0, 0); }
/* A kernel thread has none. An address space is told by its mm and process: after exec, addresses mean something else. */
static __always_inline s64 user_stack(void *ctx, u64 ts) {
    u64 mm = read_u64(bpf_get_current_task() + OFFSET(task_struct.mm));
    if (!mm) return STACK_NONE;
    return take_stack(ctx, ts, STACK_USER, mm ^ (bpf_get_current_pid_tgid() & ~0xffffffffULL));
}
