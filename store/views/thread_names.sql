-- one row: a (tid, pid, comm) that any event names (helper)
-- evidence: none
-- needs:
WITH mentions AS (
    SELECT seq, ts, tid, pid, comm FROM capture WHERE tid IS NOT NULL
    UNION ALL SELECT seq, ts, target_tid, target_pid, target_comm FROM capture WHERE target_tid IS NOT NULL
    UNION ALL SELECT seq, ts, next_tid, NULL, next_comm FROM sched_switch
    UNION ALL SELECT seq, ts, child_tid, child_pid, child_comm FROM sched_process_fork
)
SELECT
    tid, -- int: thread
    pid, -- int: its process
    comm, -- text: its name
    MIN(seq) AS first_seq, -- int: order of the first event that names it so
    MIN(ts) AS first_ts, -- int clock: and when
    MAX(seq) AS last_seq -- int: order of the last one
FROM mentions
GROUP BY tid, pid, comm
