-- one row: a part of the walk, with who had the CPU meanwhile, or the handler that ended a wait set apart (helper)
-- evidence: none
-- needs: sched_switch sched_waking sched_wakeup_new?
WITH found AS (
    SELECT walk.root_tid, walk.depth, walk.tid, walk.wakes_tid, walk.wakes_comm, part.comm, part.state, part.cpu,
        part.waker_tid, part.waker_comm, part.context, part.context_vec, part.vec_name, part.waker_cpu,
        COALESCE(part.what, 'unknown') AS what, COALESCE(part.seq, walk.from_seq) AS seq,
        COALESCE(LEAST(part.end_seq, walk.to_seq), walk.to_seq) AS end_seq,
        CASE WHEN $whole THEN COALESCE(part.ts, $read_from) ELSE GREATEST(COALESCE(part.ts, walk.from_ts), walk.from_ts) END AS ts,
        LEAST(COALESCE(part.end_ts, walk.to_ts), walk.to_ts, CASE WHEN $whole THEN walk.to_ts ELSE $to_ts END) AS end_ts,
        COALESCE(walk.certain AND part.certain AND NOT ($whole AND part.seq = -1), FALSE) AS certain,
        COALESCE(part.waker_tid <> 0 AND COALESCE(part.context, 'unknown') IN ('task', 'unknown') AND walk.depth < $deepest
            AND (part.end_seq < walk.to_seq OR (walk.depth = 0 AND part.end_seq = walk.to_seq)), FALSE) AS followed
    FROM chain_walk AS walk
    LEFT JOIN chain_segments AS part
        ON part.tid = walk.tid AND part.seq < walk.to_seq AND part.end_seq > walk.from_seq
),
-- Followed waits stand for themselves only where the walk is a chain: in a path the waker's time is in their place.
parts AS MATERIALIZED (
    SELECT * FROM found WHERE ts <= end_ts AND ($whole OR (ts < end_ts AND NOT followed))
),
-- Which thread every CPU was given to, from the first switch that was read to the last.
switched AS MATERIALIZED (
    SELECT seq, ts, cpu, tid, comm, next_tid, next_comm,
        LAG(seq) OVER own AS prev_seq, LEAD(ts) OVER own AS until_ts, LEAD(tid) OVER own AS until_tid
    FROM sched_switch WHERE ts BETWEEN $read_from AND $read_to
    WINDOW own AS (PARTITION BY cpu ORDER BY seq)
),
given AS (
    SELECT cpu, ts, COALESCE(until_ts, 9223372036854775807) AS until_ts, ts AS since_ts, next_tid AS tid,
        next_comm AS comm, COALESCE(until_tid = next_tid, TRUE) AS fits
    FROM switched
    UNION ALL SELECT cpu, $read_from, ts, 0, tid, comm, TRUE FROM switched WHERE prev_seq IS NULL
),
occupied AS (
    SELECT given.*, fits AND COALESCE(gap.reach < since_ts, TRUE) AS certain
    FROM given
    ASOF LEFT JOIN (SELECT cpu, from_ts, reach FROM gap_reach_cpu WHERE stream = 'sched') AS gap
        ON gap.cpu = given.cpu AND given.until_ts >= gap.from_ts
),
-- The CPU is folded into the bounds: two inequalities and no equality make DuckDB's range join.
sliced AS (
    SELECT part.* EXCLUDE (ts, end_ts, certain),
        GREATEST(part.ts, slice.ts) AS ts, LEAST(part.end_ts, slice.until_ts) AS end_ts,
        part.certain AND slice.certain AS certain, slice.tid AS ran_tid, slice.comm AS ran_comm
    FROM (SELECT * FROM parts WHERE what = 'runnable' AND ts < end_ts) AS part
    JOIN occupied AS slice
        ON CAST(part.ts AS HUGEINT) + CAST(part.cpu AS HUGEINT) * 18446744073709551616
            < CAST(slice.until_ts AS HUGEINT) + CAST(slice.cpu AS HUGEINT) * 18446744073709551616
        AND CAST(part.end_ts AS HUGEINT) + CAST(part.cpu AS HUGEINT) * 18446744073709551616
            > CAST(slice.ts AS HUGEINT) + CAST(slice.cpu AS HUGEINT) * 18446744073709551616
),
handlers AS (
    SELECT 'softirq' AS context, cpu, vec AS vec, seq, ts, TRUE AS begins FROM softirq_entry
    WHERE ts BETWEEN $read_from AND $read_to
    UNION ALL SELECT 'softirq', cpu, vec, seq, ts, FALSE FROM softirq_exit WHERE ts BETWEEN $read_from AND $read_to
    UNION ALL SELECT 'hardirq', cpu, irq, seq, ts, TRUE FROM irq_handler_entry WHERE ts BETWEEN $read_from AND $read_to
    UNION ALL SELECT 'hardirq', cpu, irq, seq, ts, FALSE FROM irq_handler_exit WHERE ts BETWEEN $read_from AND $read_to
    UNION ALL SELECT 'hrtimer', cpu, NULL, seq, ts, TRUE FROM hrtimer_expire_entry
    WHERE ts BETWEEN $read_from AND $read_to
    UNION ALL SELECT 'hrtimer', cpu, NULL, seq, ts, FALSE FROM hrtimer_expire_exit
    WHERE ts BETWEEN $read_from AND $read_to
),
interrupted AS (
    SELECT part.*, COALESCE(handler.ts, 0) AS since_ts, CASE WHEN handler.begins THEN handler.ts END AS entry_ts
    FROM (SELECT * FROM parts WHERE what = 'blocked' AND context IN ('softirq', 'hardirq', 'hrtimer')) AS part
    ASOF LEFT JOIN (SELECT *, COALESCE(vec, -1) AS number FROM handlers) AS handler
        ON handler.context = part.context AND handler.cpu = part.waker_cpu
        AND handler.number = COALESCE(part.context_vec, -1) AND part.end_seq >= handler.seq
),
told AS MATERIALIZED (
    SELECT part.* EXCLUDE (certain, entry_ts), part.certain AND COALESCE(gap.reach < since_ts, TRUE) AS certain,
        CASE WHEN entry_ts IS NULL THEN NULL WHEN $whole THEN entry_ts
            ELSE LEAST(GREATEST(entry_ts, part.ts), part.end_ts) END AS entry_ts
    FROM interrupted AS part
    ASOF LEFT JOIN (SELECT from_ts, reach FROM gap_reach WHERE stream = 'irq') AS gap ON part.end_ts >= gap.from_ts
),
every AS (
    SELECT parts.*, CAST(NULL AS INTEGER) AS ran_tid, CAST(NULL AS VARCHAR) AS ran_comm
    FROM parts
    WHERE NOT (what = 'blocked' AND COALESCE(context, '') IN ('softirq', 'hardirq', 'hrtimer'))
        AND NOT (what = 'runnable' AND ts < end_ts)
    UNION ALL BY NAME SELECT * FROM sliced
    UNION ALL BY NAME -- no switch of that CPU was read
    SELECT parts.* REPLACE (FALSE AS certain) FROM parts
    WHERE what = 'runnable' AND ts < end_ts AND (cpu IS NULL OR cpu NOT IN (SELECT cpu FROM switched))
    UNION ALL BY NAME
    SELECT * EXCLUDE (since_ts, entry_ts) REPLACE (CASE WHEN $whole THEN end_ts ELSE COALESCE(entry_ts, end_ts) END AS end_ts)
    FROM told
    UNION ALL BY NAME
    SELECT * EXCLUDE (since_ts, entry_ts) REPLACE (
            context AS what, entry_ts AS ts, depth + 1 AS depth, tid AS wakes_tid, comm AS wakes_comm, waker_cpu AS cpu,
            CAST(NULL AS INTEGER) AS tid, CAST(NULL AS VARCHAR) AS comm, CAST(NULL AS VARCHAR) AS state,
            CAST(NULL AS INTEGER) AS waker_tid, CAST(NULL AS VARCHAR) AS waker_comm)
    FROM told WHERE entry_ts IS NOT NULL
)
SELECT
    seq, -- int: order of the event that begins it; -1: before what was read
    root_tid, -- int: the thread that the walk is of
    depth, -- int: how many wakings lie between
    ts, -- int clock: its begin
    NULLIF(end_ts, 9223372036854775807) AS end_ts, -- int clock: its end
    tid, -- int: the thread
    comm, -- text: its name
    what, -- text: what it did
    state, -- text: blocked: the kernel's state
    cpu, -- int: the CPU
    ran_tid, -- int: runnable: who had the CPU
    ran_comm, -- text: its name
    waker_tid, -- int: who ended it
    waker_comm, -- text: its name
    context, -- text: what that ran in
    context_vec, -- int: softirq vector or irq number
    vec_name, -- text: its name
    wakes_tid, -- int: whose wait it ends
    wakes_comm, -- text: its name
    certain -- bool: no lost event can change it
FROM every
WHERE $whole OR ts < end_ts
