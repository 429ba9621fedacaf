-- one row: a call of a kernel function
-- evidence: stream=function cpus=all interval=ts..end_ts
-- needs: function_call
-- A thread may go to another CPU in the middle of a call, so a gap on any CPU counts. A call of function_graph whose
-- end was not seen is left out, as it is not over; the function tracer shows no ends at all. Where the text has no
-- times, all of it is at 0.
WITH spans AS (
    SELECT seq, ts, cpu, tid, pid, comm, "function", dur, depth, ret, parent FROM function_call
),
judged AS (
    SELECT spans.*, COALESCE(gap.reach >= spans.ts, FALSE) AS touched
    FROM spans
    ASOF LEFT JOIN (SELECT from_ts, reach FROM gap_reach WHERE stream = 'function') AS gap
        ON CASE WHEN depth IS NULL THEN spans.ts ELSE COALESCE(spans.ts + dur, 9223372036854775807) END >= gap.from_ts
),
known AS (SELECT *, NOT touched AND "function" IS NOT NULL AS certain FROM judged WHERE touched OR dur IS NOT NULL OR depth IS NULL)
SELECT
    seq, -- int: order of the call
    NULLIF(ts, 0) AS ts, -- int clock: when it began; null: the trace has no times
    CASE WHEN certain THEN dur END AS dur, -- int? ns: how long it lasted, with all that it called; null: not known
    CASE WHEN certain THEN NULLIF(ts, 0) + dur END AS end_ts, -- int? clock: when it ended
    cpu, -- int: the CPU it began on
    tid, -- int: thread that called; 0 is idle
    pid, -- int: its process
    comm, -- text: its name, as far as it was printed (function_graph: 7 characters)
    "function", -- text?: the function; null: only its end was seen
    parent, -- text: the function that called it, of the function tracer
    depth, -- int: calls around it; null: not known
    CASE WHEN certain THEN ret END AS ret, -- int?: value it returned, where it was recorded (funcgraph-retval)
    certain -- bool: no lost event can change the row
FROM known
