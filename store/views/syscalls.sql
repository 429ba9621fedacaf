-- one row: a system call that is over
-- evidence: stream=syscall,task cpus=all interval=ts..end_ts lane=tid
-- needs: sys_enter+sys_exit+sched_process_exit+sched_process_exec
-- A thread may go to another CPU in the middle of a call, so a gap on any CPU counts. Its next step must be the return
-- of the same call (rt_sigreturn and calls changed by ptrace return with number -1), or its end: exit, or a signal that
-- killed it in the call. Where it is not (exec by another thread than the first, which takes that one's id), or where
-- events were lost in between, the call stands alone: not certain. A new thread's return from the call that made it has
-- no begin in that thread, and is no row.
WITH steps AS (
    SELECT seq, ts, cpu, tid, pid, comm, id, compat, NULL AS ret, 'enter' AS what FROM sys_enter
    UNION ALL SELECT seq, ts, cpu, tid, NULL, NULL, id, NULL, ret, 'return' FROM sys_exit
    UNION ALL SELECT seq, ts, cpu, tid, NULL, NULL, NULL, NULL, NULL, 'end' FROM sched_process_exit
    UNION ALL SELECT seq, ts, cpu, old_tid, NULL, NULL, NULL, NULL, NULL, 'moved' FROM sched_process_exec
    WHERE old_tid <> tid
),
spans AS (
    SELECT *, LEAD(seq) OVER later AS end_seq, LEAD(ts) OVER later AS end_ts, LEAD(cpu) OVER later AS end_cpu,
        LEAD(id) OVER later AS end_id, LEAD(ret) OVER later AS end_ret, LEAD(what) OVER later AS end_what
    FROM steps
    WINDOW later AS (PARTITION BY tid ORDER BY seq)
),
judged AS (
    SELECT spans.*, COALESCE(gap.reach >= spans.ts, FALSE) AS touched
    FROM (SELECT * FROM spans WHERE what = 'enter') AS spans
    ASOF LEFT JOIN (SELECT from_ts, reach FROM gap_reach WHERE stream = 'syscall+task') AS gap
        ON COALESCE(spans.end_ts, 9223372036854775807) >= gap.from_ts
),
known AS (
    SELECT *, end_what = 'return' AND end_id IN (id, -1) AS returned,
        NOT touched AND (returned OR end_what = 'end') AS certain
    FROM judged WHERE touched OR end_seq IS NOT NULL
),
shown AS (
    SELECT *, CASE WHEN certain AND returned AND end_id = id THEN end_ret END AS sure_ret FROM known
)
SELECT
    seq, -- int: order of the begin
    ts, -- int clock: when the call began
    CASE WHEN certain AND returned THEN end_ts - ts END AS dur, -- int? ns: how long it took, asleep or not; null: it did not return
    CASE WHEN certain THEN end_ts END AS end_ts, -- int? clock: when it returned, or the thread ended
    cpu, -- int: the CPU it began on
    tid, -- int: thread that called
    pid, -- int: its process
    comm, -- text: its name when the call began
    shown.id, -- int: system call number
    CASE WHEN compat = 0 THEN COALESCE(names.name, CAST(shown.id AS VARCHAR)) ELSE 'compat:' || shown.id END AS name, -- text: its name; the number where that has none, compat:N for number N of the 32-bit calls
    sure_ret AS ret, -- int?: return value; null: it did not return, or (rt_sigreturn) the kernel does not tell
    CASE WHEN sure_ret < 0 AND sure_ret >= -4095 THEN -sure_ret END AS error, -- int?: errno of a failed call, such as 2 (ENOENT); 512 to 516: a signal interrupted it
    CASE WHEN certain THEN end_cpu END AS end_cpu, -- int?: the CPU it returned on
    CASE WHEN certain THEN end_seq END AS end_seq, -- int?: order of the return
    certain -- bool: no lost event can change the row
FROM shown
LEFT JOIN syscall_names AS names ON names.id = shown.id
