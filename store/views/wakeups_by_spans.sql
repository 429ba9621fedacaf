-- one row: a thread made runnable, its context found from the interrupt handlers' begins and ends on that CPU
-- evidence: stream=sched,irq cpus=own interval=before..ts
-- needs: sched_waking softirq_entry+softirq_exit sched_switch? irq_handler_entry? irq_handler_exit? hrtimer_expire_entry? hrtimer_expire_exit? irq_vector_entry? irq_vector_exit?
-- filled: fd socket family saddr sport daddr dport tcp_state by sched_waking.fd
-- A stack per CPU: a begin pushes, an end pops, never below zero, and a context switch empties it, since none happens
-- inside an interrupt. The innermost open handler is the context. Until a CPU's first switch or softirq nobody knows
-- what it was in when the recording began: unknown.
WITH events AS (
    SELECT seq, ts, cpu, 'switch' AS what, 0 AS push, NULL AS context, NULL AS vec FROM sched_switch
    UNION ALL SELECT seq, ts, cpu, 'begin', 1, 'softirq', vec FROM softirq_entry
    UNION ALL SELECT seq, ts, cpu, 'end', -1, NULL, NULL FROM softirq_exit
    UNION ALL SELECT seq, ts, cpu, 'begin', 1, 'hardirq', irq FROM irq_handler_entry
    UNION ALL SELECT seq, ts, cpu, 'end', -1, NULL, NULL FROM irq_handler_exit
    UNION ALL SELECT seq, ts, cpu, 'begin', 1, 'hrtimer', NULL FROM hrtimer_expire_entry
    UNION ALL SELECT seq, ts, cpu, 'end', -1, NULL, NULL FROM hrtimer_expire_exit
    UNION ALL
    SELECT seq, ts, cpu, 'begin', 1, COALESCE(named.context, 'hardirq'), vec
    FROM irq_vector_entry LEFT JOIN vector_contexts AS named ON named.name = irq_vector_entry.vector
    UNION ALL SELECT seq, ts, cpu, 'end', -1, NULL, NULL FROM irq_vector_exit
    UNION ALL SELECT seq, ts, cpu, 'waking', 0, NULL, NULL FROM sched_waking
),
slices AS (
    SELECT *, LAST_VALUE(CASE WHEN what = 'switch' THEN seq END IGNORE NULLS) OVER before AS slice,
        LAST_VALUE(CASE WHEN what = 'switch' THEN ts END IGNORE NULLS) OVER before AS since_ts,
        LAST_VALUE(CASE WHEN what = 'switch' OR context = 'softirq' THEN 1 END IGNORE NULLS) OVER before AS known
    FROM events
    WINDOW before AS (PARTITION BY cpu ORDER BY seq ROWS UNBOUNDED PRECEDING)
),
sums AS (
    SELECT *, SUM(push) OVER before AS pushed
    FROM slices
    WINDOW before AS (PARTITION BY cpu, slice ORDER BY seq ROWS UNBOUNDED PRECEDING)
),
depths AS (
    -- A sum that never goes below zero is the plain sum less its lowest point so far.
    SELECT *, pushed - LEAST(MIN(pushed) OVER before, 0) AS depth
    FROM sums
    WINDOW before AS (PARTITION BY cpu, slice ORDER BY seq ROWS UNBOUNDED PRECEDING)
),
innermost AS (
    -- The open handler at a depth is the last one that began at that depth. -1 stands for "no vector": null is skipped.
    SELECT seq, what, since_ts,
        CASE
            WHEN depth = 0 AND known IS NULL THEN 'unknown'
            WHEN depth = 0 THEN 'task'
            ELSE LAST_VALUE(context IGNORE NULLS) OVER before
        END AS context,
        CASE WHEN depth > 0 THEN NULLIF(
            LAST_VALUE(CASE WHEN what = 'begin' THEN COALESCE(vec, -1) END IGNORE NULLS) OVER before, -1) END AS context_vec
    FROM depths
    WINDOW before AS (PARTITION BY cpu, slice, depth ORDER BY seq ROWS UNBOUNDED PRECEDING)
),
judged AS (
    SELECT waking.*, COALESCE(gap.reach < COALESCE(found.since_ts, 0), TRUE) AS certain,
        found.context AS found_context, found.context_vec AS found_vec
    FROM sched_waking AS waking
    JOIN innermost AS found ON found.seq = waking.seq AND found.what = 'waking'
    ASOF LEFT JOIN (SELECT cpu, from_ts, reach FROM gap_reach_cpu WHERE stream = 'sched+irq') AS gap
        ON gap.cpu = waking.cpu AND waking.ts >= gap.from_ts
)
SELECT
    seq, -- int: order of the waking
    ts, -- int clock: when
    target_tid AS tid, -- int: thread that is woken
    target_pid AS pid, -- int: its process
    target_comm AS comm, -- text: its name
    judged.tid AS waker_tid, -- int: thread that was current (a bystander in an interrupt)
    judged.pid AS waker_pid, -- int: its process
    judged.comm AS waker_comm, -- text: its name
    CASE WHEN certain THEN found_context END AS context, -- text?: what the waker ran in: task, softirq, hardirq, hrtimer, ipi, unknown
    CASE WHEN certain THEN found_vec END AS context_vec, -- int?: softirq vector or irq number of that context
    CASE WHEN certain THEN COALESCE(softirq.name, irq.name) END AS vec_name, -- text?: its name, such as NET_RX
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
    tcp.name AS tcp_state, -- text: its TCP state
    'spans' AS context_source, -- text: recorded (computed in the kernel), flags (of ftrace), stack (the call chain), spans (the handlers' begins and ends), unknown
    certain -- bool: no lost event can change the row
FROM judged
LEFT JOIN softirq_names AS softirq ON found_context = 'softirq' AND softirq.vec = found_vec
LEFT JOIN irq_names AS irq ON found_context = 'hardirq' AND irq.irq = found_vec
LEFT JOIN tcp_states AS tcp ON tcp.state = judged.tcp_state
