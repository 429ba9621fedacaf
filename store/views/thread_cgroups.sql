-- one row: a tid and a cgroup that it is known to have been in: at the begin of the recording, or by descent (helper)
-- evidence: none
-- needs: task?
-- A fork that was lost takes pairs away and never adds any.
WITH RECURSIVE known AS (
    SELECT tid, cgroup FROM task WHERE cgroup IS NOT NULL
    UNION
    SELECT fork.child_tid, known.cgroup FROM known JOIN sched_process_fork AS fork ON fork.tid = known.tid
)
SELECT
    tid, -- int: thread
    cgroup -- text: cgroup v2 path
FROM known
