-- one row: a tid and the process it belonged to last (helper)
-- evidence: none
-- needs:
SELECT
    tid, -- int: thread
    MAX_BY(pid, last_seq) AS pid -- int: its process
FROM thread_names
WHERE pid IS NOT NULL
GROUP BY tid
