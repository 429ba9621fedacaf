-- one row: a thread made runnable, seen in the waker's own context
-- evidence: stream=sched cpus=own interval=ts..ts
-- needs: sched_waking
-- filled: fd socket family saddr sport daddr dport tcp_state by sched_waking.fd
-- The context was computed in the kernel at the event: the row depends on no other event.
SELECT
    seq, -- int: order of the waking
    ts, -- int clock: when
    target_tid AS tid, -- int: thread that is woken
    target_pid AS pid, -- int: its process
    target_comm AS comm, -- text: its name
    waker_tid, -- int: thread that was current (a bystander in an interrupt)
    waker_pid, -- int: its process
    waker_comm, -- text: its name
    context, -- text: what the waker ran in: task, softirq, hardirq, hrtimer, ipi, nmi, unknown
    context_vec, -- int: softirq vector or irq number of that context
    vec_name, -- text: its name, such as NET_RX
    cpu, -- int: CPU the waker ran on
    target_prio AS prio, -- int: kernel priority of the woken thread
    target_cpu AS prev_cpu, -- int: CPU the woken thread ran on last
    fd, -- int: file descriptor of the epoll set's file through which it came, null: not through epoll
    socket, -- int: address of that file's struct sock
    family, -- int: its address family: 2 IPv4, 10 IPv6
    saddr, -- text: its local address
    sport, -- int: its local port
    daddr, -- text: its remote address
    dport, -- int: its remote port
    tcp_state_name AS tcp_state, -- text: its TCP state
    CASE WHEN context IS NULL THEN 'unknown' ELSE COALESCE(context_source, 'recorded') END AS context_source, -- text: recorded (computed in the kernel), flags (of ftrace), stack (the call chain), spans (the handlers' begins and ends), unknown
    TRUE AS certain -- bool: no lost event can change the row
FROM wakers
