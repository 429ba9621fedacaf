-- one row: how far the gaps reach that began at from_ts or before, per CPU (helper)
-- evidence: none
-- needs:
WITH joined AS (
    SELECT stream, cpu, from_ts, ts FROM gaps
    UNION ALL SELECT 'sched+irq', cpu, from_ts, ts FROM gaps WHERE stream IN ('sched', 'irq')
),
grouped AS (SELECT stream, cpu, from_ts, MAX(ts) AS ts FROM joined GROUP BY stream, cpu, from_ts)
SELECT
    stream, -- text: which ring, or the sum of two
    cpu, -- int: CPU
    from_ts, -- int clock: begin of a gap
    MAX(ts) OVER (PARTITION BY stream, cpu ORDER BY from_ts RANGE UNBOUNDED PRECEDING) AS reach -- int clock: latest end so far
FROM grouped
