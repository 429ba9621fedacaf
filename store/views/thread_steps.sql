-- one row: a step in a thread's life as the scheduler sees it, with the steps around it (helper)
-- evidence: none
-- needs: sched_switch (sched_waking|sched_wakeup)? sched_wakeup_new?
-- Idle (tid 0) is one thread per CPU and never waits: it has no steps. Every window is partitioned by tid alone, so
-- that a condition on tid reaches the scan. Wakings are kept apart from the other steps, since they may come while the
-- thread still runs, and more than once. What is sorted is narrow: an ENUM of one byte, and text only where it is asked
-- for. LAG and LEAD share one sort, and take half the time of FIRST_VALUE and LAST_VALUE over frames.
WITH steps AS (
    SELECT seq, ts, cpu, tid, pid, comm, state, other_tid, other_comm,
        CAST(what AS ENUM ('preempted', 'gone', 'asleep', 'in', 'waking', 'new')) AS what
    FROM (
        SELECT seq, ts, cpu, tid, pid, comm,
            CASE
                WHEN prev_state LIKE 'R%' THEN 'preempted'
                WHEN prev_state LIKE 'X%' OR prev_state LIKE 'Z%' OR prev_state IS NULL THEN 'gone'
                ELSE 'asleep'
            END AS what,
            prev_state AS state, CAST(NULL AS INTEGER) AS other_tid, CAST(NULL AS VARCHAR) AS other_comm
        FROM sched_switch WHERE tid <> 0
        UNION ALL
        SELECT seq, ts, cpu, next_tid, NULL, next_comm, 'in', NULL, tid, comm
        FROM sched_switch WHERE next_tid <> 0
        UNION ALL
        SELECT seq, ts, cpu, target_tid, target_pid, target_comm, 'waking', NULL, NULL, NULL FROM wakings
        UNION ALL
        SELECT seq, ts, cpu, target_tid, target_pid, target_comm, 'new', NULL, NULL, NULL FROM sched_wakeup_new
    )
)
SELECT
    seq, -- int: order of the step
    ts, -- int clock: when
    cpu, -- int: CPU it happened on
    tid, -- int: the thread
    pid, -- int: its process; null at switch-in
    comm, -- text: its name at that moment
    what, -- text: preempted, asleep, gone (ended, or state not known): it leaves the CPU; in (the CPU), waking, new (first time in a run queue)
    state, -- text: where it leaves the CPU: its state
    LAG(CASE WHEN what <> 'waking' THEN what END IGNORE NULLS) OVER life AS prev_what, -- text: the last step before that is no waking
    LAG(CASE WHEN what <> 'waking' THEN ts END IGNORE NULLS) OVER life AS prev_ts, -- int clock: and when
    LEAD(CASE WHEN what <> 'waking' THEN seq END IGNORE NULLS) OVER life AS next_seq, -- int: the next step that is no waking
    LEAD(CASE WHEN what <> 'waking' THEN what END IGNORE NULLS) OVER life AS next_what, -- text: which
    LEAD(CASE WHEN what <> 'waking' THEN ts END IGNORE NULLS) OVER life AS next_ts, -- int clock: when
    LEAD(CASE WHEN what <> 'waking' THEN cpu END IGNORE NULLS) OVER life AS next_cpu, -- int: on which CPU
    LEAD(CASE WHEN what = 'in' THEN other_tid END IGNORE NULLS) OVER life AS next_other_tid, -- int: who left that CPU
    LEAD(CASE WHEN what = 'in' THEN other_comm END IGNORE NULLS) OVER life AS next_other_comm, -- text: its name
    LAG(what) OVER life AS just_before, -- text: the step right before, be it a waking
    LAG(seq) OVER life AS just_before_seq, -- int: its order
    LEAD(what) OVER life AS just_after, -- text: the step right after, be it a waking
    LEAD(seq) OVER life AS just_after_seq -- int: its order
FROM steps
WINDOW life AS (PARTITION BY tid ORDER BY seq)
