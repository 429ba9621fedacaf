-- one row: one run of a hard interrupt's handler, of a timer's function, or of a CPU's own interrupt
-- evidence: stream=irq cpus=own interval=ts..end_ts
-- needs: irq_handler_entry+irq_handler_exit|hrtimer_expire_entry+hrtimer_expire_exit|irq_vector_entry+irq_vector_exit
-- They nest in each other, but none in itself: on a CPU, the next event with the same key must be the exit. Where it is
-- not, or where events were lost in between, the entry stands alone: not certain.
WITH steps AS (
    SELECT seq, ts, cpu, 'handler' AS source, CAST(irq AS BIGINT) AS key, irq AS number, irq_name AS name, tid, pid, comm,
        TRUE AS begins
    FROM irq_handler_entry
    UNION ALL SELECT seq, ts, cpu, 'handler', irq, NULL, NULL, NULL, NULL, NULL, FALSE FROM irq_handler_exit
    UNION ALL SELECT seq, ts, cpu, 'hrtimer', hrtimer, NULL, "function", tid, pid, comm, TRUE FROM hrtimer_expire_entry
    UNION ALL SELECT seq, ts, cpu, 'hrtimer', hrtimer, NULL, NULL, NULL, NULL, NULL, FALSE FROM hrtimer_expire_exit
    UNION ALL SELECT seq, ts, cpu, 'vector', vec, vec, vector, tid, pid, comm, TRUE FROM irq_vector_entry
    UNION ALL SELECT seq, ts, cpu, 'vector', vec, NULL, NULL, NULL, NULL, NULL, FALSE FROM irq_vector_exit
),
spans AS (
    SELECT *, LEAD(seq) OVER later AS end_seq, LEAD(ts) OVER later AS end_ts, LEAD(begins) OVER later AS end_begins
    FROM steps
    WINDOW later AS (PARTITION BY cpu, source, key ORDER BY seq)
),
judged AS (
    SELECT spans.*, COALESCE(gap.reach >= ts, FALSE) AS touched
    FROM (SELECT * FROM spans WHERE begins) AS spans
    ASOF LEFT JOIN (SELECT cpu, from_ts, reach FROM gap_reach_cpu WHERE stream = 'irq') AS gap
        ON gap.cpu = spans.cpu AND COALESCE(spans.end_ts, 9223372036854775807) >= gap.from_ts
),
known AS (SELECT *, NOT touched AND NOT end_begins AS certain FROM judged WHERE touched OR end_seq IS NOT NULL)
SELECT
    seq, -- int: order of the entry
    ts, -- int clock: when the handler began
    CASE WHEN certain THEN end_ts - ts END AS dur, -- int? ns: how long it ran
    CASE WHEN certain THEN end_ts END AS end_ts, -- int? clock: when it ended
    cpu, -- int: the CPU
    source, -- text: handler (a device's), hrtimer (a timer's function), vector (a CPU's own: local timer, IPI)
    number AS irq, -- int: interrupt number, or vector number where source is vector
    name, -- text: name of the handler, function or vector
    tid, -- int: thread that was interrupted; 0 is idle
    pid, -- int: its process
    comm, -- text: its name
    CASE WHEN certain THEN end_seq END AS end_seq, -- int?: order of the exit
    certain -- bool: no lost event can change the row
FROM known
