-- one row: a gap, declared or found where two switches of a CPU do not follow each other (helper)
-- evidence: none
-- needs: sched_switch
-- In the place of the relation lost, where whoever wrote the capture did not compare the switches. A break within a
-- declared gap is what that gap says; one that only begins where a gap ends, or the other way round, is another loss.
WITH declared AS (
    SELECT seq, ts, cpu, stream, from_ts, lost_count, cause FROM capture WHERE kind = 'lost'
),
spans AS (
    SELECT cpus.cpu, COALESCE(declared.from_ts, 0) AS from_ts, MAX(declared.ts) AS ts
    FROM declared JOIN cpus ON declared.cpu IS NULL OR declared.cpu = cpus.cpu
    WHERE declared.stream IS NULL OR declared.stream = 'sched'
    GROUP BY cpus.cpu, COALESCE(declared.from_ts, 0)
),
reaches AS (
    SELECT cpu, from_ts, MAX(ts) OVER (PARTITION BY cpu ORDER BY from_ts RANGE UNBOUNDED PRECEDING) AS reach FROM spans
),
pairs AS (
    SELECT cpu, ts AS from_ts, next_tid, LEAD(seq) OVER later AS seq, LEAD(ts) OVER later AS ts, LEAD(tid) OVER later AS tid
    FROM sched_switch
    WINDOW later AS (PARTITION BY cpu ORDER BY seq)
),
everything AS (
    SELECT seq, ts, cpu, stream, from_ts, lost_count, cause FROM declared
    UNION ALL
    SELECT seq, ts, pairs.cpu, 'sched', pairs.from_ts, NULL, 'undeclared'
    FROM (SELECT * FROM pairs WHERE tid <> next_tid) AS pairs
    ASOF LEFT JOIN reaches ON reaches.cpu = pairs.cpu AND pairs.ts > reaches.from_ts
    WHERE COALESCE(reaches.reach <= pairs.from_ts, TRUE)
)
SELECT
    seq, -- int: order of the gap's end
    ts, -- int clock: first event after the gap
    cpu, -- int: CPU; null: all
    stream, -- text: which ring
    from_ts, -- int clock: last event before the gap
    ts - from_ts AS dur, -- int ns: how long the gap can be at most
    lost_count, -- int?: events lost; null: not known
    cause -- text: why: ring_full, tail, nested, busy, killed, not_attached, map_full, reader, sampled, filtered, undeclared
FROM everything
