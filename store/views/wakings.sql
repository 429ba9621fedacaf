-- one row: a waking, by whichever of the two events was recorded (helper)
-- evidence: none
-- needs: sched_waking
SELECT
    seq, -- int: order of the waking
    ts, -- int clock: when
    cpu, -- int: CPU the waker ran on
    target_tid, -- int: thread that is woken
    target_pid, -- int: its process
    target_comm, -- text: its name
    target_prio, -- int: its kernel priority
    target_cpu, -- int: CPU it ran on last
    tid AS waker_tid, -- int: thread that was current
    pid AS waker_pid, -- int: its process
    comm AS waker_comm, -- text: its name
    context, -- text: what the waker ran in
    context_vec, -- int: softirq vector or irq number of that context
    fd, -- int: file descriptor of the epoll set's file through which it came, null: not through epoll
    socket, -- int: address of that file's struct sock
    family, -- int: its address family: 2 IPv4, 10 IPv6
    saddr, -- text: its local address
    sport, -- int: its local port
    daddr, -- text: its remote address
    dport, -- int: its remote port
    tcp_state, -- int: its TCP state
    context_source -- text: where an imported context is from, null where it was recorded
FROM sched_waking
