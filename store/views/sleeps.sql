-- one row: a sleep, from the switch-out in S, D or I to the switch-in
-- evidence: stream=sched cpus=all interval=since_ts..end_ts
-- needs: sched_switch sched_waking? sched_wakeup_new? sched_process_fork?
-- Exits (X, Z) and stops (T, t) are no sleeps. A thread id used again (fork, sched_wakeup_new) ends what came before.
-- The first waking counts; where it raced with the switch-out, the thread was blocked for no time at all.
WITH sleeps AS (
    SELECT *,
        CASE
            WHEN next_waking_seq < next_seq THEN next_waking_seq
            WHEN COALESCE(prev_what, 'in') = 'in' AND prev_waking_seq > COALESCE(prev_seq, -1) THEN prev_waking_seq
        END AS waking_seq,
        CASE
            WHEN next_waking_seq < next_seq THEN ts
            WHEN COALESCE(prev_what, 'in') = 'in' AND prev_waking_seq > COALESCE(prev_seq, -1) THEN prev_waking_ts
            ELSE ts
        END AS since_ts
    FROM thread_steps
    WHERE what = 'out' AND next_what = 'in' AND (state LIKE 'S%' OR state LIKE 'D%' OR state LIKE 'I%')
)
SELECT
    sleeps.seq, -- int: order of the switch-out
    sleeps.ts, -- int clock: when the thread left its CPU
    next_ts - sleeps.ts AS dur, -- int ns: whole time away from the CPU
    CASE WHEN waking.ts > sleeps.ts THEN waking.ts - sleeps.ts WHEN waking.ts IS NOT NULL THEN 0 END AS blocked, -- int ns: of that, until it was woken
    next_ts - CASE WHEN waking.ts > sleeps.ts THEN waking.ts WHEN waking.ts IS NOT NULL THEN sleeps.ts END AS delay, -- int ns: of that, in a run queue afterwards
    next_ts AS end_ts, -- int clock: when it was back on a CPU
    sleeps.cpu, -- int: the CPU it left
    tid, -- int: thread that slept
    pid, -- int: its process
    comm, -- text: its name when it left the CPU
    state, -- text: S interruptible, D uninterruptible, I idle kernel worker
    waking.waker_tid, -- int: thread that was current at the waking (a bystander in an interrupt)
    waking.waker_pid, -- int: its process
    waking.waker_comm, -- text: its name
    waking.context, -- text: what the waker ran in: task, softirq, hardirq, hrtimer, ipi, nmi, unknown
    waking.context_vec, -- int: softirq vector or irq number of that context
    waking.vec_name, -- text: its name, such as NET_RX
    next_cpu AS end_cpu, -- int: the CPU it came back on
    next_seq AS end_seq, -- int: order of the switch-in
    since_ts, -- int clock: begin of what the row depends on
    COALESCE(gap.reach < since_ts, TRUE) AS certain -- bool: no lost event can change the row
FROM sleeps
LEFT JOIN wakers AS waking ON waking.seq = sleeps.waking_seq AND waking.target_tid = sleeps.tid
ASOF LEFT JOIN (SELECT from_ts, reach FROM gap_reach WHERE stream = 'sched') AS gap ON sleeps.next_ts >= gap.from_ts
