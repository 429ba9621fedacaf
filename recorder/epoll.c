/* What ep_poll_callback is called for, kept per CPU while it runs, so that a wakeup inside it knows what it came through.
   Expanded by recorder/program.py. Struct layouts are the running kernel's (BTF). */
#define NO_PORT -1
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define S_IFMT 0170000
#define S_IFSOCK 0140000

struct endpoint { u64 socket; s32 family, sport, dport, tcp_state; u8 saddr[16], daddr[16]; };

static __always_inline u16 read_u16(u64 address) {
    u16 value = 0;
    bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
    return value;
}
static __always_inline u8 read_u8(u64 address) {
    u8 value = 0;
    bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
    return value;
}
/* An IPv4 address as IPv6 maps it. */
static __always_inline void read_ipv4(u8 *to, u64 address) {
    __builtin_memset(to, 0, 10);
    to[10] = 0xff; to[11] = 0xff;
    bpf_probe_read_kernel(to + 12, 4, (void *)address);
}
/* Both ends of a struct sock; what it has not stays as the columns' null has it. */
static __always_inline void read_endpoint(u64 sock, struct endpoint *e) {
    e->socket = sock; e->family = 0; e->sport = NO_PORT; e->dport = NO_PORT; e->tcp_state = 0;
    __builtin_memset(e->saddr, 0xff, 16);
    __builtin_memset(e->daddr, 0xff, 16);
    if (!sock) return;
    u32 family = read_u16(sock + OFFSET(sock.__sk_common.skc_family));
    e->family = family;
    if (family != AF_INET && family != AF_INET6) return;
    e->sport = read_u16(sock + OFFSET(sock.__sk_common.skc_num));
    /* Kept in the network's order, the other port in the host's. */
    e->dport = read_u8(sock + OFFSET(sock.__sk_common.skc_dport)) << 8
        | read_u8(sock + OFFSET(sock.__sk_common.skc_dport) + 1);
    if (family == AF_INET) {
        read_ipv4(e->saddr, sock + OFFSET(sock.__sk_common.skc_rcv_saddr));
        read_ipv4(e->daddr, sock + OFFSET(sock.__sk_common.skc_daddr));
    } else {
        bpf_probe_read_kernel(e->saddr, 16, (void *)(sock + OFFSET(sock.__sk_common.skc_v6_rcv_saddr)));
        bpf_probe_read_kernel(e->daddr, 16, (void *)(sock + OFFSET(sock.__sk_common.skc_v6_daddr)));
    }
    if (read_u16(sock + OFFSET(sock.sk_protocol)) == IPPROTO_TCP)
        e->tcp_state = read_u8(sock + OFFSET(sock.__sk_common.skc_state));
}
/* The struct sock behind an open file, 0 where it is no socket. */
static __always_inline u64 sock_of_file(u64 file) {
    u64 inode = read_u64(file + OFFSET(file.f_inode));
    if ((read_u16(inode + OFFSET(inode.i_mode)) & S_IFMT) != S_IFSOCK) return 0;
    return read_u64(read_u64(file + OFFSET(file.private_data)) + OFFSET(socket.sk));
}

/* Nested: an epoll set in another one (at most EP_MAX_NESTS 4). The kernel holds a wait queue's lock around the callback,
   with interrupts off, so what is on top belongs to whatever runs; `level`, the depth of the interrupt context, makes sure. */
#define NESTED 8
struct callback { u64 file, epoll; s32 fd; u32 events, level, source; struct endpoint end; };
struct callbacks { u32 depth, unused; struct callback at[NESTED]; };
BPF_PERCPU_ARRAY(callbacks, struct callbacks, 1);

static __always_inline u32 nested_index(u32 index) {
    asm volatile("" : "+r"(index));
    return index & (NESTED - 1);
}
/* wait: struct wait_queue_entry in struct eppoll_entry, which leads to the struct epitem. */
static __always_inline void callback_enter(u64 wait, u64 key) {
    int zero = 0;
    struct callbacks *all = callbacks.lookup(&zero);
    if (!all) return;
    u32 depth = all->depth;
    all->depth = depth + 1;
    if (depth >= NESTED) return;
    struct callback *c = &all->at[nested_index(depth)];
    u64 item = read_u64(wait - OFFSET(eppoll_entry.wait) + OFFSET(eppoll_entry.base));
    c->file = read_u64(item + OFFSET(epitem.ffd.file));
    c->fd = read_s32(item + OFFSET(epitem.ffd.fd));
    c->epoll = read_u64(item + OFFSET(epitem.ep));
    c->events = key;
    c->level = context_depth();
    c->source = depth;
    read_endpoint(sock_of_file(c->file), &c->end);
    /* The file of an outer set is the inner set: what it came through is still the inner one's socket. */
    if (!c->end.socket && depth > 0) {
        struct callback *inner = &all->at[nested_index(depth - 1)];
        if (inner->level == c->level) c->source = inner->source;
    }
}
static __always_inline void callback_leave(void) {
    int zero = 0;
    struct callbacks *all = callbacks.lookup(&zero);
    if (all && all->depth > 0) all->depth--;
}
/* A switch never happens inside the callback. */
static __always_inline void callback_reset(void) {
    int zero = 0;
    struct callbacks *all = callbacks.lookup(&zero);
    if (all) all->depth = 0;
}
/* The innermost callback that runs on this CPU in the present context; none: 0. */
static __always_inline struct callback *callback_now(void) {
    int zero = 0;
    struct callbacks *all = callbacks.lookup(&zero);
    if (!all || all->depth == 0 || all->depth > NESTED) return 0;
    struct callback *c = &all->at[nested_index(all->depth - 1)];
    return c->level == context_depth() ? c : 0;
}
/* The socket it came through: its own, or that of the set inside its set. */
static __always_inline struct endpoint *endpoint_of(struct callback *c) {
    int zero = 0;
    struct callbacks *all = callbacks.lookup(&zero);
    return all && c ? &all->at[nested_index(c->source)].end : 0;
}
