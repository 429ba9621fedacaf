-- one row: one return of epoll_wait, epoll_pwait or epoll_pwait2
-- evidence: stream=epoll,sched cpus=all interval=since_ts..ts
-- needs: sys_exit_epoll_wait|sys_exit_epoll_pwait|sys_exit_epoll_pwait2 sched_waking?
-- filled: fd socket family saddr sport daddr dport tcp_state by sched_waking.fd
-- filled: slept waking_ts waker_tid waker_pid waker_comm context context_vec vec_name by sched_waking
-- The waking is the last one of the thread since its previous return. Without one it did not sleep: events were ready,
-- or the call polled. A waking by a timer may be the call's own timeout (then events is 0).
WITH steps AS (
    SELECT seq, ts, cpu, tid, pid, comm, ret, 'return' AS what FROM sys_exit_epoll_wait
    UNION ALL SELECT seq, ts, cpu, tid, pid, comm, ret, 'return' FROM sys_exit_epoll_pwait
    UNION ALL SELECT seq, ts, cpu, tid, pid, comm, ret, 'return' FROM sys_exit_epoll_pwait2
    UNION ALL SELECT seq, ts, cpu, target_tid, NULL, NULL, NULL, 'waking' FROM sched_waking
),
returns AS (
    SELECT *,
        LAST_VALUE(CASE WHEN what = 'return' THEN seq END IGNORE NULLS) OVER before AS prev_seq,
        LAST_VALUE(CASE WHEN what = 'return' THEN ts END IGNORE NULLS) OVER before AS prev_ts,
        LAST_VALUE(CASE WHEN what = 'waking' THEN seq END IGNORE NULLS) OVER before AS waking_seq
    FROM steps
    WINDOW before AS (PARTITION BY tid ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
),
judged AS (
    SELECT returns.*, COALESCE(gap.reach < COALESCE(prev_ts, 0), TRUE) AS certain
    FROM (SELECT * FROM returns WHERE what = 'return') AS returns
    ASOF LEFT JOIN (SELECT from_ts, reach FROM gap_reach WHERE stream = 'epoll+sched') AS gap ON returns.ts >= gap.from_ts
),
known AS (
    SELECT *, CASE WHEN certain AND waking_seq > COALESCE(prev_seq, -1) THEN waking_seq END AS sure_waking_seq FROM judged
)
SELECT
    known.seq, -- int: order of the return
    known.ts, -- int clock: when
    known.cpu, -- int: the CPU
    tid, -- int: thread that waited
    pid, -- int: its process
    comm, -- text: its name
    CASE WHEN ret >= 0 THEN ret END AS events, -- int: events returned; 0: timeout
    CASE WHEN ret < 0 THEN -ret END AS error, -- int: errno of a failed call, such as 4 (EINTR)
    CASE WHEN certain AND 'sched_waking' IN (SELECT kind FROM recorded) THEN waking.seq IS NOT NULL END AS slept, -- bool?: whether it was woken since its previous return; null: wakings were not recorded
    waking.ts AS waking_ts, -- int? clock: when it was woken
    waking.waker_tid, -- int?: thread that was current at the waking (a bystander in an interrupt)
    waking.waker_pid, -- int?: its process
    waking.waker_comm, -- text?: its name
    waking.context, -- text?: what the waker ran in: task, softirq, hardirq, hrtimer, ipi, nmi, unknown
    waking.context_vec, -- int?: softirq vector or irq number of that context
    waking.vec_name, -- text?: its name, such as NET_RX
    waking.fd, -- int?: file descriptor of the epoll set's file through which the waking came, null: not through epoll
    waking.socket, -- int?: address of that file's struct sock
    waking.family, -- int?: its address family: 2 IPv4, 10 IPv6
    waking.saddr, -- text?: its local address
    waking.sport, -- int?: its local port
    waking.daddr, -- text?: its remote address
    waking.dport, -- int?: its remote port
    waking.tcp_state_name AS tcp_state, -- text?: its TCP state
    CASE WHEN certain THEN prev_ts END AS since_ts, -- int? clock: begin of what the row depends on: the previous return; null: the recording's
    certain -- bool: no lost event can change the row
FROM known
LEFT JOIN wakers AS waking ON waking.seq = known.sure_waking_seq AND waking.target_tid = known.tid
