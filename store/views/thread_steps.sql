-- one row: a step in a thread's life as the scheduler sees it, with the steps around it (helper)
-- evidence: none
-- needs: sched_switch (sched_waking|sched_wakeup)? sched_wakeup_new?
-- Idle (tid 0) is one thread per CPU and never waits: it has no steps. Every window is partitioned by tid alone, so
-- that a condition on tid reaches the scan. Wakings are kept apart from the other steps, since they may come while the
-- thread still runs, and more than once. LAST_VALUE and FIRST_VALUE find the nearest: a running MAX of the same numbers
-- takes six times as long in DuckDB, and a second window in descending order a fifth longer than one over what follows.
WITH steps AS (
    SELECT seq, ts, cpu, tid, pid, comm, 'out' AS what, prev_state AS state,
        CAST(NULL AS INTEGER) AS other_tid, CAST(NULL AS VARCHAR) AS other_comm
    FROM sched_switch WHERE tid <> 0
    UNION ALL
    SELECT seq, ts, cpu, next_tid, NULL, next_comm, 'in', NULL, tid, comm
    FROM sched_switch WHERE next_tid <> 0
    UNION ALL
    SELECT seq, ts, cpu, target_tid, target_pid, target_comm, 'waking', NULL, NULL, NULL FROM wakings
    UNION ALL
    SELECT seq, ts, cpu, target_tid, target_pid, target_comm, 'new', NULL, NULL, NULL FROM sched_wakeup_new
)
SELECT
    seq, -- int: order of the step
    ts, -- int clock: when
    cpu, -- int: CPU it happened on
    tid, -- int: the thread
    pid, -- int: its process; null at switch-in
    comm, -- text: its name at that moment
    what, -- text: out, in (the CPU), waking, new (first time in a run queue)
    state, -- text: at out: the state it leaves in
    LAST_VALUE(CASE WHEN what <> 'waking' THEN seq END IGNORE NULLS) OVER before AS prev_seq, -- int: the last step before that is no waking
    LAST_VALUE(CASE WHEN what <> 'waking' THEN what END IGNORE NULLS) OVER before AS prev_what, -- text: which
    LAST_VALUE(CASE WHEN what <> 'waking' THEN COALESCE(state, '') END IGNORE NULLS) OVER before AS prev_state, -- text: its state
    LAST_VALUE(CASE WHEN what <> 'waking' THEN ts END IGNORE NULLS) OVER before AS prev_ts, -- int clock: and when
    LAST_VALUE(CASE WHEN what = 'waking' THEN seq END IGNORE NULLS) OVER before AS prev_waking_seq, -- int: the last waking before
    LAST_VALUE(CASE WHEN what = 'waking' THEN ts END IGNORE NULLS) OVER before AS prev_waking_ts, -- int clock: and when
    FIRST_VALUE(CASE WHEN what <> 'waking' THEN seq END IGNORE NULLS) OVER after AS next_seq, -- int: the next step that is no waking
    FIRST_VALUE(CASE WHEN what <> 'waking' THEN what END IGNORE NULLS) OVER after AS next_what, -- text: which
    FIRST_VALUE(CASE WHEN what <> 'waking' THEN ts END IGNORE NULLS) OVER after AS next_ts, -- int clock: when
    FIRST_VALUE(CASE WHEN what <> 'waking' THEN cpu END IGNORE NULLS) OVER after AS next_cpu, -- int: on which CPU
    FIRST_VALUE(CASE WHEN what <> 'waking' THEN comm END IGNORE NULLS) OVER after AS next_comm, -- text: its name then
    FIRST_VALUE(CASE WHEN what = 'in' THEN other_tid END IGNORE NULLS) OVER after AS next_other_tid, -- int: who left that CPU
    FIRST_VALUE(CASE WHEN what = 'in' THEN other_comm END IGNORE NULLS) OVER after AS next_other_comm, -- text: its name
    FIRST_VALUE(CASE WHEN what = 'waking' THEN seq END IGNORE NULLS) OVER after AS next_waking_seq -- int: the next waking
FROM steps
WINDOW
    before AS (PARTITION BY tid ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
    after AS (PARTITION BY tid ORDER BY seq ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)
