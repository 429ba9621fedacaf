-- one row: how far the gaps reach that began at from_ts or before, over all CPUs (helper)
-- evidence: none
-- needs:
-- An interval [a, b] is touched by a gap exactly if the last row with from_ts <= b reaches a or later. Both ends count:
-- events of other CPUs may have the same ts.
WITH joined AS (
    SELECT stream, from_ts, ts FROM gaps
    UNION ALL SELECT 'epoll+sched', from_ts, ts FROM gaps WHERE stream IN ('epoll', 'sched')
    UNION ALL SELECT 'syscall+task', from_ts, ts FROM gaps WHERE stream IN ('syscall', 'task')
),
grouped AS (SELECT stream, from_ts, MAX(ts) AS ts FROM joined GROUP BY stream, from_ts)
SELECT
    stream, -- text: which ring, or the sum of two
    from_ts, -- int clock: begin of a gap
    MAX(ts) OVER (PARTITION BY stream ORDER BY from_ts RANGE UNBOUNDED PRECEDING) AS reach -- int clock: latest end so far
FROM grouped
