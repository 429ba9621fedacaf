-- one row: a thread, from its creation to its end as far as the capture tells; a tid used again is another thread
-- evidence: stream=all cpus=all interval=all rows=2 shifting
-- needs: task?
-- Any event may be the one that names a thread, so any that was lost may be missed (and each names up to two): with a
-- gap no row is certain, and what is not the tid is only what the events that are left tell.
WITH steps AS (
    SELECT seq, ts, child_tid AS tid, tid AS parent_tid, 'fork' AS what FROM sched_process_fork
    UNION ALL SELECT seq, ts, target_tid, tid, 'new' FROM sched_wakeup_new
    UNION ALL SELECT seq, ts, tid, NULL, 'exit' FROM sched_process_exit
),
ordered AS (
    SELECT *, LAG(what) OVER (PARTITION BY tid ORDER BY seq) AS prev_what FROM steps
),
births AS (
    -- A new thread is first forked, then put in a run queue: one birth, whichever of the two was recorded.
    SELECT tid, seq, ts, parent_tid FROM ordered
    WHERE what = 'fork' OR (what = 'new' AND prev_what IS DISTINCT FROM 'fork')
),
elders AS (
    SELECT name.tid, CAST(-1 AS BIGINT) AS seq, CAST(NULL AS BIGINT) AS ts, CAST(NULL AS INTEGER) AS parent_tid
    FROM thread_names AS name
    LEFT JOIN (SELECT tid, MIN(seq) AS seq FROM births GROUP BY tid) AS born ON born.tid = name.tid
    GROUP BY name.tid
    HAVING COALESCE(MIN(name.first_seq) < MIN(born.seq), TRUE)
),
lives AS (
    SELECT tid, seq, ts, parent_tid, COALESCE(LEAD(seq) OVER (PARTITION BY tid ORDER BY seq), 9223372036854775807) AS until_seq
    FROM (SELECT * FROM births UNION ALL SELECT * FROM elders)
),
named AS (
    SELECT life.tid, life.seq, life.ts, life.parent_tid, life.until_seq,
        GREATEST(MIN(name.first_seq), life.seq) AS first_seq,
        MIN(name.first_ts) AS first_ts,
        -- Names that were still used by the next thread of that tid are equally late: the one that came last, always.
        MAX_BY(name.comm, ROW(LEAST(name.last_seq, life.until_seq), name.first_seq, name.comm))
            FILTER (WHERE name.comm IS NOT NULL) AS comm,
        MAX_BY(name.pid, ROW(LEAST(name.last_seq, life.until_seq), name.first_seq, name.pid))
            FILTER (WHERE name.pid IS NOT NULL) AS pid
    FROM lives AS life
    JOIN thread_names AS name ON name.tid = life.tid AND name.first_seq < life.until_seq AND name.last_seq >= life.seq
    GROUP BY life.tid, life.seq, life.ts, life.parent_tid, life.until_seq
),
ends AS (
    SELECT named.tid, named.seq, MIN(step.ts) AS end_ts
    FROM named JOIN steps AS step
        ON step.tid = named.tid AND step.what = 'exit' AND step.seq > named.seq AND step.seq < named.until_seq
    GROUP BY named.tid, named.seq
),
snapshot AS (
    SELECT tid, MAX_BY(start_ts, seq) AS start_ts, MAX_BY(cgroup, seq) AS cgroup FROM task GROUP BY tid
)
SELECT
    named.first_seq AS seq, -- int?: order of the first event that names it
    COALESCE(named.ts, named.first_ts) AS ts, -- int? clock: when that was
    CAST(NULL AS SMALLINT) AS cpu, -- int: always null: a thread is on no CPU in particular
    named.tid, -- int: thread; 0 is idle on all CPUs
    named.pid, -- int?: its process
    CASE WHEN named.tid = 0 THEN 'swapper' ELSE named.comm END AS comm, -- text?: the last name it had
    COALESCE(named.ts, own.start_ts) AS start_ts, -- int? clock: when it was created; null: before the recording, not known when
    ends.end_ts, -- int? clock: when it ended; null: not in the recording
    COALESCE(own.cgroup, parent.cgroup) AS cgroup, -- text?: its cgroup at the start of the recording, or its parent's
    NOT EXISTS (SELECT 1 FROM lost) AS certain -- bool: no lost event can change the row
FROM named
LEFT JOIN ends ON ends.tid = named.tid AND ends.seq = named.seq
LEFT JOIN snapshot AS own ON own.tid = named.tid AND named.seq = -1
LEFT JOIN snapshot AS parent ON parent.tid = named.parent_tid
