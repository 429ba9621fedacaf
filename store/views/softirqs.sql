-- one row: one run of a softirq handler
-- evidence: stream=irq cpus=own interval=ts..end_ts lane=cpu
-- needs: softirq_entry+softirq_exit
-- Softirqs do not nest in each other: the next softirq event of that CPU must be the exit of the same vector. Where it
-- is not, or where events were lost in between, the entry stands alone: not certain.
WITH steps AS (
    SELECT seq, ts, cpu, vec, tid, pid, comm, TRUE AS begins FROM softirq_entry
    UNION ALL SELECT seq, ts, cpu, vec, NULL, NULL, NULL, FALSE FROM softirq_exit
),
spans AS (
    SELECT *, LEAD(seq) OVER later AS end_seq, LEAD(ts) OVER later AS end_ts,
        LEAD(vec) OVER later AS end_vec, LEAD(begins) OVER later AS end_begins
    FROM steps
    WINDOW later AS (PARTITION BY cpu ORDER BY seq)
),
judged AS (
    SELECT spans.*, COALESCE(gap.reach >= ts, FALSE) AS touched
    FROM (SELECT * FROM spans WHERE begins) AS spans
    ASOF LEFT JOIN (SELECT cpu, from_ts, reach FROM gap_reach_cpu WHERE stream = 'irq') AS gap
        ON gap.cpu = spans.cpu AND COALESCE(spans.end_ts, 9223372036854775807) >= gap.from_ts
),
known AS (
    SELECT *, NOT touched AND NOT end_begins AND end_vec = vec AS certain
    FROM judged WHERE touched OR end_seq IS NOT NULL
)
SELECT
    seq, -- int: order of the entry
    ts, -- int clock: when the handler began
    CASE WHEN certain THEN end_ts - ts END AS dur, -- int? ns: how long it ran
    CASE WHEN certain THEN end_ts END AS end_ts, -- int? clock: when it ended
    cpu, -- int: the CPU
    known.vec, -- int: softirq vector number
    names.name, -- text: its name, such as NET_RX
    tid, -- int: thread that was current: interrupted, or ksoftirqd/N; 0 is idle
    pid, -- int: its process
    comm, -- text: its name
    CASE WHEN certain THEN end_seq END AS end_seq, -- int?: order of the exit
    certain -- bool: no lost event can change the row
FROM known
LEFT JOIN softirq_names AS names ON names.vec = known.vec
