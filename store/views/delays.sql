-- one row: a wait in a run queue, from being runnable to getting a CPU
-- evidence: stream=sched cpus=all interval=since_ts..end_ts lane=tid vanishes
-- needs: sched_switch sched_waking|sched_wakeup sched_wakeup_new?
-- A wait begins at
--   wakeup     the first waking while the thread is off the CPU; later ones are repeats. A waking that races with the
--              switch-out (it comes first, the thread leaves in a sleeping state all the same, and nothing wakes it
--              again) makes it runnable at the switch-out;
--   preempted  the switch-out in R or R+: no older waking is inherited;
--   new        sched_wakeup_new.
-- A waking of a thread that keeps its CPU, or that waits already, begins nothing. Where events were lost that could tell,
-- whatever may have begun a wait is a row, not certain.
WITH waits AS (
    SELECT *,
        CASE WHEN what IN ('new', 'preempted') THEN CAST(what AS VARCHAR) ELSE 'wakeup' END AS cause,
        next_what = 'in' AND CASE
            WHEN what IN ('new', 'preempted') THEN TRUE
            WHEN what = 'asleep' THEN COALESCE(prev_what, 'in') = 'in' AND just_after <> 'waking'
            ELSE COALESCE(just_before, 'asleep') IN ('asleep', 'gone')
        END AS begins,
        CASE WHEN what IN ('new', 'preempted') THEN ts ELSE COALESCE(prev_ts, 0) END AS since_ts
    FROM thread_steps
    WHERE what IN ('new', 'preempted', 'waking') OR (what = 'asleep' AND just_before = 'waking')
),
judged AS (
    SELECT waits.*, COALESCE(gap.reach >= since_ts, FALSE) AS touched
    FROM waits
    ASOF LEFT JOIN (SELECT from_ts, reach FROM gap_reach WHERE stream = 'sched') AS gap
        ON COALESCE(waits.next_ts, 9223372036854775807) >= gap.from_ts
),
known AS (SELECT *, NOT touched AS certain FROM judged WHERE touched OR begins)
SELECT
    seq, -- int: order of the event that begins the wait
    ts, -- int clock: when the thread became runnable
    CASE WHEN certain THEN next_ts - ts END AS dur, -- int? ns: how long it waited
    CASE WHEN certain THEN next_ts END AS end_ts, -- int? clock: when it got a CPU
    CASE WHEN certain THEN next_cpu END AS cpu, -- int?: the CPU it got
    tid, -- int: thread that waited
    pid, -- int: its process
    comm, -- text: its name when it became runnable
    cause, -- text: wakeup, preempted, new
    CASE WHEN certain THEN next_other_tid END AS prev_tid, -- int?: thread that left that CPU
    CASE WHEN certain THEN next_other_comm END AS prev_comm, -- text?: its name
    CASE WHEN certain THEN next_seq END AS end_seq, -- int?: order of the switch-in
    CASE WHEN certain THEN NULLIF(since_ts, 0) END AS since_ts, -- int? clock: begin of what the row depends on; null: the recording's
    certain -- bool: no lost event can change the row
FROM known
