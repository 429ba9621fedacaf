-- one row: a thread that the walk comes to, and for which time (helper)
-- evidence: none
-- needs: sched_switch sched_waking sched_wakeup_new?
-- Each level of the walk asks for the threads that ended the waits of the level before, up to the moment of the waking
-- and back to where that wait began ($whole: back to where the waker's own last wait began). The end of what is asked
-- for is earlier in the capture at every level, so that the walk ends.
WITH RECURSIVE links AS MATERIALIZED (
    SELECT link.tid, link.comm, link.seq, link.ts, link.end_seq, link.end_ts, link.waker_tid,
        link.certain AND COALESCE(link.context, 'unknown') = 'task' AS certain,
        CASE WHEN $whole THEN COALESCE(before.seq, -1) ELSE link.seq END AS from_seq
    FROM (SELECT * FROM chain_segments WHERE waker_tid <> 0 AND COALESCE(context, 'unknown') IN ('task', 'unknown')) AS link
    ASOF LEFT JOIN (SELECT tid, seq FROM chain_segments WHERE what IN ('blocked', 'created')) AS before
        ON before.tid = link.waker_tid AND link.end_seq > before.seq
),
starts AS (
    SELECT tid, MAX(seq) AS seq, MAX_BY(end_seq, seq) AS end_seq, MAX_BY(end_ts, seq) AS end_ts
    FROM chain_segments WHERE tid IN (SELECT tid FROM chain_roots) AND ts <= $to_ts AND end_ts > $from_ts GROUP BY tid
),
begun AS (
    SELECT starts.*, CASE WHEN $whole THEN COALESCE(before.seq, -1) ELSE -1 END AS from_seq
    FROM starts
    ASOF LEFT JOIN (SELECT tid, seq FROM chain_segments WHERE what IN ('blocked', 'created')) AS before
        ON before.tid = starts.tid AND starts.seq >= before.seq
),
walk AS (
    SELECT tid AS root_tid, 0 AS depth, tid, from_seq, end_seq AS to_seq, $from_ts AS from_ts, end_ts AS to_ts,
        CAST(NULL AS INTEGER) AS wakes_tid, CAST(NULL AS VARCHAR) AS wakes_comm, TRUE AS certain
    FROM begun
    UNION ALL
    SELECT walk.root_tid, walk.depth + 1, link.waker_tid,
        CASE WHEN $whole THEN link.from_seq ELSE GREATEST(link.from_seq, walk.from_seq) END, link.end_seq,
        GREATEST(CASE WHEN $whole THEN $from_ts ELSE link.ts END, walk.from_ts), link.end_ts, link.tid, link.comm,
        walk.certain AND link.certain
    FROM walk
    JOIN links AS link ON link.tid = walk.tid AND link.seq < walk.to_seq AND link.end_seq > walk.from_seq
        AND link.end_ts > walk.from_ts AND (link.ts < $to_ts OR $whole)
        AND (link.end_seq < walk.to_seq OR (walk.depth = 0 AND link.end_seq = walk.to_seq))
    WHERE walk.depth < $deepest
)
SELECT
    root_tid, -- int: the thread that the walk is of
    depth, -- int: how many wakings lie between
    tid, -- int: the thread
    from_seq, -- int: asked for from here
    to_seq, -- int: to here
    from_ts, -- int clock: the same in time
    to_ts, -- int clock: the same in time
    wakes_tid, -- int: whose wait it ends
    wakes_comm, -- text: its name
    certain -- bool: whether every link that led here is
FROM walk
