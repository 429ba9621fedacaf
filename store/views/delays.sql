-- one row: a wait in a run queue, from being runnable to getting a CPU
-- evidence: stream=sched cpus=all interval=since_ts..end_ts
-- needs: sched_switch sched_waking|sched_wakeup sched_wakeup_new?
-- A wait begins at
--   wakeup     the first waking while the thread is off the CPU; later ones are repeats. A waking that races with the
--              switch-out (it comes first, the thread leaves in a sleeping state all the same, and nothing wakes it
--              again) makes it runnable at the switch-out;
--   preempted  the switch-out in R or R+: no older waking is inherited;
--   new        sched_wakeup_new.
-- A waking of a thread that keeps its CPU, or that waits already, begins nothing.
WITH waits AS (
    SELECT *,
        CASE
            WHEN what = 'new' THEN 'new'
            WHEN what = 'out' AND state LIKE 'R%' THEN 'preempted'
            WHEN what = 'out' AND state NOT LIKE 'X%' AND state NOT LIKE 'Z%'
                AND COALESCE(prev_what, 'in') = 'in' AND prev_waking_seq > COALESCE(prev_seq, -1)
                AND COALESCE(next_waking_seq > next_seq, TRUE) THEN 'wakeup'
            WHEN what = 'waking'
                AND (prev_seq IS NULL OR (prev_what = 'out' AND prev_state NOT LIKE 'R%'))
                AND COALESCE(prev_waking_seq < COALESCE(prev_seq, -1), TRUE) THEN 'wakeup'
        END AS cause,
        CASE
            WHEN what = 'waking' THEN COALESCE(prev_ts, 0)
            WHEN what = 'out' AND state NOT LIKE 'R%' THEN prev_waking_ts
            ELSE ts
        END AS since_ts
    FROM thread_steps
    WHERE next_what = 'in' AND what IN ('out', 'waking', 'new')
)
SELECT
    seq, -- int: order of the event that begins the wait
    ts, -- int clock: when the thread became runnable
    next_ts - ts AS dur, -- int ns: how long it waited
    next_ts AS end_ts, -- int clock: when it got a CPU
    next_cpu AS cpu, -- int: the CPU it got
    tid, -- int: thread that waited
    pid, -- int: its process
    next_comm AS comm, -- text: its name when it got the CPU
    cause, -- text: wakeup, preempted, new
    next_other_tid AS prev_tid, -- int: thread that left that CPU
    next_other_comm AS prev_comm, -- text: its name
    next_seq AS end_seq, -- int: order of the switch-in
    since_ts, -- int clock: begin of what the row depends on
    COALESCE(gap.reach < since_ts, TRUE) AS certain -- bool: no lost event can change the row
FROM waits
ASOF LEFT JOIN (SELECT from_ts, reach FROM gap_reach WHERE stream = 'sched') AS gap ON waits.next_ts >= gap.from_ts
WHERE cause IS NOT NULL
