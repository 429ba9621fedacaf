-- one row: one run of a softirq handler
-- evidence: stream=irq cpus=own interval=ts..end_ts
-- needs: softirq_entry+softirq_exit
-- Softirqs do not nest in each other: the next softirq event of that CPU must be the exit of the same vector, or an
-- event is missing and there is no row.
WITH steps AS (
    SELECT seq, ts, cpu, vec, tid, pid, comm, TRUE AS begins FROM softirq_entry
    UNION ALL SELECT seq, ts, cpu, vec, NULL, NULL, NULL, FALSE FROM softirq_exit
),
spans AS (
    SELECT *, LEAD(seq) OVER later AS end_seq, LEAD(ts) OVER later AS end_ts,
        LEAD(vec) OVER later AS end_vec, LEAD(begins) OVER later AS end_begins
    FROM steps
    WINDOW later AS (PARTITION BY cpu ORDER BY seq)
)
SELECT
    seq, -- int: order of the entry
    ts, -- int clock: when the handler began
    end_ts - ts AS dur, -- int ns: how long it ran
    end_ts, -- int clock: when it ended
    spans.cpu, -- int: the CPU
    spans.vec, -- int: softirq vector number
    names.name, -- text: its name, such as NET_RX
    tid, -- int: thread that was current: interrupted, or ksoftirqd/N; 0 is idle
    pid, -- int: its process
    comm, -- text: its name
    end_seq, -- int: order of the exit
    COALESCE(gap.reach < ts, TRUE) AS certain -- bool: no lost event can change the row
FROM spans
LEFT JOIN softirq_names AS names ON names.vec = spans.vec
ASOF LEFT JOIN (SELECT cpu, from_ts, reach FROM gap_reach_cpu WHERE stream = 'irq') AS gap
    ON gap.cpu = spans.cpu AND spans.end_ts >= gap.from_ts
WHERE begins AND NOT end_begins AND end_vec = spans.vec
