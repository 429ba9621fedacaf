-- one row: a step of a thread near the walk, or of a thread that the walk is of, wherever it is (helper)
-- evidence: none
-- needs: sched_switch sched_wakeup_new?
-- $read_from and $read_to are values, so that they reach the scan: no other thread is read beyond them.
WITH near AS (
    SELECT seq, ts, cpu, tid, comm, prev_state, next_tid, next_comm
    FROM sched_switch WHERE ts BETWEEN $read_from AND $read_to
),
far AS (
    SELECT seq, ts, cpu, tid, comm, prev_state, next_tid, next_comm
    FROM sched_switch
    WHERE (ts < $read_from OR ts > $read_to)
        AND (tid IN (SELECT tid FROM chain_roots) OR next_tid IN (SELECT tid FROM chain_roots))
)
SELECT
    seq, -- int: order of the step
    ts, -- int clock: when
    cpu, -- int: CPU it happened on
    tid, -- int: the thread
    comm, -- text: its name then
    what, -- text: out, in (the CPU), new (first time in a run queue)
    state, -- text: at out: the state it leaves in
    parent_tid, -- int: at new: who made the thread
    parent_comm -- text: its name
FROM (
    SELECT seq, ts, cpu, tid, comm, 'out' AS what, prev_state AS state,
        CAST(NULL AS INTEGER) AS parent_tid, CAST(NULL AS VARCHAR) AS parent_comm
    FROM near WHERE tid <> 0
    UNION ALL SELECT seq, ts, cpu, next_tid, next_comm, 'in', NULL, NULL, NULL FROM near WHERE next_tid <> 0
    UNION ALL
    SELECT seq, ts, cpu, tid, comm, 'out', prev_state, NULL, NULL
    FROM far WHERE tid IN (SELECT tid FROM chain_roots)
    UNION ALL
    SELECT seq, ts, cpu, next_tid, next_comm, 'in', NULL, NULL, NULL
    FROM far WHERE next_tid IN (SELECT tid FROM chain_roots)
    UNION ALL
    SELECT seq, ts, cpu, target_tid, target_comm, 'new', NULL, tid, comm
    FROM sched_wakeup_new
    WHERE ts BETWEEN $read_from AND $read_to OR target_tid IN (SELECT tid FROM chain_roots)
)
