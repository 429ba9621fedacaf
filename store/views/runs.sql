-- one row: a slice on a CPU, from switch-in to switch-out
-- evidence: stream=sched cpus=own interval=ts..end_ts lane=cpu
-- needs: sched_switch
-- Per CPU, the thread that a switch brings in is the one that the next switch takes out. Where it is not, or where
-- switches were lost in between, the switch-in stands alone: not certain. Idle (tid 0) runs like a thread, on each CPU
-- its own.
WITH slices AS (
    SELECT seq, ts, cpu, next_tid, next_comm, next_prio,
        LEAD(seq) OVER later AS end_seq,
        LEAD(ts) OVER later AS end_ts,
        LEAD(tid) OVER later AS end_tid,
        LEAD(pid) OVER later AS end_pid,
        LEAD(prev_state) OVER later AS end_state
    FROM sched_switch
    WINDOW later AS (PARTITION BY cpu ORDER BY seq)
),
judged AS (
    SELECT slices.*, COALESCE(gap.reach >= ts, FALSE) AS touched
    FROM slices
    ASOF LEFT JOIN (SELECT cpu, from_ts, reach FROM gap_reach_cpu WHERE stream = 'sched') AS gap
        ON gap.cpu = slices.cpu AND COALESCE(slices.end_ts, 9223372036854775807) >= gap.from_ts
),
known AS (SELECT *, NOT touched AND end_tid = next_tid AS certain FROM judged WHERE touched OR end_seq IS NOT NULL)
SELECT
    seq, -- int: order of the switch-in
    ts, -- int clock: when the thread got the CPU
    CASE WHEN certain THEN end_ts - ts END AS dur, -- int? ns: how long it kept it
    CASE WHEN certain THEN end_ts END AS end_ts, -- int? clock: when it left
    cpu, -- int: the CPU
    next_tid AS tid, -- int: thread that ran; 0 is idle
    CASE WHEN certain THEN end_pid END AS pid, -- int?: its process
    next_comm AS comm, -- text: its name when it got the CPU
    next_prio AS prio, -- int: its kernel priority
    CASE WHEN certain THEN end_state END AS end_state, -- text?: state it left in: R or R+ preempted, S, D, …
    CASE WHEN certain THEN end_seq END AS end_seq, -- int?: order of the switch-out
    certain -- bool: no lost event can change the row
FROM known
