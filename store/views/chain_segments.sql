-- one row: a time during which a thread was in one state, with who ended it (helper)
-- evidence: none
-- needs: sched_switch sched_waking sched_wakeup_new?
-- kept: yes
-- A thread's segments follow each other without a hole, from the begin of time to its end. The rules for wakings are
-- those of sleeps: the first one after the switch-out ends the sleep; where there is none, one that raced with the
-- switch-out does.
WITH paired AS MATERIALIZED (
    SELECT *,
        LAG(seq) OVER own AS prev_seq, LAG(ts) OVER own AS prev_ts, LAG(what) OVER own AS prev_what,
        COALESCE(LEAD(seq) OVER own, 9223372036854775807) AS next_seq,
        COALESCE(LEAD(ts) OVER own, 9223372036854775807) AS next_ts,
        LEAD(what) OVER own AS next_what, LEAD(cpu) OVER own AS next_cpu,
        LEAD(parent_tid) OVER own AS next_parent_tid, LEAD(parent_comm) OVER own AS next_parent_comm,
        what = 'out' AND NOT (state LIKE 'R%' OR state LIKE 'X%' OR state LIKE 'Z%') AS sleeps
    FROM chain_steps
    WINDOW own AS (PARTITION BY tid ORDER BY seq)
),
woken AS (
    SELECT out.seq, out.tid,
        CASE WHEN later.seq < out.next_seq THEN later.seq END AS later_seq,
        CASE WHEN later.seq < out.next_seq THEN later.ts END AS later_ts,
        COALESCE(out.prev_what, 'in') = 'in' AND COALESCE(earlier.seq > COALESCE(out.prev_seq, -1), FALSE) AS raced
    FROM (SELECT * FROM paired WHERE sleeps) AS out
    ASOF LEFT JOIN (SELECT tid, seq, ts FROM chain_wakeups) AS later ON later.tid = out.tid AND out.seq <= later.seq
    ASOF LEFT JOIN (SELECT tid, seq FROM chain_wakeups) AS earlier ON earlier.tid = out.tid AND out.seq >= earlier.seq
),
steps AS MATERIALIZED (
    SELECT paired.*, woken.later_seq, woken.later_ts, COALESCE(woken.raced, FALSE) AS raced
    FROM paired LEFT JOIN woken ON woken.seq = paired.seq AND woken.tid = paired.tid
),
-- What follows a step, up to the next one, or to the waking.
after AS (
    SELECT tid, comm, seq, ts, next_what, cpu, next_cpu, state, next_parent_tid, next_parent_comm, later_seq,
        CASE WHEN later_seq IS NOT NULL AND COALESCE(next_what, 'in') = 'in' THEN later_seq ELSE next_seq END AS end_seq,
        CASE WHEN later_seq IS NOT NULL AND COALESCE(next_what, 'in') = 'in' THEN later_ts ELSE next_ts END AS end_ts,
        next_ts AS until_ts, sleeps AND prev_seq IS NULL AND later_seq IS NULL AND NOT raced AS blind,
        CASE WHEN sleeps AND later_seq IS NULL THEN COALESCE(prev_ts, 0) ELSE ts END AS since_ts,
        CASE
            WHEN next_what = 'new' THEN 'created'
            WHEN what = 'in' THEN CASE WHEN COALESCE(next_what, 'out') = 'out' THEN 'running' ELSE 'unknown' END
            WHEN next_what = 'out' THEN 'unknown'
            WHEN what = 'new' OR state LIKE 'R%' THEN 'runnable'
            WHEN NOT sleeps THEN CASE WHEN next_what IS NULL THEN 'dead' ELSE 'unknown' END
            WHEN later_seq IS NULL AND raced THEN 'runnable'
            ELSE 'blocked'
        END AS what
    FROM steps
),
segments AS (
    SELECT tid, comm, seq, ts, end_seq, end_ts, since_ts, until_ts, what,
        CASE WHEN what = 'blocked' THEN state END AS state,
        CASE what WHEN 'running' THEN cpu WHEN 'runnable' THEN next_cpu END AS cpu,
        CASE WHEN what = 'blocked' THEN later_seq END AS waking_seq,
        CASE WHEN what = 'created' THEN next_parent_tid END AS parent_tid,
        CASE WHEN what = 'created' THEN next_parent_comm END AS parent_comm, blind
    FROM after
    UNION ALL -- from the waking to the CPU
    SELECT tid, comm, later_seq, later_ts, next_seq, next_ts, ts, next_ts, 'runnable', NULL, next_cpu, NULL, NULL, NULL,
        FALSE
    FROM steps WHERE later_seq IS NOT NULL AND COALESCE(next_what, 'in') = 'in'
    UNION ALL -- what came before the first step
    SELECT tid, comm, -1, $read_from, seq, ts, 0, ts,
        CASE what WHEN 'out' THEN 'running' WHEN 'new' THEN 'created' ELSE 'unknown' END, NULL,
        CASE what WHEN 'out' THEN cpu END, NULL, parent_tid, parent_comm, FALSE
    FROM steps WHERE prev_seq IS NULL
),
judged AS (
    SELECT segments.*, COALESCE(gap.reach < since_ts, TRUE) AND what <> 'unknown' AND NOT blind AS whole
    FROM segments
    ASOF LEFT JOIN (SELECT from_ts, reach FROM gap_reach WHERE stream = 'sched') AS gap ON segments.until_ts >= gap.from_ts
)
SELECT
    judged.tid, -- int: the thread
    judged.comm, -- text: its name
    judged.seq, -- int: order of the event that begins it; -1: before what was read
    judged.ts, -- int clock: when
    end_seq, -- int: order of the event that ends it
    end_ts, -- int clock: when; the largest number: not read
    what, -- text: running, runnable, blocked, created (not yet), dead, unknown
    state, -- text: blocked: the kernel's state
    judged.cpu, -- int: the CPU it ran on, or got in the end
    COALESCE(waking.waker_tid, parent_tid) AS waker_tid, -- int: who ended it
    COALESCE(waking.waker_comm, parent_comm) AS waker_comm, -- text: its name
    CASE WHEN parent_tid IS NOT NULL THEN 'task' ELSE waking.context END AS context, -- text: what that ran in
    waking.context_vec, -- int: softirq vector or irq number
    waking.vec_name, -- text: its name
    waking.cpu AS waker_cpu, -- int: the CPU of the waker
    whole AND COALESCE(waking.certain, TRUE) AS certain -- bool: no lost event can change it
FROM judged
LEFT JOIN chain_wakeups AS waking ON waking.seq = judged.waking_seq AND waking.tid = judged.tid
