-- one row: a sleep, from the switch-out in S, D or I to the switch-in
-- evidence: stream=sched cpus=all interval=since_ts..end_ts lane=tid
-- needs: sched_switch (sched_waking|sched_wakeup)? sched_wakeup_new?
-- filled: blocked delay waking_seq by sched_waking|sched_wakeup
-- filled: waker_tid waker_pid waker_comm context context_vec vec_name by sched_waking
-- Exits (X, Z) and stops (T, t) are no sleeps. A thread id used again (sched_wakeup_new) ends what came before. The
-- first waking counts; where it raced with the switch-out, the thread was blocked for no time at all. Where events were
-- lost that could tell, the switch-out stands alone: not certain.
WITH sleeps AS (
    SELECT *,
        CASE
            WHEN just_after = 'waking' AND next_what IS NOT NULL THEN just_after_seq
            WHEN COALESCE(prev_what, 'in') = 'in' AND just_before = 'waking' THEN just_before_seq
        END AS waking_seq,
        CASE WHEN just_after = 'waking' AND next_what IS NOT NULL THEN ts ELSE COALESCE(prev_ts, 0) END AS since_ts
    FROM thread_steps
    WHERE what = 'asleep' AND (state LIKE 'S%' OR state LIKE 'D%' OR state LIKE 'I%')
),
judged AS (
    SELECT sleeps.*, COALESCE(gap.reach >= since_ts, FALSE) AS touched
    FROM sleeps
    ASOF LEFT JOIN (SELECT from_ts, reach FROM gap_reach WHERE stream = 'sched') AS gap
        ON COALESCE(sleeps.next_ts, 9223372036854775807) >= gap.from_ts
),
known AS (
    SELECT *, NOT touched AS certain, CASE WHEN NOT touched THEN waking_seq END AS sure_waking_seq
    FROM judged WHERE touched OR next_what = 'in'
)
SELECT
    known.seq, -- int: order of the switch-out
    known.ts, -- int clock: when the thread left its CPU
    CASE WHEN certain THEN next_ts - known.ts END AS dur, -- int? ns: whole time away from the CPU
    CASE WHEN waking.ts > known.ts THEN waking.ts - known.ts WHEN waking.ts IS NOT NULL THEN 0 END AS blocked, -- int? ns: of that, until it was woken
    next_ts - CASE WHEN waking.ts > known.ts THEN waking.ts WHEN waking.ts IS NOT NULL THEN known.ts END AS delay, -- int? ns: of that, in a run queue afterwards
    CASE WHEN certain THEN next_ts END AS end_ts, -- int? clock: when it was back on a CPU
    known.cpu, -- int: the CPU it left
    tid, -- int: thread that slept
    pid, -- int: its process
    comm, -- text: its name when it left the CPU
    state, -- text: S interruptible, D uninterruptible, I idle kernel worker
    waking.waker_tid, -- int?: thread that was current at the waking (a bystander in an interrupt)
    waking.waker_pid, -- int?: its process
    waking.waker_comm, -- text?: its name
    waking.context, -- text?: what the waker ran in: task, softirq, hardirq, hrtimer, ipi, nmi, unknown
    waking.context_vec, -- int?: softirq vector or irq number of that context
    waking.vec_name, -- text?: its name, such as NET_RX
    waking.seq AS waking_seq, -- int?: order of the waking
    CASE WHEN certain THEN next_cpu END AS end_cpu, -- int?: the CPU it came back on
    CASE WHEN certain THEN next_seq END AS end_seq, -- int?: order of the switch-in
    CASE WHEN certain THEN NULLIF(since_ts, 0) END AS since_ts, -- int? clock: begin of what the row depends on; null: the recording's
    certain -- bool: no lost event can change the row
FROM known
LEFT JOIN wakers AS waking ON waking.seq = known.sure_waking_seq AND waking.target_tid = known.tid
